//! Flatten, Reshape, Squeeze and Unsqueeze of activations.

use crate::import::onnx::constant::{Data, Int};
use crate::import::onnx::importer::{Fail, Importer, Step, Tensor};
use crate::import::onnx::node::OnnxNode;

fn too_many_axes(dims: &[usize]) -> Fail {
    Fail::unsupported(
        format!("its result has {} axes", dims.len() + 1),
        "tensors of up to four axes (with the batch) are supported; change the model so that it does not need more",
    )
}

/// Gives a tensor other dimensions with the same elements in the same (the file's) order.
///
/// Where only axes of length one come or go, or the axes behind the channels are split or joined,
/// no element moves in the graph.
pub(super) fn relabel<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
    x: &Tensor,
    dims: &[usize],
) -> Step<Tensor> {
    if dims.len() > 3 {
        return Err(too_many_axes(dims));
    }
    let product = |d: &[usize]| d.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    if product(dims) != product(&x.dims) {
        return Err(Fail::invalid(format!(
            "a sample of shape {:?} cannot take the shape {dims:?}",
            x.dims
        )));
    }
    let long = |d: &[usize]| (0..d.len()).filter(|&i| d[i] != 1).collect::<Vec<_>>();
    let (old, new) = (long(&x.dims), long(dims));
    if old.len() == new.len() && old.iter().zip(&new).all(|(&i, &j)| x.dims[i] == dims[j]) {
        let mut axes = vec![usize::MAX; dims.len()];
        old.iter()
            .zip(&new)
            .for_each(|(&i, &j)| axes[j] = x.axes[i]);
        // A lone axis of length one is best kept where channels are.
        let mut free: Vec<usize> = (0..3).filter(|a| !axes.contains(a)).collect();
        axes.iter_mut()
            .filter(|a| **a == usize::MAX)
            .for_each(|a| *a = free.pop().unwrap_or(0));
        return Ok(Tensor {
            id: x.id,
            dims: dims.to_vec(),
            axes,
        });
    }
    let behind_in_order = x.axes.first() == Some(&2) && x.axes[1..].is_sorted();
    if behind_in_order && dims.len() > 1 && x.dims[0] == dims[0] {
        let (shape, axes) = match dims {
            &[c, l] => ([1, l, c], Tensor::channels_first(2)),
            _ => ([dims[1], dims[2], dims[0]], Tensor::channels_first(3)),
        };
        let id = im.emit_reshape(n, x.id, shape)?;
        return Ok(Tensor {
            id,
            dims: dims.to_vec(),
            axes: axes.to_vec(),
        });
    }
    let x = im.lay_out(x, Tensor::row_major(x.dims.len()))?;
    let axes = Tensor::row_major(dims.len());
    let mut shape = [1; 3];
    axes.iter().zip(dims).for_each(|(&a, &d)| shape[a] = d);
    let id = im.emit_reshape(n, x.id, shape)?;
    Ok(Tensor {
        id,
        dims: dims.to_vec(),
        axes: axes.to_vec(),
    })
}

/// The axes before `axis` together, and those from it on together.
pub(super) fn flatten<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let axis = n.int("axis", 1);
    let rank = x.dims.len() as i64 + 1;
    let axis = if axis < 0 {
        axis.saturating_add(rank)
    } else {
        axis
    };
    if !(0..=rank).contains(&axis) {
        return Err(Fail::invalid(format!(
            "axis {axis} of a tensor of rank {rank}"
        )));
    }
    let outer = (axis as usize).saturating_sub(1);
    if axis == 0 || x.dims[..outer].iter().any(|&d| d != 1) {
        return Err(Fail::unsupported(
            format!("axis = {axis} joins the batch with other axes"),
            "flatten from axis 1 on, so that the first axis stays the batch",
        ));
    }
    let inner = x.dims[outer..].iter().product();
    relabel(im, n, &x, &[inner])
}

/// The batch first, in whichever way the file says that, then known numbers and at most one to infer.
pub(super) fn reshape<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let target = im
        .constant(n, 1, "shape")?
        .ok_or_else(|| Fail::invalid("it has no shape"))?;
    let Data::Int(target) = &target.data else {
        return Err(Fail::invalid("its shape holds floats"));
    };
    if target.len() > 8 {
        return Err(Fail::invalid(format!("a shape of {} axes", target.len())));
    }
    let elements: usize = x.dims.iter().product();
    let zero_is_zero = n.flag("allowzero");
    let mut resolved = Vec::new();
    for (i, &d) in target.iter().enumerate() {
        resolved.push(match d {
            Int::Known(0) if zero_is_zero => return Err(Fail::invalid("a shape with no elements")),
            Int::Known(0) if i == 0 => Int::Batch(1),
            Int::Known(0) => match x.dims.get(i - 1) {
                Some(&d) => Int::Known(d as i64),
                None => {
                    return Err(Fail::invalid(format!(
                        "it copies axis {i}, which the input does not have"
                    )));
                }
            },
            other => other,
        });
    }
    let moved = || {
        Fail::unsupported(
            format!(
                "the shape {} does not keep the batch as its first axis",
                describe(target)
            ),
            "reshape with the batch first, as in x.reshape(x.shape[0], -1) or flatten(1), and export with a dynamic batch or batch size 1",
        )
    };
    let Some((&batch, rest)) = resolved.split_first() else {
        return Err(moved());
    };
    let mut inferred = None;
    let mut known = 1usize;
    for (i, &d) in rest.iter().enumerate() {
        match d {
            Int::Known(-1) if inferred.is_none() => inferred = Some(i),
            Int::Known(d) if d > 0 => {
                known = known
                    .checked_mul(d as usize)
                    .ok_or_else(|| Fail::invalid("its shape is too large"))?;
            }
            Int::Known(_) => return Err(Fail::invalid(format!("the shape {}", describe(target)))),
            Int::Batch(_) => return Err(moved()),
        }
    }
    let batch_is_first = match batch {
        Int::Batch(1) => true,
        Int::Known(-1) => inferred.is_none() && known == elements,
        Int::Known(b) => b == 1 || im.fixed_batch == Some(b),
        Int::Batch(_) => false,
    };
    // With an inferred axis any divisor fits; without one the numbers must.
    if !batch_is_first || (inferred.is_none() && known != elements) {
        return Err(moved());
    }
    if !elements.is_multiple_of(known) {
        return Err(Fail::invalid(format!(
            "a sample of {elements} elements cannot take the shape {}",
            describe(target)
        )));
    }
    let dims: Vec<usize> = rest
        .iter()
        .map(|&d| match d {
            Int::Known(d) if d > 0 => d as usize,
            _ => elements / known,
        })
        .collect();
    relabel(im, n, &x, &dims)
}

fn describe(shape: &[Int]) -> String {
    let numbers: Vec<String> = shape
        .iter()
        .map(|d| match d {
            Int::Known(v) => v.to_string(),
            Int::Batch(1) => "N".into(),
            Int::Batch(v) => format!("{v}N"),
        })
        .collect();
    format!("[{}]", numbers.join(","))
}

/// Axes of Squeeze and Unsqueeze: an attribute before operator set 13, an operand since.
pub(in crate::import::onnx) fn axes_of<'a>(
    im: &mut Importer<'a, '_>,
    n: &OnnxNode<'a, '_>,
) -> Step<Option<Vec<i64>>> {
    if im.opset < 13 {
        return Ok(n.ints("axes").map(<[i64]>::to_vec));
    }
    im.known_ints(n, 1, "axes")
}

/// Removes axes of length one.
pub(super) fn squeeze<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let mut gone = vec![false; x.dims.len()];
    match axes_of(im, n)? {
        // In a batch of one the batch axis would go as well, and every later axis number shift.
        None if im.fixed_batch == Some(1) => {
            return Err(Fail::unsupported(
                "it removes all axes of length one, the batch too",
                "name the axes in the model, as in x.squeeze(-1)",
            ));
        }
        None => gone.iter_mut().zip(&x.dims).for_each(|(g, &d)| *g = d == 1),
        Some(axes) => {
            for axis in axes {
                let i = x.axis(axis)?;
                if x.dims[i] != 1 {
                    return Err(Fail::invalid(format!(
                        "axis {axis} has length {}, not 1",
                        x.dims[i]
                    )));
                }
                gone[i] = true;
            }
        }
    }
    let dims: Vec<usize> = (0..x.dims.len())
        .filter(|&i| !gone[i])
        .map(|i| x.dims[i])
        .collect();
    relabel(im, n, &x, &dims)
}

/// Inserts axes of length one.
pub(super) fn unsqueeze<'a>(im: &mut Importer<'a, '_>, n: &OnnxNode<'a, '_>) -> Step<Tensor> {
    let x = im.tensor(n, 0)?;
    let axes = axes_of(im, n)?.ok_or_else(|| Fail::invalid("it has no axes"))?;
    let rank = x.dims.len() + 1 + axes.len();
    if rank > 8 {
        return Err(Fail::invalid(format!("a result of {rank} axes")));
    }
    let mut inserted = vec![false; rank];
    for axis in axes {
        let i = if axis < 0 {
            axis.saturating_add(rank as i64)
        } else {
            axis
        };
        match usize::try_from(i).ok().and_then(|i| inserted.get_mut(i)) {
            Some(new) if !*new => *new = true,
            _ => {
                return Err(Fail::invalid(format!(
                    "axis {axis} of a tensor of rank {rank}"
                )));
            }
        }
    }
    if inserted[0] {
        return Err(Fail::unsupported(
            "it puts an axis before the batch",
            "change the model so that the first axis stays the batch",
        ));
    }
    let mut old = x.dims.iter();
    let dims: Vec<usize> = inserted[1..]
        .iter()
        .filter_map(|&new| if new { Some(1) } else { old.next().copied() })
        .collect();
    relabel(im, n, &x, &dims)
}
