//! RESHAPE, SQUEEZE and EXPAND_DIMS: the same integers under the shape that the output has in the
//! file (a second operand says the same and is not read).

use crate::import::tflite::call::Call;
use crate::import::tflite::network::Activation;
use crate::import::tflite::problem::Problem;
use crate::model::Op;

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let x = call.activation(0)?;
    let y = call.output()?;
    if x.elements() != y.elements() {
        return Err(Problem::Damaged(format!(
            "{:?} has not as many elements as {:?}",
            x.shape, y.shape
        )));
    }
    same_scale(&x, &y)?;
    call.push(Op::Reshape, &[x.id], y.id);
    Ok(())
}

/// An operator that moves integers about cannot change what they mean.
pub(super) fn same_scale(x: &Activation, y: &Activation) -> Result<(), Problem> {
    if x.same_scale(y) {
        return Ok(());
    }
    Err(Problem::unsupported(
        "it copies integers from one scale or zero point to another, so that they stand for other numbers",
        "convert with the current TFLite converter, which keeps them the same",
    ))
}
