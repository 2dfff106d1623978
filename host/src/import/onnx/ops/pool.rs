//! MaxPool, AveragePool and their global forms.

use super::window::Window;
use crate::graph::{Op, Pads, Pool};
use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

fn read<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<(Tensor, Window)> {
    let x = im.tensor(n, 0)?;
    if x.dims.len() < 2 {
        return Err(Fail::invalid(format!(
            "its input has {} axes, but a pool needs [N, C, length] or more",
            x.dims.len() + 1
        )));
    }
    let x = im.lay_out(&x, Tensor::channels_first(x.dims.len()))?;
    let window = Window::read(n, &x.dims[1..], None)?;
    Ok((x, window))
}

/// Elements to append so that rounding down gives the number of windows that `ceil_mode` asks for:
/// rounded up, but without windows that would start in the padding behind the input.
fn ceil_extra(n: usize, k: usize, s: usize, d: usize, before: usize, after: usize) -> usize {
    let span = (k - 1).saturating_mul(d).saturating_add(1);
    let Some(room) = (n + before).saturating_add(after).checked_sub(span) else {
        return 0;
    };
    let windows = room / s + 1;
    if room % s != 0 && windows * s < n + before {
        s - room % s
    } else {
        0
    }
}

/// The extra padding below and on the right.
fn extra(x: &Tensor, w: &Window) -> [usize; 2] {
    if !w.ceil_mode {
        return [0, 0];
    }
    let lengths = if x.dims.len() == 3 {
        [x.dims[1], x.dims[2]]
    } else {
        [1, x.dims[1]]
    };
    let axis = |i: usize, before, after| {
        ceil_extra(
            lengths[i],
            w.kernel[i],
            w.stride[i],
            w.dilation[i],
            before,
            after,
        )
    };
    [
        axis(0, w.pads.top, w.pads.bottom),
        axis(1, w.pads.left, w.pads.right),
    ]
}

/// Padding never is a maximum, so that `ceil_mode` is only more of it.
pub(super) fn max_pool<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let (x, mut w) = read(im, n)?;
    let [down, right] = extra(&x, &w);
    w.pads.bottom += down;
    w.pads.right += right;
    let pool = Pool {
        kernel: w.kernel,
        stride: w.stride,
        dilation: w.dilation,
        pads: w.pads,
    };
    let id = im.emit(n, Op::MaxPool(pool), &[x.id])?;
    Ok(Tensor::of(im, id, x.axes))
}

/// A mean that counts padding becomes a border of zeros and a pool without padding.
pub(super) fn average_pool<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let (x, mut w) = read(im, n)?;
    if w.dilation != [1, 1] {
        return Err(Fail::unsupported(
            "a mean with dilation",
            "use a dilated depthwise convolution with constant weights",
        ));
    }
    let [down, right] = extra(&x, &w);
    let mut input = x.id;
    if n.flag("count_include_pad") && w.pads != Pads::default() {
        if [down, right] != [0, 0] {
            return Err(Fail::unsupported(
                "count_include_pad together with a ceil_mode that adds windows, which exporters define differently",
                "set ceil_mode=False or count_include_pad=False",
            ));
        }
        let Pads {
            top,
            left,
            bottom,
            right,
        } = std::mem::take(&mut w.pads);
        let border = Op::Pad {
            before: [top, left, 0],
            after: [bottom, right, 0],
            value: 0.0,
        };
        input = im.emit_part(n, "padded", border, &[input])?;
    } else {
        w.pads.bottom += down;
        w.pads.right += right;
    }
    let pool = Pool {
        kernel: w.kernel,
        stride: w.stride,
        dilation: [1, 1],
        pads: w.pads,
    };
    let id = im.emit(n, Op::AveragePool(pool), &[input])?;
    Ok(Tensor::of(im, id, x.axes))
}

/// Over all of height and width.
pub(super) fn global<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    max: bool,
) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    if x.dims.is_empty() {
        return Err(Fail::invalid("its input has no channels"));
    }
    let x = im.lay_out(&x, Tensor::channels_first(x.dims.len()))?;
    let id = im.emit(n, global_op(im.graph.shape(x.id), max), &[x.id])?;
    Ok(Tensor::of(im, id, x.axes))
}

/// The operator that reduces height and width of such a value to one element.
pub(super) fn global_op([h, w, _]: [usize; 3], max: bool) -> Op {
    if max {
        Op::MaxPool(Pool {
            kernel: [h, w],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Pads::default(),
        })
    } else {
        Op::GlobalAveragePool
    }
}
