//! Random integer networks: every operator, every width of weights, and the edges at which
//! arithmetic goes wrong (zero points at both ends, strides, dilations, lopsided padding, groups,
//! accumulators next to 2^31, multipliers of zero, outputs clamped to a narrow range).

mod arithmetic;
mod builder;
mod linear;
mod operators;

use builder::Builder;
use qmend::model::{Multiplier, QuantizedModel};
use rand::prelude::*;

/// The operator that a random network is built around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// Convolution with any window.
    Conv,
    /// 1 x 1 convolution.
    Pointwise,
    /// Convolution in two or more groups of several channels.
    GroupedConv,
    /// Depthwise convolution.
    Depthwise,
    /// Depthwise convolution with several outputs for each input channel.
    DepthwiseMultiplier,
    /// Fully connected layer.
    FullyConnected,
    /// Sum of two tensors, or of one with itself.
    Add,
    /// Maximum pooling.
    MaxPool,
    /// Average pooling.
    AveragePool,
    /// Mean over space.
    Mean,
    /// Border.
    Pad,
    /// Concatenation on any axis.
    Concat,
    /// Another shape.
    Reshape,
    /// Axes reordered.
    Transpose,
    /// Another scale.
    Requantize,
    /// Table.
    Lut,
    /// Softmax.
    Softmax,
    /// Product of two tensors, repeated where need be, or of one and a constant.
    Mul,
    /// Difference, likewise.
    Sub,
    /// Sum of operands of different shapes, or with a constant.
    BroadcastAdd,
    /// Nearest-neighbour resizing.
    ResizeNearest,
}

impl Focus {
    /// All of them.
    pub const ALL: [Focus; 21] = [
        Focus::Conv,
        Focus::Pointwise,
        Focus::GroupedConv,
        Focus::Depthwise,
        Focus::DepthwiseMultiplier,
        Focus::FullyConnected,
        Focus::Add,
        Focus::MaxPool,
        Focus::AveragePool,
        Focus::Mean,
        Focus::Pad,
        Focus::Concat,
        Focus::Reshape,
        Focus::Transpose,
        Focus::Requantize,
        Focus::Lut,
        Focus::Softmax,
        Focus::Mul,
        Focus::Sub,
        Focus::BroadcastAdd,
        Focus::ResizeNearest,
    ];

    /// Whether it has weights.
    pub fn is_linear(self) -> bool {
        matches!(
            self,
            Focus::Conv
                | Focus::Pointwise
                | Focus::GroupedConv
                | Focus::Depthwise
                | Focus::DepthwiseMultiplier
                | Focus::FullyConnected
        )
    }
}

/// A network around one operator, with weights of `bits` bits; the same arguments give the same
/// network. The focus stands alone, or behind and before other operators, so that its tensors lie
/// in many places of the arena.
pub fn random_model(focus: Focus, bits: u8, seed: u64) -> QuantizedModel {
    let mut b = Builder::new(bits, seed);
    let others = [0, 0, 1, 2][b.rng.random_range(0..4)];
    for _ in 0..others {
        b.any();
    }
    b.add(focus);
    for _ in 0..others {
        b.any();
    }
    b.finish()
}

/// A network of `nodes` random operators, residual sums and concatenations among them.
pub fn random_network(nodes: usize, bits: u8, seed: u64) -> QuantizedModel {
    let mut b = Builder::new(bits, seed);
    for _ in 0..nodes {
        b.any();
    }
    b.finish()
}

/// The model with `n` added to the biases of every operator that stays within 32 bits: as a repair
/// would change it.
///
/// # Panics
/// Where that is none.
pub fn mended(model: &QuantizedModel, n: i32) -> QuantizedModel {
    let mut mended = model.clone();
    for i in 0..mended.nodes.len() {
        let before = mended.nodes[i].op.clone();
        if let Some(linear) = mended.nodes[i].op.linear_mut() {
            linear.bias.iter_mut().for_each(|b| *b = b.wrapping_add(n));
            if qmend::export::write_image(&mended).is_err() {
                mended.nodes[i].op = before;
            }
        }
    }
    assert!(n == 0 || mended != *model, "no bias can be changed");
    mended
}

/// `samples` inputs: noise, and both ends and a gradient of int8 among them.
pub fn random_inputs(model: &QuantizedModel, samples: usize, seed: u64) -> Vec<i8> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x1a9c);
    let len = model.tensor(model.input).elements();
    let zero = model.tensor(model.input).zero_point;
    let mut inputs = Vec::with_capacity(samples * len);
    for sample in 0..samples {
        inputs.extend((0..len).map(|i| match sample {
            1 => -128,
            2 => 127,
            3 => zero,
            4 => [-128, 127][i % 2],
            _ => rng.random::<i8>(),
        }));
    }
    inputs
}

/// The nearest multiplier of a positive real number.
pub fn multiplier(real: f64) -> Multiplier {
    let exponent = real.log2().floor() as i32 + 1;
    let mantissa = (real * 2f64.powi(31 - exponent)).round();
    match mantissa as i64 {
        m if m >= 1 << 31 => Multiplier {
            mantissa: 1 << 30,
            exponent: exponent as i8 + 1,
        },
        m => Multiplier {
            mantissa: m as i32,
            exponent: exponent as i8,
        },
    }
}
