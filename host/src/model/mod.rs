//! The integer network, owned: the one place where quantized weights are edited.
//!
//! Quantizing a [`crate::graph::Graph`] yields a [`QuantizedModel`], and so does reading an image;
//! `export::image` writes it as the bytes that the device runs. Weights are unpacked here (one i8
//! each, whatever their width).

mod op;
pub mod patches;
pub mod random;

pub use op::{
    Add, Concat, ConcatInput, ConstantOperand, Conv2d, FullyConnected, Linear, Op, Pad, Pool,
    Product, Sum,
};
pub use qmend_shared::arith::{Multiplier, Rounding};

/// Index into [`QuantizedModel::tensors`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub usize);

/// An int8 activation tensor: real = scale * (q - zero_point).
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The name of the float value that it stands for.
    pub name: String,
    /// Height, width, channels.
    pub shape: [usize; 3],
    /// Positive, finite.
    pub scale: f32,
    /// The integer of real zero.
    pub zero_point: i8,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The integer nearest to a real value (ties away from zero), clamped.
    pub fn quantize(&self, real: f32) -> i8 {
        let q = (real / self.scale).round() + self.zero_point as f32;
        q.clamp(-128.0, 127.0) as i8
    }

    /// The real value of an integer.
    pub fn dequantize(&self, q: i8) -> f32 {
        self.scale * (q as i32 - self.zero_point as i32) as f32
    }
}

/// One integer operator.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The float node that it stands for (its name), or a name of its own.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<TensorId>,
    /// Result.
    pub output: TensorId,
}

/// What stands between raw data and the model's real-valued input:
/// `real = (raw * scale - mean[c]) / std[c]`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Preprocess {
    /// Factor on the raw value, 1/255 for bytes meant as 0..1.
    pub scale: f32,
    /// One per channel, or one for all, or none for zero.
    pub mean: Vec<f32>,
    /// One per channel, or one for all, or none for one.
    pub std: Vec<f32>,
}

impl Default for Preprocess {
    fn default() -> Self {
        Self {
            scale: 1.0,
            mean: Vec::new(),
            std: Vec::new(),
        }
    }
}

impl Preprocess {
    /// The real value of a raw value of channel `c`.
    pub fn apply(&self, raw: f32, c: usize) -> f32 {
        let pick = |v: &[f32], or: f32| match v {
            [] => or,
            [one] => *one,
            many => many[c],
        };
        (raw * self.scale - pick(&self.mean, 0.0)) / pick(&self.std, 1.0)
    }

    /// Whether values pass unchanged.
    pub fn is_identity(&self) -> bool {
        *self == Self::default()
    }
}

/// An integer network with one input and one output.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedModel {
    /// The network's name.
    pub name: String,
    /// How accumulators are rounded.
    pub rounding: Rounding,
    /// All activation tensors.
    pub tensors: Vec<Tensor>,
    /// Operators in execution order.
    pub nodes: Vec<Node>,
    /// Where samples enter.
    pub input: TensorId,
    /// Where results leave.
    pub output: TensorId,
    /// From raw data to real input; travels in the image's notes.
    pub preprocess: Preprocess,
    /// Class names, if known.
    pub labels: Vec<String>,
}

impl QuantizedModel {
    /// A tensor.
    pub fn tensor(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0]
    }

    /// The linear part of every node that has one, with the node's index.
    pub fn linears(&self) -> impl Iterator<Item = (usize, &Linear)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(i, n)| n.op.linear().map(|l| (i, l)))
    }

    /// As [`Self::linears`], to edit.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = (usize, &mut Linear)> {
        self.nodes
            .iter_mut()
            .enumerate()
            .filter_map(|(i, n)| n.op.linear_mut().map(|l| (i, l)))
    }

    /// Multiply-accumulates of one sample, padding included; 0 for a node without weights.
    pub fn macs(&self, node: &Node) -> usize {
        let outputs = self.tensor(node.output).elements();
        node.op.linear().map_or(0, |l| l.taps() * outputs)
    }

    /// `input scale * weight scale` of channel `c` of a linear node: the real value of one unit of
    /// its accumulator (and so of its bias).
    ///
    /// It follows from the multiplier, `M = sx * sw / sy`, so an edited multiplier is a changed
    /// weight scale.
    pub fn accumulator_scale(&self, node: usize, c: usize) -> f64 {
        let n = &self.nodes[node];
        let l = n.op.linear().expect("a linear node");
        let m = l.multipliers[c];
        m.mantissa as f64 * 2f64.powi(m.exponent as i32 - 31) * self.tensor(n.output).scale as f64
    }
}
