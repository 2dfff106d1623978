//! Operators as they stand in an image: one postcard message each, back to back.

use core::ops::Range;

use serde::{Deserialize, Serialize};

use super::elementwise::{Operand, Product, ResizeNearest, Sum};
use crate::arith::Multiplier;

/// Index into the image's tensor table.
pub type TensorId = u16;

/// A byte offset into the image's weight section.
pub type WeightOffset = u32;

/// One operator. Tensors are HWC (the batch is always one); a vector is `1 x 1 x C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op<'a> {
    /// Convolution, weights `[out_c][kh][kw][in_c / groups]` (OHWI), one row per output channel.
    Conv2d(#[serde(borrow)] Conv2d<'a>),
    /// Depthwise convolution, weights `[kh][kw][out_c]` with `out_c = in_c * multiplier`, one row
    /// per filter position.
    DepthwiseConv2d(#[serde(borrow)] Conv2d<'a>),
    /// Fully connected over the whole input in HWC order, weights `[out_c][in_h * in_w * in_c]`.
    FullyConnected(#[serde(borrow)] FullyConnected<'a>),
    /// Element-wise sum of two tensors of one shape.
    Add(Add),
    /// Largest value in each window; padding never wins.
    MaxPool(Pool),
    /// Mean of each window over the positions inside the input, rounded half away from zero.
    AveragePool(Pool),
    /// Mean over height and width, rescaled to the output's scale.
    Mean(Mean),
    /// The input inside a border of the zero point.
    Pad(Pad),
    /// Inputs side by side along one axis, each rescaled to the output's scale where they differ.
    Concat(#[serde(borrow)] Concat<'a>),
    /// The same bytes under another shape.
    Reshape(Unary),
    /// Axes of HWC reordered.
    Transpose(Transpose),
    /// The same values under another scale and zero point.
    Requantize(Requantize),
    /// A table of 256 outputs indexed by the input plus 128: any element-wise function.
    Lut(Lut),
    /// TFLite's integer softmax over channels.
    Softmax(Softmax),
    /// Element-wise product.
    Mul(Product),
    /// Element-wise difference.
    Sub(Sum),
    /// As [`Op::Add`], with operands that are repeated to the output's shape, or constant.
    BroadcastAdd(Sum),
    /// The nearest position of the input for each of the output.
    ResizeNearest(ResizeNearest),
}

/// Weights of a linear operator: packed two's complement numbers, see [`crate::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeightRef {
    /// Where the first row starts; a multiple of 4.
    pub offset: WeightOffset,
    /// Width of one weight: 2, 3, 4 or 8 bits.
    pub bits: u8,
}

/// Per-output-channel constants and the output's range. Each offset is a multiple of 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRef {
    /// `out_c` biases, i32.
    pub bias: WeightOffset,
    /// `out_c` Q31 mantissas, i32.
    pub mantissas: WeightOffset,
    /// `out_c` exponents, i8.
    pub exponents: WeightOffset,
    /// Smallest output: the fused activation's lower end.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

/// A sliding window. Padding at the bottom and right is whatever the output's shape needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Filter height and width.
    pub kernel: [u8; 2],
    /// Step down and right, at least 1.
    pub stride: [u8; 2],
    /// Distance between taps, at least 1.
    pub dilation: [u8; 2],
    /// Rows above and columns left of the input.
    pub pad: [u8; 2],
}

/// Convolution or depthwise convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conv2d<'a> {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
    /// Filter taps.
    pub window: Window,
    /// Groups of channels that see only each other (1 for a depthwise operator).
    pub groups: u16,
    /// Filter.
    pub weights: WeightRef,
    /// Bias, multipliers, range.
    pub channels: ChannelRef,
    /// Hints for optimised kernels: empty, or a [`Scratch`].
    #[serde(borrow)]
    pub hints: &'a [u8],
}

/// Working memory in the arena, which a kernel may overwrite while its operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Where it starts in the arena.
    pub offset: u32,
    /// How long it is.
    pub bytes: u32,
}

impl Scratch {
    /// Length of its bytes.
    pub const BYTES: usize = 8;

    /// As it stands in an operator's hints.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let ([a, b, c, d], [e, f, g, h]) = (self.offset.to_le_bytes(), self.bytes.to_le_bytes());
        [a, b, c, d, e, f, g, h]
    }

    /// Reads hints.
    pub fn from_bytes(b: &[u8; Self::BYTES]) -> Self {
        Self {
            offset: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            bytes: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    /// Its place in the arena.
    pub fn range(&self) -> Range<usize> {
        self.offset as usize..self.offset as usize + self.bytes as usize
    }
}

impl Conv2d<'_> {
    /// Working memory for the kernel, where the plan has some.
    pub fn scratch(&self) -> Option<Scratch> {
        self.hints.as_array().map(Scratch::from_bytes)
    }
}

/// Fully connected layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullyConnected<'a> {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
    /// Matrix.
    pub weights: WeightRef,
    /// Bias, multipliers, range.
    pub channels: ChannelRef,
    /// Hints for optimised kernels: empty, or a [`Scratch`].
    #[serde(borrow)]
    pub hints: &'a [u8],
}

impl FullyConnected<'_> {
    /// Working memory for the kernel, where the plan has some.
    pub fn scratch(&self) -> Option<Scratch> {
        self.hints.as_array().map(Scratch::from_bytes)
    }
}

/// Element-wise sum. TFLite's int8 ADD: both inputs, less their zero points, are shifted left by
/// 20, scaled to twice the larger input scale, added, and scaled to the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Add {
    /// Addends.
    pub inputs: [TensorId; 2],
    /// Output tensor.
    pub output: TensorId,
    /// Multipliers of the addends, each below one.
    pub input_multipliers: [Multiplier; 2],
    /// Multiplier of the sum.
    pub output_multiplier: Multiplier,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

impl Add {
    /// The same as an operator of any two operands.
    pub fn as_sum(&self) -> Sum {
        Sum {
            operands: self.inputs.map(Operand::Tensor),
            output: self.output,
            input_multipliers: self.input_multipliers,
            output_multiplier: self.output_multiplier,
            act_min: self.act_min,
            act_max: self.act_max,
        }
    }
}

/// Pooling; input and output share scale and zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
    /// Window.
    pub window: Window,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

/// Mean over space: `requantize(sum of (x - zero point)) + output zero point`, with the division
/// by the number of positions inside the multiplier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mean {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor, `1 x 1 x C`.
    pub output: TensorId,
    /// Input scale / (output scale * positions).
    pub multiplier: Multiplier,
}

/// Padding by the input's zero point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pad {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
    /// Elements before the input on axes H, W, C; those after follow from the output's shape.
    pub before: [u16; 3],
    /// The value of the border.
    pub value: i8,
}

/// Concatenation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Concat<'a> {
    /// Output tensor.
    pub output: TensorId,
    /// 0 = H, 1 = W, 2 = C.
    pub axis: u8,
    /// One 7-byte record an input: tensor id (u16), mantissa (i32), exponent (i8), little-endian.
    /// A mantissa of 0 copies the bytes; otherwise the input is rescaled as by [`Requantize`].
    #[serde(borrow)]
    pub inputs: &'a [u8],
}

/// One input, one output, no settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unary {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
}

/// Permutation of the axes: output axis `i` is input axis `perm[i]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transpose {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
    /// A permutation of 0, 1, 2 (H, W, C).
    pub perm: [u8; 3],
}

/// `requantize(x - input zero point) + output zero point`, clamped to int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requantize {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
    /// Input scale / output scale.
    pub multiplier: Multiplier,
}

/// Table of 256 int8 values in the weight section.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lut {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
    /// Where the table starts.
    pub table: WeightOffset,
}

/// Softmax over the last axis; the output has scale 1/256 and zero point -128.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Softmax {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
    /// Scales input differences to Q5.26 (TFLite's `input_multiplier`, with `beta`).
    pub multiplier: i32,
    /// TFLite's `input_left_shift`.
    pub left_shift: u8,
    /// Differences below this contribute nothing (TFLite's `diff_min`).
    pub diff_min: i32,
}

/// One input of a [`Concat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcatInput {
    /// The tensor.
    pub tensor: TensorId,
    /// How it gets to the output's scale; `None` copies the bytes.
    pub multiplier: Option<Multiplier>,
}

impl ConcatInput {
    /// Size of a record.
    pub const BYTES: usize = 7;

    /// The record's bytes. A multiplier with mantissa 0 cannot be told from a copy.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let [t0, t1] = self.tensor.to_le_bytes();
        let m = self.multiplier.unwrap_or(Multiplier::ZERO);
        let [m0, m1, m2, m3] = m.mantissa.to_le_bytes();
        [t0, t1, m0, m1, m2, m3, m.exponent as u8]
    }

    /// Reads a record.
    pub fn from_bytes(b: &[u8; Self::BYTES]) -> Self {
        let mantissa = i32::from_le_bytes([b[2], b[3], b[4], b[5]]);
        let multiplier = (mantissa != 0).then_some(Multiplier {
            mantissa,
            exponent: b[6] as i8,
        });
        Self {
            tensor: u16::from_le_bytes([b[0], b[1]]),
            multiplier,
        }
    }
}

impl<'a> Concat<'a> {
    /// Input `i`.
    pub fn record(&self, i: usize) -> Option<ConcatInput> {
        let records = self.inputs.as_chunks::<{ ConcatInput::BYTES }>().0;
        records.get(i).map(ConcatInput::from_bytes)
    }

    /// The inputs in order. Bytes that are not a whole record are left out.
    pub fn records(&self) -> impl Iterator<Item = ConcatInput> + Clone + use<'a> {
        self.inputs
            .as_chunks::<{ ConcatInput::BYTES }>()
            .0
            .iter()
            .map(ConcatInput::from_bytes)
    }
}

impl<'a> Op<'a> {
    /// The tensor that it writes.
    pub fn output(&self) -> TensorId {
        match self {
            Op::Conv2d(o) | Op::DepthwiseConv2d(o) => o.output,
            Op::FullyConnected(o) => o.output,
            Op::Add(o) => o.output,
            Op::MaxPool(o) | Op::AveragePool(o) => o.output,
            Op::Mean(o) => o.output,
            Op::Pad(o) => o.output,
            Op::Concat(o) => o.output,
            Op::Reshape(o) => o.output,
            Op::Transpose(o) => o.output,
            Op::Requantize(o) => o.output,
            Op::Lut(o) => o.output,
            Op::Softmax(o) => o.output,
            Op::Mul(o) => o.output,
            Op::Sub(o) | Op::BroadcastAdd(o) => o.output,
            Op::ResizeNearest(o) => o.output,
        }
    }

    /// Working memory that it may overwrite.
    pub fn scratch(&self) -> Option<Scratch> {
        match self {
            Op::Conv2d(o) | Op::DepthwiseConv2d(o) => o.scratch(),
            Op::FullyConnected(o) => o.scratch(),
            _ => None,
        }
    }

    /// The tensors that it reads, in order.
    pub fn inputs(&self) -> impl Iterator<Item = TensorId> + Clone + use<'a> {
        let op = *self;
        (0..).map_while(move |i| op.input(i))
    }

    /// The tensor that it reads as its input `i`.
    pub fn input(&self, i: usize) -> Option<TensorId> {
        let two = |o: &[Operand; 2]| {
            // Constants are no tensors, and the tensor behind one moves up.
            let [a, b] = [o[0].tensor(), o[1].tensor()];
            match (i, a) {
                (0, Some(_)) => a,
                (0, None) | (1, Some(_)) => b,
                _ => None,
            }
        };
        let one = match self {
            Op::Conv2d(o) | Op::DepthwiseConv2d(o) => o.input,
            Op::FullyConnected(o) => o.input,
            Op::Add(o) => return o.inputs.get(i).copied(),
            Op::MaxPool(o) | Op::AveragePool(o) => o.input,
            Op::Mean(o) => o.input,
            Op::Pad(o) => o.input,
            Op::Concat(o) => return o.record(i).map(|r| r.tensor),
            Op::Reshape(o) => o.input,
            Op::Transpose(o) => o.input,
            Op::Requantize(o) => o.input,
            Op::Lut(o) => o.input,
            Op::Softmax(o) => o.input,
            Op::Mul(o) => return two(&o.operands),
            Op::Sub(o) | Op::BroadcastAdd(o) => return two(&o.operands),
            Op::ResizeNearest(o) => o.input,
        };
        (i == 0).then_some(one)
    }

    /// Whether its output may take exactly the place of an input (of the same number of elements):
    /// each output element depends on the input element at the same position alone.
    pub fn works_in_place(&self) -> bool {
        matches!(
            self,
            Op::Reshape(_)
                | Op::Lut(_)
                | Op::Requantize(_)
                | Op::Add(_)
                | Op::Mul(_)
                | Op::Sub(_)
                | Op::BroadcastAdd(_)
        )
    }
}
