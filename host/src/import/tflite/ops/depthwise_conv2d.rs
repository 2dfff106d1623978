//! DEPTHWISE_CONV_2D: weights `[1][kh][kw][in_c * multiplier]`; output channel `c` looks at input
//! channel `c / multiplier`, as a grouped convolution of `in_c` groups.

use super::conv2d::pads;
use super::filter::Filter;
use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::Window;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;
use crate::model::{Conv2d, Op};

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::DEPTHWISE_CONV_2D)?;
    let x = call.activation(0)?;
    let mut filter = Filter::new(call, 4, 3)?;
    let [one, kh, kw, out_c] = filter.shape[..] else {
        return Err(Problem::Damaged(
            "its weights have not four axes".to_string(),
        ));
    };
    let window = Window::new(&options, [kh, kw], Some([5, 6]))?;
    let y = call.output()?;
    let groups = x.shape[2];
    if one != 1 || out_c % groups != 0 {
        return Err(Problem::Damaged(format!(
            "weights of shape {:?} do not fit an input of {groups} channels",
            filter.shape
        )));
    }
    // TFLM takes the multiplier from the options; a file in which the weights' shape says
    // something else would read beyond them there.
    let multiplier = options.i32(3, 0)?;
    if multiplier != (out_c / groups) as i32 {
        return Err(Problem::Damaged(format!(
            "its depth multiplier is {multiplier}, but {out_c} filters over {groups} channels make {}",
            out_c / groups
        )));
    }
    let pads = pads(&window, &x, &y, out_c)?;
    let multipliers = filter.multipliers(&x, &y, out_c)?;
    filter.weights = by_channel(&filter.weights, out_c);
    let linear = filter.linear(call, multipliers, options.i8(4)?, &y)?;
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

/// `[taps][out_c]` to `[out_c][taps]`.
fn by_channel(weights: &[i8], out_c: usize) -> Vec<i8> {
    (0..out_c)
        .flat_map(|c| weights.iter().skip(c).step_by(out_c).copied())
        .collect()
}
