//! PAD by the zero point, PADV2 by a constant.

use super::reshape::same_scale;
use crate::import::tflite::call::Call;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::ElementType;
use crate::model::{Op, Pad};

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let x = call.activation(0)?;
    let paddings = call.constant(1)?.integers()?;
    let value = match call.operand(2) {
        Some(_) => Some(border(call)?),
        None => None,
    };
    let y = call.output()?;
    same_scale(&x, &y)?;
    let (before, after) = hwc_paddings(&paddings, x.rank)?;
    let expected: [usize; 3] = std::array::from_fn(|i| {
        x.shape[i]
            .saturating_add(before[i])
            .saturating_add(after[i])
    });
    if y.shape != expected {
        return Err(Problem::Damaged(format!(
            "{:?} padded is {expected:?}, not {:?}",
            x.shape, y.shape
        )));
    }
    let value = value.unwrap_or(y.zero_point);
    call.push(
        Op::Pad(Pad {
            before,
            after,
            value,
        }),
        &[x.id],
        y.id,
    );
    Ok(())
}

/// Paddings of the file's axes (before and after, each) as those of height, width and channels.
pub(in crate::import::tflite) fn hwc_paddings(
    paddings: &[i32],
    rank: usize,
) -> Result<([usize; 3], [usize; 3]), Problem> {
    let (mut before, mut after) = ([0; 3], [0; 3]);
    if paddings.len() != 2 * rank || paddings.iter().any(|p| *p < 0) {
        return Err(Problem::Damaged(format!(
            "paddings {paddings:?} do not fit an input of {} axes",
            rank
        )));
    }
    for (axis, pair) in paddings.as_chunks::<2>().0.iter().enumerate() {
        let pair = pair.map(|p| p as usize);
        match (axis + 3).checked_sub(rank) {
            Some(i) => [before[i], after[i]] = pair,
            None if pair == [0, 0] => {}
            None => {
                return Err(Problem::unsupported(
                    "it pads the batch",
                    "leave the first axis as it is",
                ));
            }
        }
    }
    Ok((before, after))
}

/// The border's integer, in the scale of input and output as TFLM demands.
fn border(call: &mut Call) -> Result<i8, Problem> {
    let x = call.activation(0)?;
    let c = call.constant(2)?;
    let t = &c.tensor;
    let same = t.scales.get(0) == Some(x.scale)
        && t.zero_points.get(0).unwrap_or(0) == x.zero_point as i64;
    match c.bytes {
        [value] if t.element == ElementType::INT8 && same => Ok(*value as i8),
        _ => Err(Problem::unsupported(
            "its border is not one int8 in the scale of the input",
            "convert with the current TFLite converter, which makes it so",
        )),
    }
}
