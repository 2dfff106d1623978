//! Evaluates nodes whose operands are known: shape arithmetic and prepared weights.
//!
//! The batch stays a symbol ([`Int::Batch`]), so that a reshape computed from `x.shape[0]` keeps
//! its meaning whatever batch the model was traced with.

use std::rc::Rc;

use onnx_rs::ast::OpType;

use super::constant::{Constant, Data, Int, volume};
use super::importer::{Fail, Importer, Item, Step};
use super::node::OnnxNode;
use super::ops::axes_of;

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

fn ints(c: &Constant) -> Step<Vec<i64>> {
    c.known_ints().ok_or_else(|| {
        Fail::invalid(format!(
            "`{}` should be integers that do not depend on the batch",
            c.name
        ))
    })
}

fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// A tensor of `shape` whose element at each position is the source's at index `source(position)`.
fn take(
    im: &mut Importer<'_, '_>,
    x: &Constant,
    shape: Vec<usize>,
    source: impl Fn(&[usize]) -> usize,
) -> Step<(Vec<usize>, Data)> {
    let n = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .unwrap_or(usize::MAX);
    im.spend(n)?;
    let mut at = vec![0; shape.len()];
    let mut indices = Vec::with_capacity(n);
    for _ in 0..n {
        indices.push(source(&at));
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            if at[axis] < shape[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    Ok((shape, x.data.pick(&indices)))
}

fn broadcast(a: &[usize], b: &[usize]) -> Step<Vec<usize>> {
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
fn broadcast_strides(shape: &[usize], out: &[usize]) -> Vec<usize> {
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

fn binary(
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
fn int_op(op: &OpType<'_>, a: Int, b: Int) -> Step<Int> {
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

fn unary(op: &OpType<'_>, data: &Data) -> Step<Data> {
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
fn cast(data: &Data, to: i64) -> Step<Data> {
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

fn constant_of_shape<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    shape: &Constant,
) -> Step<(Vec<usize>, Data)> {
    let dims = ints(shape)?;
    let count = volume(&dims).filter(|_| dims.len() <= MAX_RANK);
    let count = count.ok_or_else(|| Fail::invalid(format!("a constant of shape {dims:?}")))?;
    im.spend(count)?;
    let data = match n.tensor("value") {
        None => Data::Float(vec![0.0; count]),
        Some(t) => {
            let value = im.decode(t, n.out)?;
            if value.data.len() != 1 {
                return Err(Fail::invalid("its value is not one number"));
            }
            value.data.pick(&vec![0; count])
        }
    };
    Ok((dims.iter().map(|&d| d as usize).collect(), data))
}

fn reshaped(x: &Constant, shape: &Constant, zero_is_zero: bool) -> Step<Vec<usize>> {
    let wanted = ints(shape)?;
    let bad = || {
        Fail::invalid(format!(
            "`{}` of shape {:?} cannot take the shape {wanted:?}",
            x.name, x.shape
        ))
    };
    let mut out = Vec::new();
    let (mut inferred, mut known) = (None, 1usize);
    for (i, &d) in wanted.iter().enumerate() {
        let d = match d {
            -1 if inferred.is_none() => {
                inferred = Some(i);
                out.push(0);
                continue;
            }
            0 if !zero_is_zero => *x.shape.get(i).ok_or_else(bad)?,
            d => usize::try_from(d).map_err(|_| bad())?,
        };
        known = known.checked_mul(d).ok_or_else(bad)?;
        out.push(d);
    }
    if let Some(i) = inferred {
        out[i] = x.data.len().checked_div(known).ok_or_else(bad)?;
        known = known.checked_mul(out[i]).ok_or_else(bad)?;
    }
    if known == x.data.len() {
        Ok(out)
    } else {
        Err(bad())
    }
}

fn squeezed(x: &Constant, axes: Option<Vec<i64>>, remove: bool) -> Step<Vec<usize>> {
    let rank = x.shape.len()
        + if remove {
            0
        } else {
            axes.as_ref().map_or(0, Vec::len)
        };
    if rank > MAX_RANK {
        return Err(Fail::invalid(format!("a constant of {rank} axes")));
    }
    let mut marked = vec![false; rank];
    match axes {
        Some(axes) => {
            for a in axes {
                let i = if a < 0 {
                    a.saturating_add(rank as i64)
                } else {
                    a
                };
                match usize::try_from(i).ok().and_then(|i| marked.get_mut(i)) {
                    Some(m) if !*m => *m = true,
                    _ => {
                        return Err(Fail::invalid(format!(
                            "axis {a} of a tensor of rank {rank}"
                        )));
                    }
                }
            }
        }
        None if remove => marked
            .iter_mut()
            .zip(&x.shape)
            .for_each(|(m, &d)| *m = d == 1),
        None => return Err(Fail::invalid("it has no axes")),
    }
    if remove {
        if (0..rank).any(|i| marked[i] && x.shape[i] != 1) {
            return Err(Fail::invalid(format!(
                "it removes an axis of {:?} that is longer than 1",
                x.shape
            )));
        }
        return Ok((0..rank)
            .filter(|&i| !marked[i])
            .map(|i| x.shape[i])
            .collect());
    }
    let mut old = x.shape.iter();
    Ok(marked
        .iter()
        .filter_map(|&m| if m { Some(1) } else { old.next().copied() })
        .collect())
}

fn axis_of(axis: i64, rank: usize) -> Step<usize> {
    let i = if axis < 0 {
        axis.saturating_add(rank as i64)
    } else {
        axis
    };
    usize::try_from(i)
        .ok()
        .filter(|&i| i < rank)
        .ok_or_else(|| Fail::invalid(format!("axis {axis} of a tensor of rank {rank}")))
}

fn gather<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    x: &Constant,
    indices: &Constant,
) -> Step<(Vec<usize>, Data)> {
    let axis = axis_of(n.int("axis", 0), x.shape.len())?;
    let length = x.shape[axis];
    let picks: Vec<usize> = ints(indices)?
        .into_iter()
        .map(|i| axis_of(i, length))
        .collect::<Step<_>>()?;
    let (inner, count) = (indices.shape.len(), x.shape.len());
    let shape: Vec<usize> = [&x.shape[..axis], &indices.shape, &x.shape[axis + 1..]].concat();
    if shape.len() > MAX_RANK {
        return Err(Fail::invalid(format!("a constant of {} axes", shape.len())));
    }
    let (own, index_strides) = (strides(&x.shape), strides(&indices.shape));
    take(im, x, shape, |at| {
        let pick: usize = at[axis..axis + inner]
            .iter()
            .zip(&index_strides)
            .map(|(i, s)| i * s)
            .sum();
        let before: usize = (0..axis).map(|i| at[i] * own[i]).sum();
        let behind: usize = (axis + 1..count).map(|i| at[i + inner - 1] * own[i]).sum();
        before + picks[pick] * own[axis] + behind
    })
}

fn slice<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    x: &Constant,
) -> Step<(Vec<usize>, Data)> {
    let rank = x.shape.len();
    let (starts, ends, axes, steps) = if im.opset < 10 {
        (
            n.ints("starts").map(<[i64]>::to_vec),
            n.ints("ends").map(<[i64]>::to_vec),
            n.ints("axes").map(<[i64]>::to_vec),
            None,
        )
    } else {
        (
            im.known_ints(n, 1, "starts")?,
            im.known_ints(n, 2, "ends")?,
            im.known_ints(n, 3, "axes")?,
            im.known_ints(n, 4, "steps")?,
        )
    };
    let (Some(starts), Some(ends)) = (starts, ends) else {
        return Err(Fail::invalid("it has no starts or ends"));
    };
    let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return Err(Fail::invalid(
            "starts, ends, axes and steps differ in length",
        ));
    }
    let mut shape = x.shape.clone();
    let mut first = vec![0i64; rank];
    let mut by = vec![1i64; rank];
    for i in 0..starts.len() {
        let axis = axis_of(axes[i], rank)?;
        let d = x.shape[axis] as i64;
        let step = steps[i];
        let from_end = |v: i64| if v < 0 { v.saturating_add(d) } else { v };
        let (start, end, count) = if step > 0 {
            let (s, e) = (
                from_end(starts[i]).clamp(0, d),
                from_end(ends[i]).clamp(0, d),
            );
            (s, e, (e - s).max(0) as u64)
        } else {
            let (s, e) = (
                from_end(starts[i]).clamp(-1, d - 1),
                from_end(ends[i]).clamp(-1, d - 1),
            );
            (s, e, (s - e).max(0) as u64)
        };
        if step == 0 {
            return Err(Fail::invalid("a step of zero"));
        }
        let _ = end;
        shape[axis] = count.div_ceil(step.unsigned_abs()) as usize;
        first[axis] = start;
        by[axis] = step;
    }
    let own = strides(&x.shape);
    take(im, x, shape, |at| {
        (0..rank)
            .map(|i| (first[i] + by[i].saturating_mul(at[i] as i64)).max(0) as usize * own[i])
            .sum()
    })
}

fn concat<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    all: &[&Constant],
) -> Step<(Vec<usize>, Data)> {
    let first = all[0];
    let axis = axis_of(n.int("axis", 0), first.shape.len())?;
    let mut shape = first.shape.clone();
    shape[axis] = 0;
    for c in all {
        let fits = c.shape.len() == shape.len()
            && (0..shape.len()).all(|i| i == axis || c.shape[i] == shape[i]);
        if !fits {
            return Err(Fail::invalid("its operands have different shapes"));
        }
        shape[axis] = shape[axis].saturating_add(c.shape[axis]);
    }
    im.spend(all.iter().map(|c| c.data.len()).sum())?;
    // Row-major: for each position before the axis, one run of every operand.
    let rows: usize = shape[..axis].iter().product();
    let run = |c: &Constant| c.data.len().checked_div(rows).unwrap_or(0);
    let data = match &first.data {
        Data::Float(_) => {
            let parts: Option<Vec<(&[f32], usize)>> = all
                .iter()
                .map(|c| c.floats().map(|v| (v, run(c))))
                .collect();
            parts.map(|p| Data::Float(interleave(&p, rows)))
        }
        Data::Int(_) => {
            let ints = |c: &&'_ Constant| match &c.data {
                Data::Int(v) => Some((v.clone(), run(c))),
                Data::Float(_) => None,
            };
            let owned: Option<Vec<(Vec<Int>, usize)>> = all.iter().map(ints).collect();
            owned.map(|p| {
                Data::Int(interleave(
                    &p.iter()
                        .map(|(v, run)| (v.as_slice(), *run))
                        .collect::<Vec<_>>(),
                    rows,
                ))
            })
        }
    };
    Ok((
        shape,
        data.ok_or_else(|| Fail::invalid("it mixes floats and integers"))?,
    ))
}

fn interleave<T: Copy>(parts: &[(&[T], usize)], rows: usize) -> Vec<T> {
    (0..rows)
        .flat_map(|row| {
            parts
                .iter()
                .flat_map(move |(v, run)| v[row * run..(row + 1) * run].iter().copied())
        })
        .collect()
}
