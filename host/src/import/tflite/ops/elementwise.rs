//! Element-wise functions as tables.

use crate::import::tflite::call::Call;
use crate::import::tflite::network::Activation;
use crate::import::tflite::problem::Problem;
use crate::model::Op;

/// Adds a table of a function of one int8.
pub(super) fn push(
    call: &mut Call,
    x: &Activation,
    y: &Activation,
    f: impl Fn(i8) -> i8,
) -> Result<(), Problem> {
    if x.shape != y.shape {
        return Err(Problem::Damaged(format!(
            "its input is {:?}, its output {:?}",
            x.shape, y.shape
        )));
    }
    let table = Box::new(std::array::from_fn(|i| f((i as i32 - 128) as i8)));
    call.push(Op::Lut { table }, &[x.id], y.id);
    Ok(())
}

/// Refuses an output of another scale and zero point than the function's kernel writes.
pub(super) fn require_output(y: &Activation, scale: f32, zero_point: i8) -> Result<(), Problem> {
    if y.scale == scale && y.zero_point == zero_point {
        return Ok(());
    }
    Err(Problem::unsupported(
        format!(
            "its output has scale {} and zero point {}",
            y.scale, y.zero_point
        ),
        format!(
            "the int8 kernel writes scale {scale} and zero point {zero_point}; convert with the current TFLite converter"
        ),
    ))
}
