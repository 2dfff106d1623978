//! Element-wise functions, and operators that do nothing at inference.

use onnx_rs::ast::OpType;

use crate::graph::{Activation, Op};
use crate::import::onnx::importer::{Fail, Importer, Item, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

fn emit<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    x: Tensor,
    f: Activation,
) -> Step<Tensor> {
    let id = im.emit(n, Op::Activation(f), &[x.id])?;
    Ok(Tensor { id, ..x })
}

/// Functions without operands beyond the input.
pub(super) fn plain<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let finite = |name: &str, default| match n.float(name, default) {
        v if v.is_finite() => Ok(v),
        v => Err(Fail::invalid(format!("attribute {name} = {v}"))),
    };
    let f = match n.raw.op_type {
        OpType::Relu => Activation::Relu,
        OpType::LeakyRelu => Activation::LeakyRelu {
            alpha: finite("alpha", 0.01)?,
        },
        OpType::Sigmoid => Activation::Sigmoid,
        OpType::Tanh => Activation::Tanh,
        OpType::HardSwish => Activation::HardSwish,
        _ => Activation::HardSigmoid {
            alpha: finite("alpha", 0.2)?,
            beta: finite("beta", 0.5)?,
        },
    };
    emit(im, n, x, f)
}

fn clamp(lo: f32, hi: f32) -> Step<Activation> {
    if lo.is_nan() || hi.is_nan() || lo > hi {
        return Err(Fail::invalid(format!(
            "it clamps to the empty range {lo}..={hi}"
        )));
    }
    // Exporters write the ends of the float range for "no bound".
    let lo = if lo == f32::MIN {
        f32::NEG_INFINITY
    } else {
        lo
    };
    let hi = if hi == f32::MAX { f32::INFINITY } else { hi };
    Ok(if lo == 0.0 && hi == f32::INFINITY {
        Activation::Relu
    } else {
        Activation::Clip { lo, hi }
    })
}

/// A constant operand of one element.
fn scalar<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    i: usize,
    what: &str,
) -> Step<Option<f32>> {
    let Some(c) = im.constant(n, i, what)? else {
        return Ok(None);
    };
    match c.floats() {
        Some(&[v]) => Ok(Some(v)),
        _ => Err(Fail::invalid(format!(
            "its {what} `{}` is not one float",
            c.name
        ))),
    }
}

/// Clip: bounds are attributes before operator set 11 and operands since.
pub(super) fn clip<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let (lo, hi) = if im.opset < 11 {
        (
            n.float("min", f32::NEG_INFINITY),
            n.float("max", f32::INFINITY),
        )
    } else {
        let lo = scalar(im, n, 1, "lower bound")?.unwrap_or(f32::NEG_INFINITY);
        (
            lo,
            scalar(im, n, 2, "upper bound")?.unwrap_or(f32::INFINITY),
        )
    };
    emit(im, n, x, clamp(lo, hi)?)
}

/// Min and Max with a constant.
pub(super) fn bound<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let (mut x, mut limit) = (None, None);
    for i in 0..n.raw.input.len().min(3) {
        let Some(name) = n.input(i) else { continue };
        match im.item(name)? {
            Item::Tensor(t) if x.is_none() => x = Some(t),
            Item::Constant(c) if limit.is_none() => {
                limit = c.floats().filter(|v| v.len() == 1).map(|v| v[0])
            }
            _ => {}
        }
    }
    let (Some(x), Some(limit), 2) = (x, limit, n.raw.input.len()) else {
        return Err(Fail::unsupported(
            "only the minimum or maximum of an activation and one constant number is supported",
            "use clamp with constant bounds in the model",
        ));
    };
    let f = match n.raw.op_type {
        OpType::Min => clamp(f32::NEG_INFINITY, limit)?,
        _ => clamp(limit, f32::INFINITY)?,
    };
    emit(im, n, x, f)
}

/// PReLU with one slope for all channels.
pub(super) fn prelu<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let slope = im
        .weights(n, 1, "slope")?
        .ok_or_else(|| Fail::invalid("it has no slope"))?;
    match slope.floats() {
        Some([alpha, rest @ ..]) if rest.iter().all(|v| v == alpha) => {
            emit(im, n, x, Activation::LeakyRelu { alpha: *alpha })
        }
        _ => Err(Fail::unsupported(
            "its slope differs between channels",
            "train with one slope (num_parameters=1), or with LeakyReLU",
        )),
    }
}

/// Nothing at inference.
pub(super) fn dropout<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    if let Some(mode) = im.known_ints(n, 2, "training mode")?
        && mode.iter().any(|&m| m != 0)
    {
        return Err(Fail::unsupported(
            "training mode",
            "export the model in inference mode: model.eval() before the export",
        ));
    }
    im.tensor(n, 0)
}

/// Between float types nothing changes: the network is computed in float32 and then in integers.
pub(super) fn cast<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    const FLOATS: [i64; 4] = [1, 10, 11, 16];
    let to = n.int("to", 0);
    if FLOATS.contains(&to) {
        return im.tensor(n, 0);
    }
    Err(Fail::unsupported(
        format!("a cast of activations to the type with number {to}"),
        "only casts between float types are supported; remove it from the exported part of the model",
    ))
}
