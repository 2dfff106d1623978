//! CONCATENATION of activations of one scale, as TFLM has it.

use super::reshape::same_scale;
use crate::import::tflite::call::Call;
use crate::import::tflite::network::Activation;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;
use crate::model::{Concat, ConcatInput, Op, TensorId};
use qmend_shared::image::MAX_CONCAT_INPUTS;

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::CONCATENATION)?;
    let count = call.operator.inputs.len();
    if count == 0 || count > MAX_CONCAT_INPUTS {
        return Err(Problem::unsupported(
            format!("it joins {count} inputs"),
            format!("join 1 to {MAX_CONCAT_INPUTS} at a time"),
        ));
    }
    let inputs: Vec<Activation> = (0..count)
        .map(|k| call.activation(k))
        .collect::<Result<_, _>>()?;
    let y = call.output()?;
    if options.i8(1)? != 0 {
        return Err(Problem::unsupported(
            "it has a fused activation",
            "put the activation into an operator of its own",
        ));
    }
    let axis = concatenation_axis(options.i32(0, 0)?, y.rank)?;
    let mut expected = inputs[0].shape;
    expected[axis] = 0;
    for x in &inputs {
        same_scale(x, &y)?;
        let fits = x.rank == y.rank && (0..3).all(|i| i == axis || x.shape[i] == y.shape[i]);
        if !fits {
            return Err(Problem::Damaged(format!(
                "{:?} is joined into {:?} along axis {axis}",
                x.shape, y.shape
            )));
        }
        expected[axis] += x.shape[axis];
    }
    if expected != y.shape {
        return Err(Problem::Damaged(format!(
            "its inputs make {expected:?}, not {:?}",
            y.shape
        )));
    }
    let ids: Vec<TensorId> = inputs.iter().map(|x| x.id).collect();
    call.push(
        Op::Concat(Concat {
            axis,
            inputs: vec![ConcatInput::Copy; count],
        }),
        &ids,
        y.id,
    );
    Ok(())
}

/// An axis of the file as one of height, width and channels.
pub(in crate::import::tflite) fn concatenation_axis(
    axis: i32,
    rank: usize,
) -> Result<usize, Problem> {
    let positive = if axis < 0 {
        axis as i64 + rank as i64
    } else {
        axis as i64
    };
    if !(0..rank as i64).contains(&positive) {
        return Err(Problem::Damaged(format!(
            "axis {axis} is none of its output's {rank}"
        )));
    }
    match (positive as usize + 3).checked_sub(rank) {
        // Only four axes have a batch among them.
        Some(i) => Ok(i),
        _ => Err(Problem::unsupported(
            "it joins along the batch",
            "join along another axis",
        )),
    }
}
