//! CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED.

use super::fused;
use crate::graph::{Activation, Conv2d, FullyConnected, Op, Pads, Weights};
use crate::import::tflite::fixed_point::Window;
use crate::import::tflite::float::network::{Call, Value};
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;

const IDENTITY: Activation = Activation::Identity;

/// Padding of a window over a value.
pub(super) fn pads(window: &Window, x: &Value) -> Result<Pads, Problem> {
    let [rows, columns] = [window.slide(0, x.shape[0])?, window.slide(1, x.shape[1])?];
    Ok(Pads {
        top: rows.before,
        left: columns.before,
        bottom: rows.after,
        right: columns.after,
    })
}

/// Operand 1 with so many axes.
fn filter<const AXES: usize>(call: &mut Call) -> Result<([usize; AXES], Vec<f32>), Problem> {
    let (shape, data) = call.floats(1)?;
    match <[usize; AXES]>::try_from(shape) {
        Ok(shape) => Ok((shape, data)),
        Err(shape) => Err(Problem::Damaged(format!(
            "its weights of shape {shape:?} have not {AXES} axes"
        ))),
    }
}

/// Operand 2, or zeros where it is absent.
fn bias(call: &mut Call, out_c: usize) -> Result<Vec<f32>, Problem> {
    if call.operand(2).is_none() {
        call.network.file.spend(out_c)?;
        return Ok(vec![0.0; out_c]);
    }
    let (_, bias) = call.floats(2)?;
    if bias.len() == out_c {
        return Ok(bias);
    }
    Err(Problem::Damaged(format!(
        "its bias has {} elements for {out_c} channels",
        bias.len()
    )))
}

/// Weights `[out_c][kh][kw][in_c / groups]`.
pub(super) fn conv_2d(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::CONV_2D)?;
    let x = call.value(0)?;
    let (shape, data) = filter::<4>(call)?;
    let [out_c, kh, kw, per_group] = shape;
    let window = Window::new(&options, [kh, kw], Some([4, 5]))?;
    let groups = x.shape[2] / per_group;
    if groups == 0 || groups * per_group != x.shape[2] {
        return Err(Problem::Damaged(format!(
            "filters over {per_group} channels do not fit an input of {} channels",
            x.shape[2]
        )));
    }
    let op = Conv2d {
        weights: Weights {
            shape: shape.to_vec(),
            data,
        },
        bias: bias(call, out_c)?,
        stride: window.stride,
        dilation: window.dilation,
        pads: pads(&window, &x)?,
        groups,
        activation: IDENTITY,
    };
    let fused = fused(options.i8(3)?)?;
    call.emit(Op::Conv2d(op), &[x.id], fused)
}

/// Weights `[1][kh][kw][in_c * multiplier]`; output channel `c` looks at input channel
/// `c / multiplier`.
pub(super) fn depthwise_conv_2d(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::DEPTHWISE_CONV_2D)?;
    let x = call.value(0)?;
    let (shape, data) = filter::<4>(call)?;
    let [one, kh, kw, out_c] = shape;
    let window = Window::new(&options, [kh, kw], Some([5, 6]))?;
    let groups = x.shape[2];
    if one != 1 || out_c % groups != 0 {
        return Err(Problem::Damaged(format!(
            "weights of shape {shape:?} do not fit an input of {groups} channels"
        )));
    }
    let by_channel = (0..out_c)
        .flat_map(|c| data.iter().skip(c).step_by(out_c).copied())
        .collect();
    let op = Conv2d {
        weights: Weights {
            shape: vec![out_c, kh, kw, 1],
            data: by_channel,
        },
        bias: bias(call, out_c)?,
        stride: window.stride,
        dilation: window.dilation,
        pads: pads(&window, &x)?,
        groups,
        activation: IDENTITY,
    };
    let fused = fused(options.i8(4)?)?;
    call.emit(Op::Conv2d(op), &[x.id], fused)
}

/// Weights `[out_c][in]` over the whole input, or at every position over its channels (a 1 x 1
/// convolution).
pub(super) fn fully_connected(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::FULLY_CONNECTED)?;
    let x = call.value(0)?;
    let ([out_c, taps], data) = filter::<2>(call)?;
    if options.i8(1)? != 0 {
        return Err(Problem::unsupported(
            "its weights are shuffled",
            "convert for the default CPU kernels",
        ));
    }
    let bias = bias(call, out_c)?;
    let fused = fused(options.i8(0)?)?;
    let (output, _) = call.output_shape()?;
    let rows = x.elements() / taps;
    if rows * taps != x.elements() || output.iter().product::<usize>() != rows * out_c {
        return Err(Problem::Damaged(format!(
            "{out_c} x {taps} weights do not lead from {:?} to {output:?}",
            x.shape
        )));
    }
    if rows == 1 && output == [1, 1, out_c] {
        let op = FullyConnected {
            weights: Weights {
                shape: vec![out_c, taps],
                data,
            },
            bias,
            activation: IDENTITY,
        };
        return call.emit(Op::FullyConnected(op), &[x.id], fused);
    }
    // At each position over the channels; reshapes bring the vectors there.
    let (mut from, mut shape) = (x.id, x.shape);
    if shape[2] != taps || rows == 1 {
        shape = [1, rows, taps];
        from = call.reshaped("vectors", from, shape)?;
    }
    let op = Conv2d {
        weights: Weights {
            shape: vec![out_c, 1, 1, taps],
            data,
        },
        bias,
        stride: [1, 1],
        dilation: [1, 1],
        pads: Pads::default(),
        groups: 1,
        activation: IDENTITY,
    };
    if output == [shape[0], shape[1], out_c] {
        return call.emit(Op::Conv2d(op), &[from], fused);
    }
    let to = call.part("results", Op::Conv2d(op), &[from])?;
    let to = match fused {
        Activation::Identity => to,
        fused => call.part("activated", Op::Activation(fused), &[to])?,
    };
    call.emit(Op::Reshape, &[to], IDENTITY)
}
