//! What must hold of an element-wise operator or a resizing by itself.

use super::check_ops::{self, ensure, largest_difference, range, scaled_sum, tensor};
use super::elementwise::{Operand, Product, ResizeNearest, Sum};
use super::error::OpFault;
use super::manifest::TensorDesc;
use super::model::Model;

/// Shapes and constants of the operands; the largest difference of each to its zero point.
fn operands(model: &Model, operands: &[Operand; 2], y: &TensorDesc) -> Result<[u64; 2], OpFault> {
    let mut largest = [0; 2];
    // On each axis one operand must be as long as the output.
    let mut filled = [false; 3];
    for (operand, largest) in operands.iter().zip(&mut largest) {
        let shape = match operand {
            Operand::Tensor(id) => {
                let x = tensor(model, *id)?;
                *largest = largest_difference(x.zero_point);
                x.shape
            }
            Operand::Constant(c) => {
                *largest = largest_difference(c.zero_point);
                ensure(c.count == 1 || c.count == y.shape[2], OpFault::Shape)?;
                range(model, c.offset, c.count as u64)?;
                [1, 1, c.count]
            }
        };
        for ((filled, x), y) in filled.iter_mut().zip(shape).zip(y.shape) {
            ensure(x == 1 || x == y, OpFault::Shape)?;
            *filled |= x == y;
        }
    }
    ensure(filled == [true; 3], OpFault::Shape)?;
    let some = operands.iter().any(|o| o.tensor().is_some());
    ensure(some, OpFault::Inputs)?;
    Ok(largest)
}

pub(super) fn product(model: &Model, o: &Product, y: &TensorDesc) -> Result<(), OpFault> {
    let [a, b] = operands(model, &o.operands, y)?;
    scaled_sum(o.multiplier, a * b, 0)?;
    ensure(o.act_min <= o.act_max, OpFault::ActivationRange)
}

pub(super) fn sum(model: &Model, o: &Sum, y: &TensorDesc) -> Result<(), OpFault> {
    operands(model, &o.operands, y)?;
    check_ops::sum(
        &o.input_multipliers,
        o.output_multiplier,
        o.act_min..=o.act_max,
    )
}

pub(super) fn resize(model: &Model, o: &ResizeNearest, y: &TensorDesc) -> Result<(), OpFault> {
    let x = tensor(model, o.input)?;
    ensure(x.shape[2] == y.shape[2], OpFault::Shape)?;
    ensure(x.zero_point == y.zero_point, OpFault::ZeroPoint)?;
    for (axis, offset) in [(0, o.rows), (1, o.columns)] {
        range(model, offset, y.shape[axis] as u64 * 2)?;
        let indices = model.indices(offset, y.shape[axis] as usize);
        ensure(
            indices
                .iter()
                .all(|i| u16::from_le_bytes(*i) < x.shape[axis]),
            OpFault::Index,
        )?;
    }
    Ok(())
}
