//! Add, Sub, Mul, Div, Sum and Neg.

use std::rc::Rc;

use onnx_rs::ast::OpType;

use super::gate;
use crate::graph::{Activation, Affine, Op, ValueId};
use crate::import::onnx::constant::Constant;
use crate::import::onnx::importer::{Fail, Importer, Item, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

const SAME: Activation = Activation::Identity;

/// `scale x + shift` for every channel of a value.
pub(super) fn uniform(im: &mut Importer<'_, '_>, x: ValueId, scale: f32, shift: f32) -> Step<Op> {
    let c = im.graph.shape(x)[2];
    im.spend(2 * c)?;
    Ok(Op::Affine(Affine {
        scale: vec![scale; c],
        shift: vec![shift; c],
        activation: SAME,
    }))
}

/// Two activations of one shape, or an activation and a constant.
pub(super) fn binary<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let (Some(a), Some(b), 2) = (n.input(0), n.input(1), n.raw.input.len()) else {
        return Err(Fail::invalid("it needs two operands"));
    };
    match (im.item(a)?, im.item(b)?) {
        (Item::Tensor(x), Item::Tensor(y)) => both(im, n, x, y),
        (Item::Tensor(x), Item::Constant(c)) => with_constant(im, n, x, &c, false),
        (Item::Constant(c), Item::Tensor(x)) => with_constant(im, n, x, &c, true),
        _ => Err(Fail::invalid("its operands are unknown")),
    }
}

fn both<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>, x: Tensor, y: Tensor) -> Step<Tensor> {
    match n.raw.op_type {
        OpType::Add => add(im, n, x, &y, true),
        OpType::Sub => {
            let op = uniform(im, y.id, -1.0, 0.0)?;
            let id = im.emit_part(n, "negated", op, &[y.id])?;
            add(im, n, x, &Tensor { id, ..y }, true)
        }
        OpType::Mul => gate::hard_swish(im, n, &x, &y),
        _ => Err(Fail::unsupported(
            "it divides by an activation",
            "only constants are supported as divisors; change the model",
        )),
    }
}

fn add<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    x: Tensor,
    y: &Tensor,
    last: bool,
) -> Step<Tensor> {
    if x.dims != y.dims {
        return Err(Fail::unsupported(
            "its operands have different shapes",
            "only activations of one shape can be added; make the shapes equal in the model",
        ));
    }
    let y = im.lay_out(y, &x.axes)?;
    let op = Op::Add { activation: SAME };
    let id = if last {
        im.emit(n, op, &[x.id, y.id])?
    } else {
        im.emit_part(n, "partial", op, &[x.id, y.id])?
    };
    Ok(Tensor { id, ..x })
}

/// Any number of activations.
pub(super) fn sum<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let mut total = im.tensor(n, 0)?;
    let count = n.raw.input.len();
    for i in 1..count {
        let y = im.tensor(n, i)?;
        total = add(im, n, total, &y, i + 1 == count)?;
    }
    Ok(total)
}

/// `-x`.
pub(super) fn negate<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let op = uniform(im, x.id, -1.0, 0.0)?;
    let id = im.emit(n, op, &[x.id])?;
    Ok(Tensor { id, ..x })
}

/// A constant of one number, or of one a channel, as an affine map.
fn with_constant<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    x: Tensor,
    c: &Rc<Constant>,
    constant_first: bool,
) -> Step<Tensor> {
    im.finite(c)?;
    let values = c.floats().unwrap_or_default();
    let varying = varying_axis(&x, c)?;
    let x = match varying {
        Some(i) => im.channel_last(&x, i)?,
        None => x,
    };
    let channels = im.graph.shape(x.id)[2];
    im.spend(2 * channels)?;
    let (mut scale, mut shift) = (Vec::with_capacity(channels), Vec::with_capacity(channels));
    for i in 0..channels {
        let k = if varying.is_some() {
            values[i]
        } else {
            values[0]
        };
        let (s, t) = match n.raw.op_type {
            OpType::Add => (1.0, k),
            OpType::Sub if constant_first => (-1.0, k),
            OpType::Sub => (1.0, -k),
            OpType::Mul => (k, 0.0),
            _ if constant_first => {
                return Err(Fail::unsupported(
                    "it divides by an activation",
                    "only constants are supported as divisors; change the model",
                ));
            }
            _ if k == 0.0 => {
                return Err(Fail::invalid(format!("it divides by zero (`{}`)", c.name)));
            }
            _ => (1.0 / k, 0.0),
        };
        scale.push(s);
        shift.push(t);
    }
    let id = im.emit(
        n,
        Op::Affine(Affine {
            scale,
            shift,
            activation: SAME,
        }),
        &[x.id],
    )?;
    Ok(Tensor { id, ..x })
}

/// The one dimension of `x` along which a constant that broadcasts to it varies.
fn varying_axis(x: &Tensor, c: &Constant) -> Step<Option<usize>> {
    let rank = x.dims.len() + 1;
    let enlarges = || {
        Fail::unsupported(
            format!(
                "its constant `{}` of shape {:?} is larger than its activation",
                c.name, c.shape
            ),
            "only constants that broadcast to the activation's shape are supported",
        )
    };
    if c.data.len() == 0 {
        return Err(Fail::invalid(format!("its constant `{}` is empty", c.name)));
    }
    let extra = c.shape.len().saturating_sub(rank);
    if c.shape[..extra].iter().any(|&d| d != 1) {
        return Err(enlarges());
    }
    let shape = &c.shape[extra..];
    let mut varying = None;
    for (i, &d) in shape.iter().enumerate().filter(|&(_, &d)| d != 1) {
        let axis = rank - shape.len() + i;
        if axis == 0 {
            return Err(Fail::unsupported(
                format!(
                    "its constant `{}` differs between the samples of a batch",
                    c.name
                ),
                "export with batch size 1 or a dynamic batch",
            ));
        }
        if x.dims[axis - 1] != d {
            return Err(if x.dims[axis - 1] == 1 {
                enlarges()
            } else {
                Fail::invalid(format!(
                    "its constant `{}` of shape {:?} does not broadcast",
                    c.name, c.shape
                ))
            });
        }
        if varying.replace(axis - 1).is_some() {
            return Err(Fail::unsupported(
                format!(
                    "its constant `{}` of shape {:?} differs by more than the channel",
                    c.name, c.shape
                ),
                "only constants of one number, or of one number a channel, are supported; change the model",
            ));
        }
    }
    Ok(varying)
}
