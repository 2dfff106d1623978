//! Operators of the float network.

/// A float tensor of weights, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// Axis lengths, see the operator.
    pub shape: Vec<usize>,
    /// Values, finite.
    pub data: Vec<f32>,
}

/// An element-wise function, alone or fused into the operator before it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x`
    Identity,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, lo), hi)`; Relu6 is `Clip { lo: 0, hi: 6 }`.
    Clip {
        /// Lower end, may be minus infinity.
        lo: f32,
        /// Upper end, may be infinity.
        hi: f32,
    },
    /// `x < 0 ? alpha * x : x`
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `x * min(max(alpha * x + beta, 0), 1)` with alpha 1/6 and beta 1/2.
    HardSwish,
    /// `min(max(alpha * x + beta, 0), 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
}

impl Activation {
    /// The function's value.
    pub fn eval(self, x: f32) -> f32 {
        match self {
            Activation::Identity => x,
            Activation::Relu => x.max(0.0),
            Activation::Clip { lo, hi } => x.max(lo).min(hi),
            Activation::LeakyRelu { alpha } => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Activation::Tanh => x.tanh(),
            Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Activation::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        }
    }

    /// `Some((lo, hi))` where the function only clamps, and so can be fused into an integer
    /// operator's output range.
    pub fn clamp_range(self) -> Option<(f32, f32)> {
        match self {
            Activation::Identity => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Activation::Relu => Some((0.0, f32::INFINITY)),
            Activation::Clip { lo, hi } => Some((lo, hi)),
            _ => None,
        }
    }
}

/// Padding of height and width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pads {
    /// Rows above.
    pub top: usize,
    /// Columns left.
    pub left: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns right.
    pub right: usize,
}

/// Convolution. Depthwise is `groups == in_c`.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2d {
    /// `[out_c, kh, kw, in_c / groups]` (OHWI).
    pub weights: Weights,
    /// One per output channel.
    pub bias: Vec<f32>,
    /// Step down, right.
    pub stride: [usize; 2],
    /// Distance between taps.
    pub dilation: [usize; 2],
    /// Zero padding.
    pub pads: Pads,
    /// Groups of channels.
    pub groups: usize,
    /// Fused function; only one with a [`Activation::clamp_range`].
    pub activation: Activation,
}

/// Fully connected layer over the input in HWC order.
#[derive(Clone, Debug, PartialEq)]
pub struct FullyConnected {
    /// `[out, in]`
    pub weights: Weights,
    /// One per output.
    pub bias: Vec<f32>,
    /// Fused function; only one with a [`Activation::clamp_range`].
    pub activation: Activation,
}

/// `scale[c] * x + shift[c]` that could be folded into no neighbour.
#[derive(Clone, Debug, PartialEq)]
pub struct Affine {
    /// One per channel.
    pub scale: Vec<f32>,
    /// One per channel.
    pub shift: Vec<f32>,
    /// Fused function; only one with a [`Activation::clamp_range`].
    pub activation: Activation,
}

/// Pooling window. Padding never counts: not as a maximum, not in a mean (a mean that counts
/// padding is an [`Op::Pad`] before an unpadded pool).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Height, width.
    pub kernel: [usize; 2],
    /// Step down, right.
    pub stride: [usize; 2],
    /// Distance between taps (1 for a mean).
    pub dilation: [usize; 2],
    /// Padding.
    pub pads: Pads,
}

/// What a node computes.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Convolution.
    Conv2d(Conv2d),
    /// Fully connected layer.
    FullyConnected(FullyConnected),
    /// Per-channel affine map.
    Affine(Affine),
    /// Sum of two values, with a fused clamp. An axis of length 1 is repeated to the other value's.
    Add {
        /// Fused function; only one with a [`Activation::clamp_range`].
        activation: Activation,
    },
    /// Difference of two values, as [`Op::Add`].
    Sub {
        /// Fused function; only one with a [`Activation::clamp_range`].
        activation: Activation,
    },
    /// Product of two values, as [`Op::Add`].
    Mul {
        /// Fused function; only one with a [`Activation::clamp_range`].
        activation: Activation,
    },
    /// A function alone.
    Activation(Activation),
    /// Maximum of each window.
    MaxPool(Pool),
    /// Mean of each window.
    AveragePool(Pool),
    /// Mean over height and width; output `[1, 1, c]`.
    GlobalAveragePool,
    /// Constant border.
    Pad {
        /// Elements before on H, W, C.
        before: [usize; 3],
        /// Elements after on H, W, C.
        after: [usize; 3],
        /// The border's value.
        value: f32,
    },
    /// Values side by side.
    Concat {
        /// 0 = H, 1 = W, 2 = C.
        axis: usize,
    },
    /// The HWC-ordered elements under another shape.
    Reshape,
    /// Output axis `i` is input axis `perm[i]`.
    Transpose {
        /// Permutation of 0, 1, 2.
        perm: [usize; 3],
    },
    /// Over all channels of each position.
    Softmax,
    /// Each row and column of the output is one of the input (nearest-neighbour resizing).
    ResizeNearest {
        /// For each row of the output, that of the input.
        rows: Vec<usize>,
        /// For each column of the output, that of the input.
        columns: Vec<usize>,
    },
}

impl Op {
    /// The operator's name, for people.
    pub fn kind(&self) -> &'static str {
        match self {
            Op::Conv2d(c) if c.groups > 1 && c.weights.shape.get(3) == Some(&1) => {
                "DepthwiseConv2d"
            }
            Op::Conv2d(_) => "Conv2d",
            Op::FullyConnected(_) => "FullyConnected",
            Op::Affine(_) => "Affine",
            Op::Add { .. } => "Add",
            Op::Activation(_) => "Activation",
            Op::MaxPool(_) => "MaxPool",
            Op::AveragePool(_) => "AveragePool",
            Op::GlobalAveragePool => "GlobalAveragePool",
            Op::Pad { .. } => "Pad",
            Op::Concat { .. } => "Concat",
            Op::Reshape => "Reshape",
            Op::Transpose { .. } => "Transpose",
            Op::Softmax => "Softmax",
            Op::Sub { .. } => "Sub",
            Op::Mul { .. } => "Mul",
            Op::ResizeNearest { .. } => "ResizeNearest",
        }
    }

    /// The weights of a linear operator.
    pub fn weights(&self) -> Option<&Weights> {
        match self {
            Op::Conv2d(c) => Some(&c.weights),
            Op::FullyConnected(f) => Some(&f.weights),
            _ => None,
        }
    }
}
