//! Operators of two operands, each a tensor or a constant, and nearest-neighbour resizing.

use serde::{Deserialize, Serialize};

use super::op::{TensorId, WeightOffset};
use crate::arith::Multiplier;

/// An operand of an element-wise operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operand {
    /// A tensor; axes of length 1 are repeated to the output's.
    Tensor(TensorId),
    /// Numbers in the weight section.
    Constant(Constant),
}

impl Operand {
    /// The tensor, if it is one.
    pub fn tensor(&self) -> Option<TensorId> {
        match self {
            Operand::Tensor(id) => Some(*id),
            Operand::Constant(_) => None,
        }
    }
}

/// One int8 for all channels, or one a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constant {
    /// Where the numbers stand; a multiple of 4.
    pub offset: WeightOffset,
    /// How many: 1, or the output's channels.
    pub count: u16,
    /// The integer that stands for real zero.
    pub zero_point: i8,
    /// Bits of the f32 scale, which the device never uses.
    pub scale_bits: u32,
}

/// Element-wise product, TFLite's int8 MUL: `clamp(zy + M * ((a - za) * (b - zb)))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Factors; at least one is a tensor.
    pub operands: [Operand; 2],
    /// Output tensor.
    pub output: TensorId,
    /// Product of the factors' scales / output scale.
    pub multiplier: Multiplier,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

/// Element-wise sum or difference of operands of different shapes, as TFLite's int8 ADD and SUB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sum {
    /// Operands; at least one is a tensor.
    pub operands: [Operand; 2],
    /// Output tensor.
    pub output: TensorId,
    /// Multipliers of the operands, each below one.
    pub input_multipliers: [Multiplier; 2],
    /// Multiplier of the sum.
    pub output_multiplier: Multiplier,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

/// `y[h][w] = x[rows[h]][columns[w]]`, all channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResizeNearest {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
    /// One u16 for every row of the output: the row of the input.
    pub rows: WeightOffset,
    /// One u16 for every column of the output.
    pub columns: WeightOffset,
}
