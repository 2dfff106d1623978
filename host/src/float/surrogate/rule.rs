//! How each integer operator is differentiated.

use crate::model::{Conv2d, FullyConnected, Op, QuantizedModel, Tensor as QTensor};
use burn_tensor::{Device, Tensor, TensorData};

/// How far beyond a clamp, in units of the output's scale, counts as beyond: room for the rounding
/// of f32 sums, so that a value exactly on the clamp still passes its gradient.
const CLAMP_SLACK: f64 = 1e-3;

/// How a node's real function is put together.
pub(super) enum Rule {
    /// The kernel takes `q - zero_point` and gives the accumulator; times `[1, out_c, 1, 1]` real
    /// values of one unit, it is the pre-activation.
    Linear {
        unit: Box<Tensor<4>>,
        clamp: [f32; 2],
    },
    /// The kernel takes and gives real values.
    Real { clamp: Option<[f32; 2]> },
    /// Real derivative at each integer input (`[q + 128]`).
    Table(Box<[f32; 256]>),
}

impl Rule {
    /// The rule of a node of a checked model.
    pub(super) fn of(model: &QuantizedModel, index: usize, device: &Device) -> Self {
        let node = &model.nodes[index];
        let y = model.tensor(node.output);
        match &node.op {
            Op::Conv2d(Conv2d { linear, .. }) | Op::FullyConnected(FullyConnected { linear }) => {
                let channels = linear.out_channels();
                let unit = (0..channels)
                    .map(|c| model.accumulator_scale(index, c) as f32)
                    .collect::<Vec<_>>();
                Rule::Linear {
                    unit: Box::new(Tensor::from_data(
                        TensorData::new(unit, [1, channels, 1, 1]),
                        device,
                    )),
                    clamp: clamp_range(y, linear.act_min, linear.act_max),
                }
            }
            Op::Add(a) => Rule::Real {
                clamp: Some(clamp_range(y, a.act_min, a.act_max)),
            },
            Op::MaxPool(p) | Op::AveragePool(p) => Rule::Real {
                clamp: Some(clamp_range(y, p.act_min, p.act_max)),
            },
            Op::Mean { .. } | Op::Requantize { .. } | Op::Concat(_) => Rule::Real {
                clamp: Some(clamp_range(y, i8::MIN, i8::MAX)),
            },
            Op::Mul(p) => Rule::Real {
                clamp: Some(clamp_range(y, p.act_min, p.act_max)),
            },
            Op::Sub(s) | Op::BroadcastAdd(s) => Rule::Real {
                clamp: Some(clamp_range(y, s.act_min, s.act_max)),
            },
            Op::Pad(_)
            | Op::Reshape
            | Op::Transpose { .. }
            | Op::Softmax { .. }
            | Op::ResizeNearest { .. } => Rule::Real { clamp: None },
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
fn clamp_range(y: &QTensor, act_min: i8, act_max: i8) -> [f32; 2] {
    let real =
        |q: i8, slack: f64| (y.scale as f64 * (q as f64 - y.zero_point as f64 + slack)) as f32;
    [real(act_min, -CLAMP_SLACK), real(act_max, CLAMP_SLACK)]
}
