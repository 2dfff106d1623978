//! Arithmetic on constants, with broadcasting, and with the batch as a symbol.

use onnx_rs::ast::OpType;

use super::MAX_RANK;
use super::movement::{strides, take};
use crate::import::onnx::constant::{Constant, Data, Int};
use crate::import::onnx::importer::{Fail, Importer, Step};

pub(super) fn broadcast(a: &[usize], b: &[usize]) -> Step<Vec<usize>> {
    let rank = a.len().max(b.len());
    if rank > MAX_RANK {
        return Err(Fail::invalid(format!("a constant of {rank} axes")));
    }
    let at = |s: &[usize], i: usize| {
        if i + s.len() < rank {
            1
        } else {
            s[i + s.len() - rank]
        }
    };
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => Err(Fail::invalid(format!(
                "shapes {a:?} and {b:?} do not broadcast"
            ))),
        })
        .collect()
}

/// Strides of `shape` seen as `out`; zero where it broadcasts.
pub(super) fn broadcast_strides(shape: &[usize], out: &[usize]) -> Vec<usize> {
    let own = strides(shape);
    let missing = out.len() - shape.len();
    (0..out.len())
        .map(|i| {
            if i < missing || shape[i - missing] == 1 {
                0
            } else {
                own[i - missing]
            }
        })
        .collect()
}

pub(super) fn binary(
    im: &mut Importer<'_, '_>,
    op: &OpType<'_>,
    a: &Constant,
    b: &Constant,
) -> Step<(Vec<usize>, Data)> {
    let shape = broadcast(&a.shape, &b.shape)?;
    let (sa, sb) = (
        broadcast_strides(&a.shape, &shape),
        broadcast_strides(&b.shape, &shape),
    );
    let dot =
        |s: Vec<usize>| move |at: &[usize]| s.iter().zip(at).map(|(s, i)| s * i).sum::<usize>();
    let (_, a) = take(im, a, shape.clone(), dot(sa))?;
    let (_, b) = take(im, b, shape.clone(), dot(sb))?;
    let data = match (a, b) {
        (Data::Float(a), Data::Float(b)) => Data::Float(
            a.into_iter()
                .zip(b)
                .map(|(a, b)| match op {
                    OpType::Add => a + b,
                    OpType::Sub => a - b,
                    OpType::Mul => a * b,
                    _ => a / b,
                })
                .collect(),
        ),
        (Data::Int(a), Data::Int(b)) => Data::Int(
            a.into_iter()
                .zip(b)
                .map(|(a, b)| int_op(op, a, b))
                .collect::<Step<_>>()?,
        ),
        _ => return Err(Fail::invalid("it mixes floats and integers")),
    };
    Ok((shape, data))
}

/// Integer arithmetic in which the batch is a symbol.
pub(super) fn int_op(op: &OpType<'_>, a: Int, b: Int) -> Step<Int> {
    use Int::{Batch, Known};
    let sum = |a: i64, b: i64| {
        if *op == OpType::Sub {
            a.checked_sub(b)
        } else {
            a.checked_add(b)
        }
    };
    let exact = |a: i64, b: i64| {
        a.checked_rem(b)
            .filter(|&r| r == 0)
            .and_then(|_| a.checked_div(b))
    };
    let result = match (op, a, b) {
        (OpType::Add | OpType::Sub, Known(a), Known(b)) => sum(a, b).map(Known),
        (OpType::Add | OpType::Sub, Batch(a), Batch(b)) => {
            sum(a, b).map(|k| if k == 0 { Known(0) } else { Batch(k) })
        }
        (OpType::Add | OpType::Sub, Batch(a), Known(0)) => Some(Batch(a)),
        (OpType::Add, Known(0), Batch(b)) => Some(Batch(b)),
        (OpType::Mul, Known(a), Known(b)) => a.checked_mul(b).map(Known),
        (OpType::Mul, Known(0), Batch(_)) | (OpType::Mul, Batch(_), Known(0)) => Some(Known(0)),
        (OpType::Mul, Known(a), Batch(b)) | (OpType::Mul, Batch(a), Known(b)) => {
            a.checked_mul(b).map(Batch)
        }
        (OpType::Div, Known(a), Known(b)) => a.checked_div(b).map(Known),
        (OpType::Div, Batch(a), Known(b)) => exact(a, b).map(Batch),
        (OpType::Div, Batch(a), Batch(b)) => exact(a, b).map(Known),
        _ => None,
    };
    result.ok_or_else(|| {
        Fail::unsupported(
            "integer arithmetic that overflows, divides by zero, or depends on the batch size",
            "export with a fixed batch size of 1, or change the model so that shapes do not depend on the batch",
        )
    })
}

pub(super) fn unary(op: &OpType<'_>, data: &Data) -> Step<Data> {
    match (op, data) {
        (OpType::Neg, Data::Int(v)) => v
            .iter()
            .map(|&i| int_op(&OpType::Mul, i, Int::Known(-1)))
            .collect::<Step<_>>()
            .map(Data::Int),
        (_, Data::Int(_)) => Err(Fail::invalid("it works on floats only")),
        (op, Data::Float(v)) => {
            let f = |x: f32| match op {
                OpType::Neg => -x,
                OpType::Sqrt => x.sqrt(),
                OpType::Floor => x.floor(),
                OpType::Ceil => x.ceil(),
                _ => 1.0 / x,
            };
            Ok(Data::Float(v.iter().map(|&x| f(x)).collect()))
        }
    }
}

/// Types by their numbers in the format: 1, 10, 11, 16 are floats, 9 is boolean.
pub(super) fn cast(data: &Data, to: i64) -> Step<Data> {
    let to_float = matches!(to, 1 | 10 | 11 | 16);
    let to_int = matches!(to, 2..=7 | 12 | 13);
    match data {
        Data::Float(_) if to_float => Ok(data.clone()),
        Data::Int(_) if to_int => Ok(data.clone()),
        Data::Float(v) if to_int => {
            Ok(Data::Int(v.iter().map(|&x| Int::Known(x as i64)).collect()))
        }
        Data::Float(v) if to == 9 => Ok(Data::Int(
            v.iter().map(|&x| Int::Known(i64::from(x != 0.0))).collect(),
        )),
        Data::Int(v) if to_float || to == 9 => {
            let known = |i: &Int| {
                if let Int::Known(k) = i {
                    Some(*k)
                } else {
                    None
                }
            };
            let v: Option<Vec<i64>> = v.iter().map(known).collect();
            let v = v.ok_or_else(|| {
                Fail::unsupported(
                    "the batch size as a number",
                    "change the model so that it does not compute with the batch size",
                )
            })?;
            Ok(if to == 9 {
                Data::Int(
                    v.into_iter()
                        .map(|k| Int::Known(i64::from(k != 0)))
                        .collect(),
                )
            } else {
                Data::Float(v.into_iter().map(|k| k as f32).collect())
            })
        }
        _ => Err(Fail::invalid(format!(
            "a cast to the type with number {to}"
        ))),
    }
}
