//! Operators on constants that only move elements, or only change the shape.

use super::MAX_RANK;
use crate::import::onnx::constant::{Constant, Data, Int, volume};
use crate::import::onnx::importer::{Fail, Importer, Step};
use crate::import::onnx::node::OnnxNode;

/// Integers without the batch in them.
pub(super) fn ints(c: &Constant) -> Step<Vec<i64>> {
    c.known_ints().ok_or_else(|| {
        Fail::invalid(format!(
            "`{}` should be integers that do not depend on the batch",
            c.name
        ))
    })
}

/// Row-major.
pub(super) fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i];
    }
    strides
}

/// A tensor of `shape` whose element at each position is the source's at index `source(position)`.
pub(super) fn take(
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
    let indices = (0..n).map(|_| {
        let index = source(&at);
        for axis in (0..shape.len()).rev() {
            at[axis] += 1;
            if at[axis] < shape[axis] {
                break;
            }
            at[axis] = 0;
        }
        index
    });
    let data = x.data.pick(indices);
    Ok((shape, data))
}

pub(super) fn constant_of_shape<'a>(
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
            value.data.pick(std::iter::repeat_n(0, count))
        }
    };
    Ok((dims.iter().map(|&d| d as usize).collect(), data))
}

/// The shape that Reshape gives: -1 is inferred, 0 copies unless `zero_is_zero`.
pub(super) fn reshaped(x: &Constant, shape: &Constant, zero_is_zero: bool) -> Step<Vec<usize>> {
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

/// The shape without (`remove`) or with more axes of length one.
pub(super) fn squeezed(x: &Constant, axes: Option<Vec<i64>>, remove: bool) -> Step<Vec<usize>> {
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

pub(super) fn gather<'a>(
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

pub(super) fn slice<'a>(
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
        let (start, count) = if step > 0 {
            let (s, e) = (
                from_end(starts[i]).clamp(0, d),
                from_end(ends[i]).clamp(0, d),
            );
            (s, (e - s).max(0) as u64)
        } else {
            let (s, e) = (
                from_end(starts[i]).clamp(-1, d - 1),
                from_end(ends[i]).clamp(-1, d - 1),
            );
            (s, (s - e).max(0) as u64)
        };
        if step == 0 {
            return Err(Fail::invalid("a step of zero"));
        }
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

pub(super) fn concat<'a>(
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
