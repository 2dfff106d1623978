//! Integer operators, weights unpacked.

use crate::graph::Pads;
use qmend_shared::arith::Multiplier;

/// Weights and per-channel constants of a linear operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Linear {
    /// One i8 a weight, **row by output channel**: `[out_c][taps]` with taps in the order
    /// `[kh][kw][in_c / groups]` for every kind (depthwise too; the image's order is the writer's
    /// business).
    pub weights: Vec<i8>,
    /// Width on the device: 2, 3, 4 or 8. Every weight is in `-2^(bits-1) ..= 2^(bits-1) - 1`.
    pub bits: u8,
    /// One per output channel, in units of input scale * weight scale.
    pub bias: Vec<i32>,
    /// One per output channel: input scale * weight scale / output scale.
    pub multipliers: Vec<Multiplier>,
    /// Smallest output (fused activation).
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

impl Linear {
    /// Number of output channels.
    pub fn out_channels(&self) -> usize {
        self.bias.len()
    }

    /// Weights of one output channel.
    pub fn taps(&self) -> usize {
        self.weights.len() / self.bias.len().max(1)
    }

    /// The weights of output channel `c`.
    pub fn row(&self, c: usize) -> &[i8] {
        let n = self.taps();
        &self.weights[c * n..(c + 1) * n]
    }

    /// Smallest and largest weight that the width can hold.
    pub fn weight_range(&self) -> (i8, i8) {
        let half = 1i16 << (self.bits - 1);
        ((-half) as i8, (half - 1) as i8)
    }
}

/// Convolution, grouped or depthwise.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    /// Height, width.
    pub kernel: [usize; 2],
    /// Step down, right.
    pub stride: [usize; 2],
    /// Distance between taps.
    pub dilation: [usize; 2],
    /// Padding by the input's zero point.
    pub pads: Pads,
    /// Groups; equal to the input's channels for a depthwise convolution.
    pub groups: usize,
    /// Weights.
    pub linear: Linear,
}

impl Conv2d {
    /// Whether every one of the input's `channels` is a group of its own.
    pub fn is_depthwise(&self, channels: usize) -> bool {
        self.groups > 1 && self.groups == channels
    }
}

/// Fully connected layer: over the whole input in HWC order, or, where its taps are as many as the
/// input's channels, over the channels of each position.
#[derive(Clone, Debug, PartialEq)]
pub struct FullyConnected {
    /// Weights.
    pub linear: Linear,
}

/// Sum of two tensors (TFLite's int8 ADD).
#[derive(Clone, Debug, PartialEq)]
pub struct Add {
    /// Input scale / (2 * larger input scale), each.
    pub input_multipliers: [Multiplier; 2],
    /// 2 * larger input scale / (2^20 * output scale).
    pub output_multiplier: Multiplier,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

/// A constant operand of an element-wise operator.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstantOperand {
    /// Which operand it is, 0 or 1. The other one is the node's only input.
    pub position: usize,
    /// One for all channels, or one a channel.
    pub values: Vec<i8>,
    /// Positive, finite.
    pub scale: f32,
    /// The integer of real zero.
    pub zero_point: i8,
}

impl ConstantOperand {
    /// The real values, one for each of so many channels.
    pub fn reals(&self, channels: usize) -> Vec<f32> {
        let real = |q: &i8| self.scale * (*q as i32 - self.zero_point as i32) as f32;
        match &self.values[..] {
            [one] => vec![real(one); channels],
            all => all.iter().map(real).collect(),
        }
    }
}

/// Product of two tensors, repeated to the output's shape where an axis is 1, or of a tensor and a
/// constant (TFLite's int8 MUL).
#[derive(Clone, Debug, PartialEq)]
pub struct Product {
    /// Product of the factors' scales / output scale.
    pub multiplier: Multiplier,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
    /// The factor that is a constant, if one is.
    pub constant: Option<ConstantOperand>,
}

/// Sum or difference of two tensors, repeated to the output's shape where an axis is 1, or of a
/// tensor and a constant (TFLite's int8 ADD and SUB).
#[derive(Clone, Debug, PartialEq)]
pub struct Sum {
    /// Multipliers, as those of [`Add`].
    pub input_multipliers: [Multiplier; 2],
    /// As that of [`Add`].
    pub output_multiplier: Multiplier,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
    /// The operand that is a constant, if one is.
    pub constant: Option<ConstantOperand>,
}

/// Pooling window.
#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    /// Height, width.
    pub kernel: [usize; 2],
    /// Step down, right.
    pub stride: [usize; 2],
    /// Distance between taps.
    pub dilation: [usize; 2],
    /// Padding that never counts.
    pub pads: Pads,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

/// Border.
#[derive(Clone, Debug, PartialEq)]
pub struct Pad {
    /// Elements before on H, W, C.
    pub before: [usize; 3],
    /// Elements after on H, W, C.
    pub after: [usize; 3],
    /// The border's integer.
    pub value: i8,
}

/// How one input of a concatenation gets to the output's scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConcatInput {
    /// Scale and zero point agree: the bytes are copied.
    Copy,
    /// Input scale / output scale.
    Rescale(Multiplier),
}

/// Concatenation.
#[derive(Clone, Debug, PartialEq)]
pub struct Concat {
    /// 0 = H, 1 = W, 2 = C.
    pub axis: usize,
    /// One per input.
    pub inputs: Vec<ConcatInput>,
}

/// What an integer node computes. See `qmend_shared::image::Op` for the arithmetic of each.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution.
    Conv2d(Conv2d),
    /// Fully connected layer.
    FullyConnected(FullyConnected),
    /// Sum.
    Add(Add),
    /// Maximum of each window.
    MaxPool(Pool),
    /// Mean of each window.
    AveragePool(Pool),
    /// Mean over height and width with rescaling: input scale / (output scale * positions).
    Mean {
        /// The multiplier.
        multiplier: Multiplier,
    },
    /// Border.
    Pad(Pad),
    /// Concatenation.
    Concat(Concat),
    /// Another shape.
    Reshape,
    /// Output axis `i` is input axis `perm[i]`.
    Transpose {
        /// Permutation of 0, 1, 2.
        perm: [usize; 3],
    },
    /// Another scale: input scale / output scale.
    Requantize {
        /// The multiplier.
        multiplier: Multiplier,
    },
    /// Output of `x` is `table[x + 128]`.
    Lut {
        /// 256 entries.
        table: Box<[i8; 256]>,
    },
    /// Softmax over channels; output scale 1/256, zero point -128.
    Softmax {
        /// See `qmend_shared::image::Softmax`.
        multiplier: i32,
        /// Left shift.
        left_shift: u8,
        /// Smallest difference that counts.
        diff_min: i32,
    },
    /// Product.
    Mul(Product),
    /// Difference.
    Sub(Sum),
    /// As [`Op::Add`], for operands of different shapes, or one that is constant.
    BroadcastAdd(Sum),
    /// Each row and column of the output is one of the input.
    ResizeNearest {
        /// For each row of the output, that of the input.
        rows: Vec<usize>,
        /// For each column of the output, that of the input.
        columns: Vec<usize>,
    },
}

impl Op {
    /// The constant operand of an element-wise operator.
    pub fn constant(&self) -> Option<&ConstantOperand> {
        match self {
            Op::Mul(p) => p.constant.as_ref(),
            Op::Sub(s) | Op::BroadcastAdd(s) => s.constant.as_ref(),
            _ => None,
        }
    }

    /// The linear part of a convolution or fully connected layer.
    pub fn linear(&self) -> Option<&Linear> {
        match self {
            Op::Conv2d(c) => Some(&c.linear),
            Op::FullyConnected(f) => Some(&f.linear),
            _ => None,
        }
    }

    /// As [`Self::linear`], to edit.
    pub fn linear_mut(&mut self) -> Option<&mut Linear> {
        match self {
            Op::Conv2d(c) => Some(&mut c.linear),
            Op::FullyConnected(f) => Some(&mut f.linear),
            _ => None,
        }
    }

    /// The operator's name, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Conv2d(c) if c.groups > 1 && c.linear.taps() == c.kernel[0] * c.kernel[1] => {
                "DepthwiseConv2d"
            }
            Op::Conv2d(_) => "Conv2d",
            Op::FullyConnected(_) => "FullyConnected",
            Op::Add(_) => "Add",
            Op::MaxPool(_) => "MaxPool",
            Op::AveragePool(_) => "AveragePool",
            Op::Mean { .. } => "Mean",
            Op::Pad(_) => "Pad",
            Op::Concat(_) => "Concat",
            Op::Reshape => "Reshape",
            Op::Transpose { .. } => "Transpose",
            Op::Requantize { .. } => "Requantize",
            Op::Lut { .. } => "Lut",
            Op::Softmax { .. } => "Softmax",
            Op::Mul(_) => "Mul",
            Op::Sub(_) => "Sub",
            Op::BroadcastAdd(_) => "BroadcastAdd",
            Op::ResizeNearest { .. } => "ResizeNearest",
        }
    }
}
