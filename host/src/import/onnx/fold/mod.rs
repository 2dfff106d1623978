//! Evaluates nodes whose operands are known: shape arithmetic and prepared weights.
//!
//! The batch stays a symbol ([`Int::Batch`]), so that a reshape computed from `x.shape[0]` keeps
//! its meaning whatever batch the model was traced with.

mod movement;
mod numbers;

use std::rc::Rc;

use onnx_rs::ast::OpType;

use super::constant::{Constant, Data, Int};
use super::importer::{Fail, Importer, Item, Step};
use super::node::OnnxNode;
use super::ops::axes_of;
use movement::{concat, constant_of_shape, gather, ints, reshaped, slice, squeezed, strides, take};
use numbers::{binary, broadcast, broadcast_strides, cast, int_op, unary};

/// Axes of a constant.
const MAX_RANK: usize = 8;

/// Operators that can be evaluated.
pub(super) fn is_foldable(op: &OpType<'_>) -> bool {
    use OpType::*;
    matches!(op, Constant | Shape | Size) || is_arithmetic(op)
}

fn is_arithmetic(op: &OpType<'_>) -> bool {
    use OpType::*;
    matches!(
        op,
        ConstantOfShape
            | Gather
            | Concat
            | Reshape
            | Squeeze
            | Unsqueeze
            | Slice
            | Cast
            | Identity
            | Transpose
            | Expand
            | Add
            | Sub
            | Mul
            | Div
            | Neg
            | Sqrt
            | Reciprocal
            | Floor
            | Ceil
            | ReduceProd
    )
}

/// The node's value, if its operands are known; `None` if some are activations.
pub(super) fn fold<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Option<Item>> {
    let constant = match &n.raw.op_type {
        OpType::Constant => literal(im, n)?,
        OpType::Shape => shape(im, n)?,
        OpType::Size => size(im, n)?,
        op => {
            let mut operands = Vec::new();
            for i in 0..n.raw.input.len() {
                match n.input(i).map(|name| im.item(name)).transpose()? {
                    Some(Item::Constant(c)) => operands.push(Some(c)),
                    None => operands.push(None),
                    Some(_) => return Ok(None),
                }
            }
            let Some(Some(first)) = operands.first().cloned() else {
                return Ok(None);
            };
            if !is_arithmetic(op) {
                return Ok(None);
            }
            Rc::new(evaluate(im, n, &first, &operands)?)
        }
    };
    Ok(Some(Item::Constant(constant)))
}

fn literal<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Rc<Constant>> {
    if let Some(t) = n.tensor("value") {
        return im.decode(t, n.out);
    }
    let known = |v: &[i64]| Data::Int(v.iter().copied().map(Int::Known).collect());
    let (shape, data) = if let Some(v) = n.ints("value_ints") {
        (vec![v.len()], known(v))
    } else if let Some(v) = n.floats("value_floats") {
        (vec![v.len()], Data::Float(v.to_vec()))
    } else if n.has("value_int") {
        (vec![], known(&[n.int("value_int", 0)]))
    } else if n.has("value_float") {
        (vec![], Data::Float(vec![n.float("value_float", 0.0)]))
    } else {
        return Err(Fail::unsupported(
            "a constant that is neither numbers nor a dense tensor",
            "export with dense numeric constants",
        ));
    };
    im.spend(data.len())?;
    Ok(Rc::new(Constant {
        name: n.out.into(),
        shape,
        data,
    }))
}

/// The dimensions of operand 0, the batch as a symbol.
fn dims<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Vec<Int>> {
    let name = n
        .input(0)
        .ok_or_else(|| Fail::invalid("it has no operand"))?;
    let known = |d: &usize| Int::Known(*d as i64);
    Ok(match im.item(name)? {
        Item::Tensor(t) => [Int::Batch(1)]
            .into_iter()
            .chain(t.dims.iter().map(known))
            .collect(),
        Item::Constant(c) => c.shape.iter().map(known).collect(),
        Item::Unknown => return Err(Fail::invalid("its operand is unknown")),
    })
}

fn shape<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Rc<Constant>> {
    let all = dims(im, n)?;
    let rank = all.len() as i64;
    let at = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    let (start, end) = (at(n.int("start", 0)), at(n.int("end", rank)));
    let part = all.get(start..end).unwrap_or_default().to_vec();
    Ok(Rc::new(Constant {
        name: n.out.into(),
        shape: vec![part.len()],
        data: Data::Int(part),
    }))
}

fn size<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Rc<Constant>> {
    let product = dims(im, n)?
        .into_iter()
        .try_fold(Int::Known(1), |a, b| int_op(&OpType::Mul, a, b))?;
    Ok(Rc::new(Constant {
        name: n.out.into(),
        shape: vec![],
        data: Data::Int(vec![product]),
    }))
}

fn evaluate<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    x: &Constant,
    operands: &[Option<Rc<Constant>>],
) -> Step<Constant> {
    let operand = |i: usize| {
        operands
            .get(i)
            .and_then(Option::as_deref)
            .ok_or_else(|| Fail::invalid(format!("operand {i} is missing")))
    };
    let (shape, data) = match &n.raw.op_type {
        OpType::Identity => (x.shape.clone(), x.data.clone()),
        OpType::Cast => (x.shape.clone(), cast(&x.data, n.int("to", 0))?),
        OpType::ConstantOfShape => constant_of_shape(im, n, x)?,
        OpType::Reshape => (
            reshaped(x, operand(1)?, n.flag("allowzero"))?,
            x.data.clone(),
        ),
        OpType::Squeeze | OpType::Unsqueeze => {
            let axes = axes_of(im, n)?;
            (
                squeezed(x, axes, n.raw.op_type == OpType::Squeeze)?,
                x.data.clone(),
            )
        }
        OpType::Transpose => {
            let rank = x.shape.len();
            let perm: Vec<i64> = n
                .ints("perm")
                .map_or_else(|| (0..rank as i64).rev().collect(), <[i64]>::to_vec);
            let mut sorted = perm.clone();
            sorted.sort_unstable();
            if !sorted.into_iter().eq(0..rank as i64) {
                return Err(Fail::invalid(format!(
                    "perm = {perm:?} of a tensor of rank {rank}"
                )));
            }
            let shape: Vec<usize> = perm.iter().map(|&p| x.shape[p as usize]).collect();
            let strides = strides(&x.shape);
            take(im, x, shape, |at| {
                perm.iter()
                    .zip(at)
                    .map(|(&p, i)| strides[p as usize] * i)
                    .sum()
            })?
        }
        OpType::Gather => gather(im, n, x, operand(1)?)?,
        OpType::Slice => slice(im, n, x)?,
        OpType::Expand => {
            let to = ints(operand(1)?)?;
            let to: Vec<usize> = to
                .iter()
                .map(|&d| usize::try_from(d))
                .collect::<Result<_, _>>()
                .map_err(|_| Fail::invalid("a negative dimension"))?;
            let shape = broadcast(&x.shape, &to)?;
            let strides = broadcast_strides(&x.shape, &shape);
            take(im, x, shape, |at| {
                strides.iter().zip(at).map(|(s, i)| s * i).sum()
            })?
        }
        OpType::Concat => {
            let all = (0..operands.len()).map(operand).collect::<Step<Vec<_>>>()?;
            concat(im, n, &all)?
        }
        OpType::ReduceProd
            if x.shape.len() == 1 && n.ints("axes").is_none_or(|a| matches!(a, [0 | -1])) =>
        {
            let Data::Int(v) = &x.data else {
                return Err(Fail::invalid("a product of floats"));
            };
            let product = v
                .iter()
                .try_fold(Int::Known(1), |a, &b| int_op(&OpType::Mul, a, b))?;
            (
                if n.int("keepdims", 1) != 0 {
                    vec![1]
                } else {
                    vec![]
                },
                Data::Int(vec![product]),
            )
        }
        OpType::Neg | OpType::Sqrt | OpType::Reciprocal | OpType::Floor | OpType::Ceil => {
            (x.shape.clone(), unary(&n.raw.op_type, &x.data)?)
        }
        OpType::Add | OpType::Sub | OpType::Mul | OpType::Div => {
            binary(im, &n.raw.op_type, x, operand(1)?)?
        }
        _ => {
            return Err(Fail::unsupported(
                "it works on constants in a way that the importer cannot evaluate",
                "simplify the model first (onnxsim), so that constant parts are computed once",
            ));
        }
    };
    im.spend(data.len())?;
    if shape.len() > MAX_RANK {
        return Err(Fail::invalid(format!("a constant of {} axes", shape.len())));
    }
    Ok(Constant {
        name: n.out.into(),
        shape,
        data,
    })
}
