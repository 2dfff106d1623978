//! AVERAGE_POOL_2D, MAX_POOL_2D, and MEAN over height and width.

use super::fused;
use super::linear::pads;
use crate::graph::{Activation, Op, Pool};
use crate::import::tflite::fixed_point::Window;
use crate::import::tflite::float::network::Call;
use crate::import::tflite::ops::reduced_axes;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;

fn pool(call: &mut Call, op: fn(Pool) -> Op) -> Result<(), Problem> {
    let options = call.operator.options(options::POOL_2D)?;
    let x = call.value(0)?;
    let side = |field| -> Result<usize, Problem> { Ok(options.i32(field, 0)?.max(0) as usize) };
    let window = Window::new(&options, [side(4)?, side(3)?], None)?;
    let pool = Pool {
        kernel: window.kernel,
        stride: window.stride,
        dilation: [1, 1],
        pads: pads(&window, &x)?,
    };
    let fused = fused(options.i8(5)?)?;
    call.emit(op(pool), &[x.id], fused)
}

pub(super) fn average(call: &mut Call) -> Result<(), Problem> {
    pool(call, Op::AveragePool)
}

pub(super) fn max(call: &mut Call) -> Result<(), Problem> {
    pool(call, Op::MaxPool)
}

pub(super) fn mean(call: &mut Call) -> Result<(), Problem> {
    let x = call.value(0)?;
    let axes = call.constant(1)?.integers()?;
    let reduced = reduced_axes(&axes, x.rank)?;
    // The three axes of the graph are the last of the file's.
    let is_reduced = |i: usize| {
        (i + x.rank)
            .checked_sub(3)
            .is_some_and(|axis| reduced[axis])
    };
    if (0..3).any(|i| x.shape[i] > 1 && is_reduced(i) != (i < 2)) {
        return Err(Problem::unsupported(
            format!("it takes the mean of {:?} over axes {axes:?}", x.shape),
            "take means over height and width together",
        ));
    }
    call.emit(Op::GlobalAveragePool, &[x.id], Activation::Identity)
}
