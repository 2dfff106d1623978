//! AVERAGE_POOL_2D and MAX_POOL_2D: scale and zero point stay.

use super::conv2d::pads;
use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::{Window, activation_range};
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;
use crate::model::{Op, Pool};

pub(super) fn average(call: &mut Call) -> Result<(), Problem> {
    convert(call, Op::AveragePool)
}

pub(super) fn max(call: &mut Call) -> Result<(), Problem> {
    convert(call, Op::MaxPool)
}

fn convert(call: &mut Call, op: fn(Pool) -> Op) -> Result<(), Problem> {
    let options = call.operator.options(options::POOL_2D)?;
    let x = call.activation(0)?;
    let side = |field| -> Result<usize, Problem> { Ok(options.i32(field, 0)?.max(0) as usize) };
    let window = Window::new(&options, [side(4)?, side(3)?], None)?;
    let y = call.output()?;
    // TFLM's own tolerance.
    if (x.scale - y.scale).abs() as f64 > 1e-6 || x.zero_point != y.zero_point {
        return Err(Problem::unsupported(
            "input and output have different scales or zero points",
            "convert with the current TFLite converter, which keeps them the same",
        ));
    }
    let pads = pads(&window, &x, &y, x.shape[2])?;
    let (act_min, act_max) = activation_range(options.i8(5)?, y.scale, y.zero_point)?;
    let pool = Pool {
        kernel: window.kernel,
        stride: window.stride,
        dilation: [1, 1],
        pads,
        act_min,
        act_max,
    };
    call.push(op(pool), &[x.id], y.id);
    Ok(())
}
