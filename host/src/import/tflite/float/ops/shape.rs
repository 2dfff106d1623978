//! Operators that move values about: RESHAPE, SQUEEZE, EXPAND_DIMS, PAD, PADV2, CONCATENATION,
//! RESIZE_NEAREST_NEIGHBOR and TRANSPOSE.

use super::fused;
use crate::graph::{Activation, Op, ValueId};
use crate::import::tflite::float::network::Call;
use crate::import::tflite::ops::{
    concatenation_axis, hwc_paddings, hwc_permutation, nearest_indices,
};
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;

const IDENTITY: Activation = Activation::Identity;

/// Most inputs of a CONCATENATION.
const MAX_INPUTS: usize = 64;

/// The shape that the output has in the file; a second operand says the same and is not read.
pub(super) fn reshape(call: &mut Call) -> Result<(), Problem> {
    let x = call.value(0)?;
    call.emit(Op::Reshape, &[x.id], IDENTITY)
}

pub(super) fn pad(call: &mut Call) -> Result<(), Problem> {
    let x = call.value(0)?;
    let paddings = call.constant(1)?.integers()?;
    let (before, after) = hwc_paddings(&paddings, x.rank)?;
    let value = match call.operand(2) {
        None => 0.0,
        Some(_) => match call.floats(2)?.1[..] {
            [value] => value,
            _ => return Err(Problem::Damaged("its border is not one number".to_string())),
        },
    };
    let op = Op::Pad {
        before,
        after,
        value,
    };
    call.emit(op, &[x.id], IDENTITY)
}

pub(super) fn concatenation(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::CONCATENATION)?;
    let count = call.operator.inputs.len();
    if !(1..=MAX_INPUTS).contains(&count) {
        return Err(Problem::unsupported(
            format!("it joins {count} inputs"),
            format!("join 1 to {MAX_INPUTS} at a time"),
        ));
    }
    let (_, rank) = call.output_shape()?;
    let axis = concatenation_axis(options.i32(0, 0)?, rank)?;
    let mut inputs: Vec<ValueId> = Vec::new();
    for k in 0..count {
        let x = call.value(k)?;
        if x.rank != rank {
            return Err(Problem::Damaged(format!(
                "it joins inputs of {} and {rank} axes",
                x.rank
            )));
        }
        inputs.push(x.id);
    }
    let fused = fused(options.i8(1)?)?;
    call.emit(Op::Concat { axis }, &inputs, fused)
}

/// The output's shape is that of the file; a second operand says it too and is not read.
pub(super) fn resize_nearest(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::RESIZE_NEAREST_NEIGHBOR)?;
    let x = call.value(0)?;
    let (rows, columns) = nearest_indices(&options, x.shape, call.output_shape()?.0)?;
    call.emit(Op::ResizeNearest { rows, columns }, &[x.id], IDENTITY)
}

pub(super) fn transpose(call: &mut Call) -> Result<(), Problem> {
    let x = call.value(0)?;
    let perm = call.constant(1)?.integers()?;
    let perm = hwc_permutation(&perm, x.rank)?;
    call.emit(Op::Transpose { perm }, &[x.id], IDENTITY)
}
