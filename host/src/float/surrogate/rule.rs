//! How each integer operator is differentiated.

use super::linear::LinearRule;
use crate::float::kernel::Kernel;
use crate::graph;
use crate::model::{Conv2d, FullyConnected, Op, QuantizedModel, Tensor as QTensor, TensorId};
use burn_tensor::{Device, Tensor};

/// How far beyond a clamp, in units of the output's scale, counts as beyond: room for the rounding
/// of f32 sums, so that a value exactly on the clamp still passes its gradient.
const CLAMP_SLACK: f64 = 1e-3;

/// How a node's real function is differentiated.
pub(super) enum Rule {
    /// Weights: see [`LinearRule`].
    Linear(Box<LinearRule>),
    /// The sum of two real inputs of one shape, clamped.
    Sum { clamp: [f32; 2] },
    /// The same elements in the same order.
    Same,
    /// The mean over all positions, clamped.
    Mean { clamp: [f32; 2] },
    /// Real derivative at each integer input (`[q + 128]`).
    Table(Box<[f32; 256]>),
    /// By Burn's autodiff through this kernel, from real values to real values.
    Burn {
        kernel: Box<Kernel>,
        clamp: Option<[f32; 2]>,
    },
}

impl Rule {
    /// The rule of a node of a checked model, `real` being the operator that it stands for.
    pub(super) fn of(
        model: &QuantizedModel,
        index: usize,
        real: &graph::Op,
        device: &Device,
    ) -> Self {
        let node = &model.nodes[index];
        let y = model.tensor(node.output);
        let shape = |t: TensorId| model.tensor(t).shape;
        let burn = |clamp: Option<[f32; 2]>| {
            let (kernel, _) = Kernel::build(real, shape(node.inputs[0]), y.shape, device);
            Rule::Burn {
                kernel: Box::new(kernel),
                clamp,
            }
        };
        match &node.op {
            Op::Conv2d(Conv2d { linear, .. }) | Op::FullyConnected(FullyConnected { linear }) => {
                Rule::Linear(Box::new(LinearRule::of(model, index, linear)))
            }
            Op::Add(a) => Rule::Sum {
                clamp: clamp_range(y, a.act_min, a.act_max),
            },
            Op::Mean { .. } => Rule::Mean {
                clamp: clamp_range(y, i8::MIN, i8::MAX),
            },
            Op::Reshape => Rule::Same,
            Op::MaxPool(p) | Op::AveragePool(p) => burn(Some(clamp_range(y, p.act_min, p.act_max))),
            Op::Requantize { .. } | Op::Concat(_) => burn(Some(clamp_range(y, i8::MIN, i8::MAX))),
            Op::Mul(p) => burn(Some(clamp_range(y, p.act_min, p.act_max))),
            Op::Sub(s) | Op::BroadcastAdd(s) => burn(Some(clamp_range(y, s.act_min, s.act_max))),
            Op::Pad(_) | Op::Transpose { .. } | Op::Softmax { .. } | Op::ResizeNearest { .. } => {
                burn(None)
            }
            Op::Lut { table } => {
                let x = model.tensor(node.inputs[0]);
                let ratio = y.scale / x.scale;
                // Central difference, one-sided at the ends.
                let slope = |i: usize| {
                    let (a, b) = (i.saturating_sub(1), (i + 1).min(255));
                    (table[b] as f32 - table[a] as f32) / (b - a) as f32 * ratio
                };
                Rule::Table(Box::new(std::array::from_fn(slope)))
            }
        }
    }
}

/// `x` held between two real values; beyond them its gradient is zero.
pub(super) fn clamped(x: Tensor<4>, [lo, hi]: [f32; 2]) -> Tensor<4> {
    x.clamp_min(lo).clamp_max(hi)
}

/// The ends of a range of output integers as real values, a little widened.
pub(super) fn clamp_range(y: &QTensor, act_min: i8, act_max: i8) -> [f32; 2] {
    let real =
        |q: i8, slack: f64| (y.scale as f64 * (q as f64 - y.zero_point as f64 + slack)) as f32;
    [real(act_min, -CLAMP_SLACK), real(act_max, CLAMP_SLACK)]
}
