//! Element-wise functions as tables.

use super::{hard_swish, leaky_relu, logistic, relu, tanh};
use crate::graph::Activation;
use crate::import::tflite::call::Call;
use crate::import::tflite::problem::Problem;
use crate::model::{Op, Rounding};
use crate::quantize::TensorScale;

/// The output of each of the 256 inputs.
pub(crate) type Table = Box<[i8; 256]>;

/// The table that the int8 kernel of a function has between two tensors; `None` where it has no
/// such kernel, or none at these scales.
pub(crate) fn kernel_table(
    rounding: Rounding,
    function: Activation,
    x: TensorScale,
    y: TensorScale,
) -> Option<Table> {
    let table = match function {
        Activation::Relu => relu::table(rounding, x, y),
        Activation::LeakyRelu { alpha } => leaky_relu::table(rounding, alpha, x, y),
        Activation::Sigmoid => logistic::table(rounding, x, y),
        Activation::Tanh => tanh::table(rounding, x, y),
        Activation::HardSwish => hard_swish::table(rounding, x, y),
        Activation::Identity | Activation::Clip { .. } | Activation::HardSigmoid { .. } => {
            return None;
        }
    };
    table.ok()
}

/// The table of a function.
pub(super) fn tabulated(f: impl Fn(i8) -> i8) -> Table {
    Box::new(std::array::from_fn(|i| f((i as i32 - 128) as i8)))
}

/// Adds the table of a function of one int8, made for the scales of input and output.
pub(super) fn push(
    call: &mut Call,
    table: impl FnOnce(Rounding, TensorScale, TensorScale) -> Result<Table, Problem>,
) -> Result<(), Problem> {
    let x = call.activation(0)?;
    let y = call.output()?;
    let of = |scale, zero_point| TensorScale { scale, zero_point };
    let rounding = call.network.rounding;
    let table = table(
        rounding,
        of(x.scale, x.zero_point),
        of(y.scale, y.zero_point),
    )?;
    if x.shape != y.shape {
        return Err(Problem::Damaged(format!(
            "its input is {:?}, its output {:?}",
            x.shape, y.shape
        )));
    }
    call.push(Op::Lut { table }, &[x.id], y.id);
    Ok(())
}

/// Refuses an output of another scale and zero point than the function's kernel writes.
pub(super) fn require_output(y: TensorScale, scale: f32, zero_point: i8) -> Result<(), Problem> {
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
