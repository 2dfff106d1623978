//! Conv: <https://onnx.ai/onnx/operators/onnx__Conv.html>.

use super::window::Window;
use crate::graph::{Activation, Conv2d, Op, Weights};
use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

/// Two-dimensional, or one-dimensional over `[1, length, channels]`. Weights OIHW become OHWI.
pub(super) fn conv<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let w = im
        .weights(n, 1, "weight")?
        .ok_or_else(|| Fail::invalid("it has no weight"))?;
    let bias = im.weights(n, 2, "bias")?;
    let spatial = x.dims.len().saturating_sub(1);
    if !(1..=2).contains(&spatial) || w.shape.len() != spatial + 2 {
        return Err(Fail::invalid(format!(
            "weight `{}` of shape {:?} does not fit an input of {} axes",
            w.name,
            w.shape,
            x.dims.len() + 1
        )));
    }
    let x = im.lay_out(&x, Tensor::channels_first(spatial + 1))?;
    let window = Window::read(n, &x.dims[1..], Some(&w.shape[2..]))?;
    if window.ceil_mode {
        return Err(Fail::invalid("a convolution has no ceil_mode"));
    }
    let groups = usize::try_from(n.int("group", 1))
        .ok()
        .filter(|&g| g > 0)
        .ok_or_else(|| Fail::invalid("group must be at least 1"))?;
    let (o, i, [kh, kw]) = (w.shape[0], w.shape[1], window.kernel);
    if o == 0 || i == 0 {
        return Err(Fail::invalid(format!(
            "weight `{}` of shape {:?} is empty",
            w.name, w.shape
        )));
    }
    let source = w.floats().unwrap_or_default();
    im.spend(source.len())?;
    let mut data = Vec::with_capacity(source.len());
    for kernels in source.chunks(i * kh * kw) {
        for tap in 0..kh * kw {
            data.extend(kernels.iter().skip(tap).step_by(kh * kw));
        }
    }
    let bias = match bias {
        Some(b) if b.shape == [o] => b.floats().unwrap_or_default().to_vec(),
        Some(b) => {
            return Err(Fail::invalid(format!(
                "bias `{}` of shape {:?} does not fit {o} output channels",
                b.name, b.shape
            )));
        }
        None => vec![0.0; o],
    };
    let conv = Conv2d {
        weights: Weights {
            shape: vec![o, kh, kw, i],
            data,
        },
        bias,
        stride: window.stride,
        dilation: window.dilation,
        pads: window.pads,
        groups,
        activation: Activation::Identity,
    };
    let id = im.emit(n, Op::Conv2d(conv), &[x.id])?;
    Ok(Tensor::of(im, id, x.axes))
}
