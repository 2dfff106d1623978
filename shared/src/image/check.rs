//! Everything that must hold before an image is run.
//!
//! Header, CRC and padding are [`super::Model`]'s business. What is proved here, of the tensor
//! table and of every operator:
//!
//! - every tensor has elements and lies in the arena;
//! - operators decode, are at most [`MAX_OPS`], and name tensors of the table;
//! - shapes follow from each other, and windows stay near the input;
//! - weights, biases, multipliers and tables lie in the weight section, aligned;
//! - no accumulator overflows: `|bias| + sum |w| * max |x - zx| < 2^31` per output channel, after a
//!   left shift by the multiplier's exponent too;
//! - every tensor that is read has been written and not overwritten since, each is written once,
//!   and no output overlaps an input unless the operator works in place.
//!
//! Time grows with the square of the number of operators and with the number of weights; memory
//! is about two KiB of stack.

use super::check_ops::check_op;
use super::error::{ImageError, OpFault, TensorFault, stated};
use super::manifest::TensorDesc;
use super::model::Model;
use super::op::{Op, TensorId};

/// The largest number of operators in an image.
pub const MAX_OPS: usize = 2048;

/// The largest number of inputs of one concatenation.
pub const MAX_CONCAT_INPUTS: usize = 64;

/// Checks a model whose header and CRC have been verified. [`Model::from_bytes`] and
/// [`Model::from_slot`] call it; nobody else has to.
pub(super) fn check(model: &Model) -> Result<(), ImageError> {
    check_tensors(model)?;
    let manifest = model.manifest();
    if model.get_tensor(manifest.input).is_none() {
        return Err(ImageError::Input(manifest.input));
    }
    if model.get_tensor(manifest.output).is_none() {
        return Err(ImageError::Output(manifest.output));
    }
    let mut rest = manifest.ops;
    let mut index = 0u16;
    while !rest.is_empty() {
        if index as usize == MAX_OPS {
            return Err(ImageError::TooManyOps);
        }
        let at = (manifest.ops.len() - rest.len()) as u32;
        let fail = |fault| ImageError::Op { index, at, fault };
        let op = Op::take(&mut rest).ok_or(fail(OpFault::Undecodable))?;
        check_op(model, &op).map_err(fail)?;
        check_flow(model, &op, index).map_err(fail)?;
        index += 1;
    }
    let mut there = manifest.output == manifest.input;
    for op in model.ops() {
        there = is_there_after(model, &op, manifest.output, there);
    }
    if there {
        Ok(())
    } else {
        Err(ImageError::Output(manifest.output))
    }
}

fn check_tensors(model: &Model) -> Result<(), ImageError> {
    let table = model.manifest().tensors;
    let whole = table.len().is_multiple_of(TensorDesc::BYTES);
    if table.is_empty() || !whole || model.tensor_count() > TensorId::MAX as usize {
        return Err(ImageError::TensorTable {
            bytes: stated(table.len()),
        });
    }
    for tensor in 0..model.tensor_count() as TensorId {
        let fail = |fault| Err(ImageError::Tensor { tensor, fault });
        let Some(t) = model.get_tensor(tensor) else {
            return fail(TensorFault::Record);
        };
        if t.elements() == 0 {
            return fail(TensorFault::Empty);
        }
        if t.offset as u64 + t.elements() > model.manifest().arena_bytes as u64 {
            return fail(TensorFault::OutsideArena);
        }
    }
    Ok(())
}

/// Whether a tensor's value is in the arena after an operator, given whether it was before.
fn is_there_after(model: &Model, op: &Op, tensor: TensorId, before: bool) -> bool {
    if op.output() == tensor {
        return true;
    }
    let place = model.tensor(tensor);
    let overwritten = op
        .scratch()
        .is_some_and(|s| place.overlaps(s.offset as u64, s.bytes as u64))
        || overlap(&place, &model.tensor(op.output()));
    before && !overwritten
}

fn overlap(a: &TensorDesc, b: &TensorDesc) -> bool {
    a.overlaps(b.offset as u64, b.elements())
}

/// Dataflow of operator `index`, whose tensors are known to be in the table.
fn check_flow(model: &Model, op: &Op, index: u16) -> Result<(), OpFault> {
    let output = op.output();
    let y = model.tensor(output);
    if output == model.manifest().input {
        return Err(OpFault::WrittenTwice(output));
    }
    for input in op.inputs() {
        let x = model.tensor(input);
        let on_it = y.offset == x.offset && y.elements() == x.elements() && op.works_in_place();
        if overlap(&x, &y) && !on_it {
            return Err(OpFault::Overlap(input));
        }
    }
    // One walk over the earlier operators for all inputs.
    let mut there = [false; MAX_CONCAT_INPUTS];
    for (there, input) in there.iter_mut().zip(op.inputs()) {
        *there = input == model.manifest().input;
    }
    for earlier in model.ops().take(index as usize) {
        if earlier.output() == output {
            return Err(OpFault::WrittenTwice(output));
        }
        for (there, input) in there.iter_mut().zip(op.inputs()) {
            *there = is_there_after(model, &earlier, input, *there);
        }
    }
    match there.iter().zip(op.inputs()).find(|(there, _)| !**there) {
        Some((_, input)) => Err(OpFault::NotThere(input)),
        None => Ok(()),
    }
}
