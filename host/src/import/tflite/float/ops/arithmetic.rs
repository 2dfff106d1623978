//! ADD, SUB and MUL of two values, or of a value and a constant of one number, or one a channel.

use super::fused;
use crate::graph::{Activation, Affine, Op, broadcast_shape};
use crate::import::tflite::float::network::{Call, Value};
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;

const IDENTITY: Activation = Activation::Identity;

/// `scale * x + shift`, where one of the two is the same for all channels.
fn affine(call: &mut Call, x: &Value, scale: Vec<f32>, shift: Vec<f32>) -> Result<Op, Problem> {
    let channels = x.shape[2];
    call.network.file.spend(2 * channels)?;
    let wide = |v: Vec<f32>| {
        if v.len() == 1 {
            vec![v[0]; channels]
        } else {
            v
        }
    };
    Ok(Op::Affine(Affine {
        scale: wide(scale),
        shift: wide(shift),
        activation: IDENTITY,
    }))
}

/// Operand `k` as one number, or one a channel of `x`.
fn numbers(call: &mut Call, k: usize, x: &Value) -> Result<Vec<f32>, Problem> {
    let (shape, data) = call.floats(k)?;
    let per_channel = data.len() == x.shape[2] && shape.last() == Some(&x.shape[2]);
    if data.len() == 1 || per_channel {
        return Ok(data);
    }
    Err(Problem::unsupported(
        format!(
            "its constant of shape {shape:?} is neither one number nor one for each of {} channels",
            x.shape[2]
        ),
        "use constants of one number, or of one a channel",
    ))
}

/// The value and the constant of an operator that has one of each, and whether the constant is
/// first.
fn value_and_constant(call: &mut Call) -> Result<Option<(Value, Vec<f32>, bool)>, Problem> {
    let (x, k) = match (call.is_constant(0)?, call.is_constant(1)?) {
        (false, false) => return Ok(None),
        (true, _) => (call.value(1)?, 0),
        (_, true) => (call.value(0)?, 1),
    };
    Ok(Some((x, numbers(call, k, &x)?, k == 0)))
}

/// An operator of two values, whose axes of length 1 are repeated.
fn both(call: &mut Call, op: Op, fused: Activation) -> Result<(), Problem> {
    let (a, b) = (call.value(0)?, call.value(1)?);
    if broadcast_shape(a.shape, b.shape).is_none() {
        return Err(Problem::Damaged(format!(
            "its operands are {:?} and {:?}",
            a.shape, b.shape
        )));
    }
    call.emit(op, &[a.id, b.id], fused)
}

pub(super) fn add(call: &mut Call) -> Result<(), Problem> {
    let fused = fused(call.operator.options(options::ADD)?.i8(0)?)?;
    if let Some((x, c, _)) = value_and_constant(call)? {
        let op = affine(call, &x, vec![1.0], c)?;
        return call.emit(op, &[x.id], fused);
    }
    let op = Op::Add {
        activation: IDENTITY,
    };
    both(call, op, fused)
}

pub(super) fn sub(call: &mut Call) -> Result<(), Problem> {
    let fused = fused(call.operator.options(options::SUB)?.i8(0)?)?;
    if let Some((x, c, constant_first)) = value_and_constant(call)? {
        let op = if constant_first {
            affine(call, &x, vec![-1.0], c)?
        } else {
            affine(call, &x, vec![1.0], c.iter().map(|v| -v).collect())?
        };
        return call.emit(op, &[x.id], fused);
    }
    let op = Op::Sub {
        activation: IDENTITY,
    };
    both(call, op, fused)
}

pub(super) fn mul(call: &mut Call) -> Result<(), Problem> {
    let fused = fused(call.operator.options(options::MUL)?.i8(0)?)?;
    let Some((x, c, _)) = value_and_constant(call)? else {
        let op = Op::Mul {
            activation: IDENTITY,
        };
        return both(call, op, fused);
    };
    let op = affine(call, &x, c, vec![0.0])?;
    call.emit(op, &[x.id], fused)
}
