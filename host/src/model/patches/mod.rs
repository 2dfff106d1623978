//! What each weight of a linear node is multiplied with: its inputs, position by position, and the
//! gradients that follow from it ([`gradient`]).

mod gradient;
mod product;

use crate::graph::Pads;
use crate::model::{Op, QuantizedModel};
use rayon::prelude::*;

/// The geometry of a linear node; a fully connected layer is a convolution with one position.
#[derive(Clone, Copy, Debug)]
pub struct Patches {
    input: [usize; 3],
    output: [usize; 3],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    pads: Pads,
    /// Input channels that one output channel sees.
    in_per_group: usize,
    /// Output channels in one group.
    out_per_group: usize,
    zero_point: i32,
}

impl Patches {
    /// The geometry of node `node`, which must be linear.
    pub fn of(model: &QuantizedModel, node: usize) -> Self {
        let n = &model.nodes[node];
        let tensor = model.tensor(n.inputs[0]);
        let output = model.tensor(n.output).shape;
        let zero_point = tensor.zero_point as i32;
        match &n.op {
            Op::Conv2d(c) => Self {
                input: tensor.shape,
                output,
                kernel: c.kernel,
                stride: c.stride,
                dilation: c.dilation,
                pads: c.pads,
                in_per_group: tensor.shape[2] / c.groups,
                out_per_group: output[2] / c.groups,
                zero_point,
            },
            // One layer for every position is a convolution of one tap.
            Op::FullyConnected(_) if output[0] * output[1] > 1 => Self {
                input: tensor.shape,
                output,
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pads: Pads::default(),
                in_per_group: tensor.shape[2],
                out_per_group: output[2],
                zero_point,
            },
            Op::FullyConnected(_) => Self {
                input: [1, 1, tensor.elements()],
                output: [1, 1, output.iter().product()],
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pads: Pads::default(),
                in_per_group: tensor.elements(),
                out_per_group: output.iter().product(),
                zero_point,
            },
            other => unreachable!("{} has no weights", other.kind()),
        }
    }

    /// Weights of one output channel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.in_per_group
    }

    /// Output positions of one sample.
    pub fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.output[2]
    }

    /// Input elements of one sample.
    pub fn input_elements(&self) -> usize {
        self.input.iter().product()
    }

    /// `x - zero point` for every tap of `channel` at output `position` of one sample, into `out`
    /// (`taps` numbers; padding gives 0).
    pub fn gather(&self, sample: &[i8], channel: usize, position: usize, out: &mut [f32]) {
        let group = channel / self.out_per_group;
        let (oy, ox) = (position / self.output[1], position % self.output[1]);
        let mut at = 0;
        for ky in 0..self.kernel[0] {
            let y = (oy * self.stride[0] + ky * self.dilation[0])
                .checked_sub(self.pads.top)
                .filter(|y| *y < self.input[0]);
            for kx in 0..self.kernel[1] {
                let x = (ox * self.stride[1] + kx * self.dilation[1])
                    .checked_sub(self.pads.left)
                    .filter(|x| *x < self.input[1]);
                let to = &mut out[at..at + self.in_per_group];
                at += self.in_per_group;
                match (y, x) {
                    (Some(y), Some(x)) => {
                        let start =
                            (y * self.input[1] + x) * self.input[2] + group * self.in_per_group;
                        for (to, &q) in to.iter_mut().zip(&sample[start..start + self.in_per_group])
                        {
                            *to = (q as i32 - self.zero_point) as f32;
                        }
                    }
                    _ => to.fill(0.0),
                }
            }
        }
    }

    /// `sum over positions of gradient * (x - zero point)` for one weight and one sample.
    pub fn weight_gradient(
        &self,
        sample: &[i8],
        gradient: &[f32],
        channel: usize,
        tap: usize,
    ) -> f64 {
        let group = channel / self.out_per_group;
        let ic = tap % self.in_per_group;
        let kx = tap / self.in_per_group % self.kernel[1];
        let ky = tap / self.in_per_group / self.kernel[1];
        let channels = self.channels();
        let mut sum = 0.0;
        for oy in 0..self.output[0] {
            let Some(y) = (oy * self.stride[0] + ky * self.dilation[0]).checked_sub(self.pads.top)
            else {
                continue;
            };
            if y >= self.input[0] {
                continue;
            }
            for ox in 0..self.output[1] {
                let Some(x) =
                    (ox * self.stride[1] + kx * self.dilation[1]).checked_sub(self.pads.left)
                else {
                    continue;
                };
                if x >= self.input[1] {
                    continue;
                }
                let g = gradient[(oy * self.output[1] + ox) * channels + channel];
                let q = sample
                    [(y * self.input[1] + x) * self.input[2] + group * self.in_per_group + ic];
                sum += g as f64 * (q as i32 - self.zero_point) as f64;
            }
        }
        sum
    }

    /// Mean of `x - zero point` that each weight sees over some samples, `[out_c][taps]`.
    pub fn means(&self, input: &[i8], samples: usize) -> Vec<f32> {
        let taps = self.taps();
        let per_input = self.input_elements();
        let groups: Vec<Vec<f32>> = (0..self.channels() / self.out_per_group)
            .into_par_iter()
            .map(|group| {
                let mut sum = vec![0.0f64; taps];
                let mut patch = vec![0.0f32; taps];
                for sample in input.chunks_exact(per_input.max(1)).take(samples) {
                    for position in 0..self.positions() {
                        self.gather(sample, group * self.out_per_group, position, &mut patch);
                        sum.iter_mut()
                            .zip(&patch)
                            .for_each(|(s, &x)| *s += x as f64);
                    }
                }
                let n = (samples * self.positions()).max(1) as f64;
                sum.iter().map(|s| (s / n) as f32).collect()
            })
            .collect();
        (0..self.channels())
            .flat_map(|c| groups[c / self.out_per_group].iter().copied())
            .collect()
    }
}
