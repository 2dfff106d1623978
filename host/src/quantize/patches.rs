//! What a linear operator's filter sees: inputs by tap, over samples and positions.

use crate::graph::{Conv2d, Op, Pads, Shape};

/// The geometry of a linear operator, fully connected ones as a filter as large as the input.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Filter {
    pub input: Shape,
    pub output: Shape,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub pads: Pads,
    pub groups: usize,
}

impl Filter {
    /// The filter of a linear node, if it is one.
    pub(super) fn of(op: &Op, input: Shape, output: Shape) -> Option<Self> {
        match op {
            Op::Conv2d(Conv2d {
                weights,
                stride,
                dilation,
                pads,
                groups,
                ..
            }) => Some(Self {
                input,
                output,
                kernel: [weights.shape[1], weights.shape[2]],
                stride: *stride,
                dilation: *dilation,
                pads: *pads,
                groups: *groups,
            }),
            Op::FullyConnected(_) => Some(Self {
                input,
                output,
                kernel: [input[0], input[1]],
                stride: [1, 1],
                dilation: [1, 1],
                pads: Pads::default(),
                groups: 1,
            }),
            _ => None,
        }
    }

    /// Weights of one output channel: `kh * kw * in_c / groups`.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.group_channels()
    }

    /// Output positions.
    pub(super) fn positions(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn group_channels(&self) -> usize {
        self.input[2] / self.groups
    }

    /// Calls `visit(tap, index into the sample's HWC elements)` for every tap of `group` at output
    /// position `position` that lies inside the input; the others see zero.
    #[inline]
    pub(super) fn visit(&self, group: usize, position: usize, mut visit: impl FnMut(usize, usize)) {
        let [h, w, c] = self.input;
        let channels = self.group_channels();
        let (oy, ox) = (position / self.output[1], position % self.output[1]);
        for ky in 0..self.kernel[0] {
            let y = (oy * self.stride[0] + ky * self.dilation[0]).wrapping_sub(self.pads.top);
            if y >= h {
                continue;
            }
            for kx in 0..self.kernel[1] {
                let x = (ox * self.stride[1] + kx * self.dilation[1]).wrapping_sub(self.pads.left);
                if x >= w {
                    continue;
                }
                let tap = (ky * self.kernel[1] + kx) * channels;
                let at = (y * w + x) * c + group * channels;
                for i in 0..channels {
                    visit(tap + i, at + i);
                }
            }
        }
    }

    /// Mean over output positions of what each tap sees: `[group][taps]`, from the mean of each
    /// element over samples, `[h][w][c]`. (A filter is linear, so the mean of its output is its
    /// product with this.)
    pub(super) fn mean_patch(&self, mean: &[f64]) -> Vec<f64> {
        let mut patch = vec![0.0; self.groups * self.taps()];
        for (group, patch) in patch.chunks_exact_mut(self.taps()).enumerate() {
            for position in 0..self.positions() {
                self.visit(group, position, |tap, at| patch[tap] += mean[at]);
            }
            patch.iter_mut().for_each(|p| *p /= self.positions() as f64);
        }
        patch
    }
}

/// Mean over samples of `q - zero_point`, `[h][w][c]`, of `[n][h][w][c]` integers.
pub(super) fn mean_of(samples: &[i8], elements: usize, zero_point: i8) -> Vec<f64> {
    let mut sum = vec![0i64; elements];
    for sample in samples.chunks_exact(elements) {
        sum.iter_mut()
            .zip(sample)
            .for_each(|(s, &q)| *s += q as i64 - zero_point as i64);
    }
    let n = (samples.len() / elements).max(1) as f64;
    sum.into_iter().map(|s| s as f64 / n).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_patch_times_the_filter_is_the_mean_of_the_convolution() {
        let f = Filter {
            input: [4, 5, 4],
            output: [2, 3, 2],
            kernel: [3, 2],
            stride: [2, 2],
            dilation: [1, 1],
            pads: Pads {
                top: 1,
                left: 1,
                bottom: 0,
                right: 0,
            },
            groups: 2,
        };
        let x: Vec<f64> = (0..80).map(|i| ((i * 37) % 23) as f64 - 9.0).collect();
        let w: Vec<f64> = (0..f.taps()).map(|i| ((i * 5) % 7) as f64 - 3.0).collect();
        for group in 0..2 {
            let mut sum = 0.0;
            for oy in 0..2i64 {
                for ox in 0..3i64 {
                    for ky in 0..3i64 {
                        for kx in 0..2i64 {
                            let (y, xx) = (oy * 2 + ky - 1, ox * 2 + kx - 1);
                            for i in 0..2i64 {
                                if (0..4).contains(&y) && (0..5).contains(&xx) {
                                    sum += x[((y * 5 + xx) * 4 + group * 2 + i) as usize]
                                        * w[((ky * 2 + kx) * 2 + i) as usize];
                                }
                            }
                        }
                    }
                }
            }
            let patch = &f.mean_patch(&x)[group as usize * f.taps()..][..f.taps()];
            let mean: f64 = patch.iter().zip(&w).map(|(p, w)| p * w).sum();
            assert!((mean - sum / 6.0).abs() < 1e-12);
        }
    }
}
