//! MEAN over height and width.
//!
//! The multiplier is [`mean_multiplier`]'s, as TFLM makes it.

use crate::import::tflite::call::Call;
use crate::import::tflite::problem::Problem;
use crate::model::Op;
use crate::quantize::mean_multiplier;

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let x = call.activation(0)?;
    let axes = call.constant(1)?.integers()?;
    let y = call.output()?;
    let reduced = reduced_axes(&axes, x.rank)?;
    // The three model axes are the last of the file's.
    let is_reduced = |i: usize| {
        (i + x.rank)
            .checked_sub(3)
            .is_some_and(|axis| reduced[axis])
    };
    let wanted = |i: usize| i < 2;
    if (0..3).any(|i| x.shape[i] > 1 && is_reduced(i) != wanted(i)) || y.shape != [1, 1, x.shape[2]]
    {
        return Err(Problem::unsupported(
            format!("it takes the mean of {:?} over axes {axes:?}", x.shape),
            "take means over height and width together",
        ));
    }
    let count = x.shape[0] * x.shape[1];
    let multiplier = mean_multiplier(x.scale, y.scale, count).ok_or_else(|| {
        Problem::unsupported(
            format!(
                "a mean over {count} elements with scales {:e} and {:e} has no multiplier",
                x.scale, y.scale
            ),
            "quantize the model again with calibration data that reaches this layer",
        )
    })?;
    call.push(Op::Mean { multiplier }, &[x.id], y.id);
    Ok(())
}

/// Which of the file's axes (of at most four) are reduced; negative ones count from the end.
pub(in crate::import::tflite) fn reduced_axes(
    axes: &[i32],
    rank: usize,
) -> Result<[bool; 4], Problem> {
    let mut reduced = [false; 4];
    for &axis in axes {
        let positive = if axis < 0 {
            axis as i64 + rank as i64
        } else {
            axis as i64
        };
        match usize::try_from(positive) {
            Ok(axis) if axis < rank => reduced[axis] = true,
            _ => {
                return Err(Problem::Damaged(format!(
                    "axis {axis} is none of its input's {rank}"
                )));
            }
        }
    }
    Ok(reduced)
}
