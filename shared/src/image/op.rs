//! Operators as they stand in an image: one postcard message each, back to back.

use serde::{Deserialize, Serialize};

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
    FullyConnected(FullyConnected),
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
    /// Reserved for hints of optimised kernels; empty in this version.
    #[serde(borrow)]
    pub hints: &'a [u8],
}

/// Fully connected layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullyConnected {
    /// Input tensor.
    pub input: TensorId,
    /// Output tensor.
    pub output: TensorId,
    /// Matrix.
    pub weights: WeightRef,
    /// Bias, multipliers, range.
    pub channels: ChannelRef,
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
