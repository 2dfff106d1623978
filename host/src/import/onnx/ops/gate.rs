//! Products of two activations: only hard-swish, written as `x * hardsigmoid(x)` by exporters.

use crate::graph::{Activation, Affine, Op, ValueId};
use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

use super::arithmetic::uniform;

fn is_uniform(a: &Affine, scale: f32, shift: f32) -> bool {
    let near = |v: f32, w: f32| (v - w).abs() <= 1e-6 * w.abs();
    a.activation == Activation::Identity
        && a.scale.iter().all(|&s| near(s, scale))
        && a.shift.iter().all(|&t| near(t, shift))
}

/// `x` if the value is `min(max(x + 3, 0), 6)`.
fn six_times_hard_sigmoid(im: &Importer<'_, '_>, v: ValueId) -> Option<ValueId> {
    let node = &im.graph.nodes[im.graph.producer(v)?];
    let before = &im.graph.nodes[im.graph.producer(*node.inputs.first()?)?];
    match (&before.op, &node.op) {
        (Op::Affine(a), Op::Activation(Activation::Clip { lo: 0.0, hi: 6.0 }))
            if is_uniform(a, 1.0, 3.0) =>
        {
            Some(before.inputs[0])
        }
        _ => None,
    }
}

/// `(x, gain)` if the value is `gain * min(max(x / 6 + 1/2, 0), 1)`, in any of the usual spellings.
fn hard_sigmoid(im: &Importer<'_, '_>, v: ValueId) -> Option<(ValueId, f32)> {
    if let Some(x) = six_times_hard_sigmoid(im, v) {
        return Some((x, 6.0));
    }
    let node = &im.graph.nodes[im.graph.producer(v)?];
    let x = node.inputs[0];
    match &node.op {
        Op::Activation(Activation::HardSigmoid { alpha, beta })
            if (alpha - 1.0 / 6.0).abs() < 1e-6 && *beta == 0.5 =>
        {
            Some((x, 1.0))
        }
        Op::Affine(a) if is_uniform(a, 1.0 / 6.0, 0.0) => {
            six_times_hard_sigmoid(im, x).map(|x| (x, 1.0))
        }
        _ => None,
    }
}

pub(super) fn hard_swish<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    x: &Tensor,
    y: &Tensor,
) -> Step<Tensor> {
    for (x, gate) in [(x, y), (y, x)] {
        if let Some((input, gain)) = hard_sigmoid(im, gate.id)
            && input == x.id
            && (&x.dims, &x.axes) == (&gate.dims, &gate.axes)
        {
            let op = Op::Activation(Activation::HardSwish);
            let id = if gain == 1.0 {
                im.emit(n, op, &[input])?
            } else {
                let swish = im.emit_part(n, "hard_swish", op, &[input])?;
                let scaled = uniform(im, swish, gain, 0.0)?;
                im.emit(n, scaled, &[swish])?
            };
            return Ok(Tensor { id, ..x.clone() });
        }
    }
    let sigmoid = [x, y].iter().any(|t| {
        im.graph
            .producer(t.id)
            .is_some_and(|i| matches!(im.graph.nodes[i].op, Op::Activation(Activation::Sigmoid)))
    });
    Err(if sigmoid {
        Fail::unsupported(
            "a product with a sigmoid (SiLU, or squeeze-and-excitation)",
            "use HardSwish or ReLU in place of SiLU, or a variant without squeeze-and-excitation, and fine-tune",
        )
    } else {
        Fail::unsupported(
            "a product of two activations",
            "only products with constants are supported; change the model",
        )
    })
}
