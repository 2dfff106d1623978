//! CONV_2D: weights `[out_c][kh][kw][in_c / groups]`.

use super::filter::Filter;
use crate::graph::Pads;
use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::Window;
use crate::import::tflite::network::Activation;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;
use crate::model::{Conv2d, Op};

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::CONV_2D)?;
    let x = call.activation(0)?;
    let filter = Filter::new(call, 4, 0)?;
    let [out_c, kh, kw, per_group] = filter.shape[..] else {
        return Err(Problem::Damaged(
            "its weights have not four axes".to_string(),
        ));
    };
    let window = Window::new(&options, [kh, kw], Some([4, 5]))?;
    let y = call.output()?;
    let groups = x.shape[2] / per_group;
    if groups * per_group != x.shape[2] || out_c % groups != 0 {
        return Err(Problem::Damaged(format!(
            "filters over {per_group} channels with {out_c} outputs do not fit an input of {} channels",
            x.shape[2]
        )));
    }
    let pads = pads(&window, &x, &y, out_c)?;
    let multipliers = filter.multipliers(&x, &y, out_c)?;
    let linear = filter.linear(call, multipliers, options.i8(3)?, &y)?;
    let op = Conv2d {
        kernel: [kh, kw],
        stride: window.stride,
        dilation: window.dilation,
        pads,
        groups,
        linear,
    };
    call.push(Op::Conv2d(op), &[x.id], y.id);
    Ok(())
}

/// Padding of a window, once the output has the shape that follows from it.
pub(super) fn pads(
    window: &Window,
    x: &Activation,
    y: &Activation,
    channels: usize,
) -> Result<Pads, Problem> {
    let [rows, columns] = [window.slide(0, x.shape[0])?, window.slide(1, x.shape[1])?];
    let expected = [rows.output, columns.output, channels];
    if y.shape != expected {
        return Err(Problem::Damaged(format!(
            "an input of {:?} gives an output of {expected:?}, not {:?}",
            x.shape, y.shape
        )));
    }
    Ok(Pads {
        top: rows.before,
        left: columns.before,
        bottom: rows.after,
        right: columns.after,
    })
}
