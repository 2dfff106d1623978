//! ReduceMean, ReduceSum and ReduceMax over axes of one sample.

use onnx_rs::ast::OpType;

use super::arithmetic::uniform;
use super::pool::global_op;
use super::shape::relabel;
use crate::graph::{Op, Pads, Pool};
use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

/// Axes are an attribute, and an operand since operator set 18 (13 for ReduceSum); the reduced ones
/// are laid out as height and width, and become a pool.
pub(super) fn reduce<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let axes = match im.known_ints(n, 1, "axes")? {
        Some(v) => Some(v),
        None => n.ints("axes").map(<[i64]>::to_vec),
    };
    let axes = match axes {
        Some(v) if !v.is_empty() => v,
        _ if n.flag("noop_with_empty_axes") => return Ok(x),
        _ => (0..=x.dims.len() as i64).collect(),
    };
    let mut reduced = vec![false; x.dims.len()];
    for axis in axes {
        if std::mem::replace(&mut reduced[x.axis(axis)?], true) {
            return Err(Fail::invalid(format!("axis {axis} is named twice")));
        }
    }
    // A kept dimension goes to the channel axis, preferably the one that is there already.
    let kept = (0..x.dims.len()).filter(|&i| !reduced[i]);
    let x = match kept
        .clone()
        .find(|&i| x.axes[i] == 2)
        .or(kept.clone().max_by_key(|&i| x.dims[i]))
    {
        Some(i) => im.channel_last(&x, i)?,
        None => {
            let axes: Vec<usize> = (0..x.dims.len()).collect();
            if x.dims.len() > 2 && x.dims[2] != 1 {
                return Err(Fail::unsupported(
                    "it reduces a whole sample to one number",
                    "reduce over height and width only",
                ));
            }
            im.lay_out(&x, &axes)?
        }
    };
    let shape = im.graph.shape(x.id);
    let mut kernel = [1, 1];
    for i in 0..x.dims.len() {
        if reduced[i] && x.axes[i] < 2 {
            kernel[x.axes[i]] = x.dims[i];
        }
    }
    let max = n.raw.op_type == OpType::ReduceMax;
    let sum = n.raw.op_type == OpType::ReduceSum;
    let op = if kernel == shape[..2] {
        global_op(shape, max)
    } else {
        let pool = Pool {
            kernel,
            stride: [1, 1],
            dilation: [1, 1],
            pads: Pads::default(),
        };
        if max {
            Op::MaxPool(pool)
        } else {
            Op::AveragePool(pool)
        }
    };
    let id = if sum {
        let mean = im.emit_part(n, "mean", op, &[x.id])?;
        let factor = (kernel[0] * kernel[1]) as f32;
        let op = uniform(im, mean, factor, 0.0)?;
        im.emit(n, op, &[mean])?
    } else {
        im.emit(n, op, &[x.id])?
    };
    let y = Tensor::of(im, id, x.axes);
    if n.int("keepdims", 1) != 0 {
        return Ok(y);
    }
    let dims: Vec<usize> = (0..y.dims.len())
        .filter(|&i| !reduced[i])
        .map(|i| y.dims[i])
        .collect();
    relabel(im, n, &y, &dims)
}
