//! From the gradient of a linear node's pre-activation to those of its weights and of its input.
//!
//! Both are products of matrices: patches of the input are laid out as columns, a block of output
//! positions at a time (Chellapilla, Puri, Simard, "High performance convolutional neural networks for
//! document processing", 2006). A depthwise convolution has a column of its own for each channel and
//! goes position by position, channels side by side.

use super::Patches;
use super::product::{View, multiply};
use rayon::prelude::*;
use std::ops::Range;

/// Numbers in a block of columns: what stays in a core's cache.
const BLOCK: usize = 64 << 10;

impl Patches {
    /// Adds `sum over rows and positions of gradient * (x - zero point)` to every weight's total,
    /// `[out_c][taps]`. `input` is `[rows][h][w][c]`, `gradient` `[rows][h][w][out_c]`.
    pub fn accumulate_weight_gradient(
        &self,
        input: &[i8],
        gradient: &[f32],
        rows: usize,
        total: &mut [f64],
    ) {
        let (per_input, per_output) = self.per_sample();
        let part = rows.div_ceil(rayon::current_num_threads()).max(1);
        let partial: Vec<Vec<f32>> = input[..rows * per_input]
            .par_chunks(part * per_input.max(1))
            .zip(gradient[..rows * per_output].par_chunks(part * per_output.max(1)))
            .map(|(input, gradient)| self.weight_gradients(input, gradient))
            .collect();
        for sum in partial {
            total.iter_mut().zip(sum).for_each(|(t, s)| *t += s as f64);
        }
    }

    /// As [`Self::accumulate_weight_gradient`] on the calling thread.
    pub fn add_weight_gradient(
        &self,
        input: &[i8],
        gradient: &[f32],
        rows: usize,
        total: &mut [f64],
    ) {
        let (per_input, per_output) = self.per_sample();
        let sum = self.weight_gradients(&input[..rows * per_input], &gradient[..rows * per_output]);
        total.iter_mut().zip(sum).for_each(|(t, s)| *t += s as f64);
    }

    /// The sum over all samples, `[out_c][taps]`.
    fn weight_gradients(&self, input: &[i8], gradient: &[f32]) -> Vec<f32> {
        let (per_input, per_output) = self.per_sample();
        let mut sum = vec![0.0; self.channels() * self.taps()];
        let mut reals: Vec<f32> = Vec::new();
        let mut columns = Vec::new();
        let some = self.samples_at_once();
        for (x, g) in input
            .chunks(some * per_input.max(1))
            .zip(gradient.chunks(some * per_output.max(1)))
        {
            reals.clear();
            reals.extend(x.iter().map(|&q| (q as i32 - self.zero_point) as f32));
            if self.is_depthwise() {
                for (x, g) in reals
                    .chunks_exact(per_input.max(1))
                    .zip(g.chunks_exact(per_output.max(1)))
                {
                    self.depthwise_weights(x, g, &mut sum);
                }
            } else {
                self.dense_weights(&reals, g, &mut columns, &mut sum);
            }
        }
        if self.is_depthwise() {
            sum = turned(&sum, self.taps(), self.channels());
        }
        sum
    }

    /// The gradient of the input's real values in units of `x`, `[rows][h][w][c]`: the sum over the
    /// outputs that see an element of gradient times weight. `weights` is `[out_c][taps]`, `gradient`
    /// `[rows][h][w][out_c]`. On the calling thread.
    pub fn input_gradient(&self, weights: &[f32], gradient: &[f32], rows: usize) -> Vec<f32> {
        let (per_input, per_output) = self.per_sample();
        let mut all = vec![0.0; rows * per_input];
        if self.is_depthwise() {
            let weights = turned(weights, self.channels(), self.taps());
            for (to, g) in all
                .chunks_exact_mut(per_input.max(1))
                .zip(gradient.chunks_exact(per_output.max(1)))
            {
                self.depthwise_input(&weights, g, to);
            }
            return all;
        }
        let mut columns = Vec::new();
        let some = self.samples_at_once();
        for (to, g) in all
            .chunks_mut(some * per_input.max(1))
            .zip(gradient.chunks(some * per_output.max(1)))
        {
            self.dense_input(weights, g, &mut columns, to);
        }
        all
    }

    /// Elements of one sample of the input and of the output.
    fn per_sample(&self) -> (usize, usize) {
        (self.input_elements(), self.positions() * self.channels())
    }

    /// Samples whose products are made together: small ones are not worth a call each.
    fn samples_at_once(&self) -> usize {
        (BLOCK / self.input_elements().max(1)).max(1)
    }

    fn is_depthwise(&self) -> bool {
        self.in_per_group == 1 && self.out_per_group == 1 && self.channels() > 1
    }

    fn groups(&self) -> usize {
        self.channels() / self.out_per_group
    }

    /// A column is the whole input of its position.
    fn is_pointwise(&self) -> bool {
        self.kernel == [1, 1]
            && self.stride == [1, 1]
            && self.groups() == 1
            && self.input == [self.output[0], self.output[1], self.in_per_group]
    }

    /// Blocks of positions, numbered through all of the samples that `gradient` is of.
    fn blocks(&self, gradient: &[f32]) -> impl Iterator<Item = Range<usize>> + use<> {
        let positions = gradient.len() / self.channels().max(1);
        let step = (BLOCK / self.taps().max(1)).max(1);
        (0..positions)
            .step_by(step)
            .map(move |p| p..(p + step).min(positions))
    }

    fn dense_weights(&self, x: &[f32], g: &[f32], columns: &mut Vec<f32>, sum: &mut [f32]) {
        let (taps, channels, m) = (self.taps(), self.channels(), self.out_per_group);
        for block in self.blocks(g) {
            for group in 0..self.groups() {
                let right = if self.is_pointwise() {
                    &x[block.start * taps..block.end * taps]
                } else {
                    self.gather_columns(x, group, block.clone(), columns);
                    &columns[..]
                };
                let left = View {
                    data: &g[block.start * channels + group * m..],
                    steps: [1, channels],
                };
                let right = View {
                    data: right,
                    steps: [taps, 1],
                };
                let to = &mut sum[group * m * taps..(group + 1) * m * taps];
                multiply(to, left, right, [m, taps, block.len()], true);
            }
        }
    }

    fn dense_input(&self, weights: &[f32], g: &[f32], columns: &mut Vec<f32>, to: &mut [f32]) {
        let (taps, channels, k) = (self.taps(), self.channels(), self.out_per_group);
        for block in self.blocks(g) {
            for group in 0..self.groups() {
                let left = View {
                    data: &g[block.start * channels + group * k..],
                    steps: [channels, 1],
                };
                let right = View {
                    data: &weights[group * k * taps..(group + 1) * k * taps],
                    steps: [taps, 1],
                };
                let form = [block.len(), taps, k];
                if self.is_pointwise() {
                    let to = &mut to[block.start * taps..block.end * taps];
                    multiply(to, left, right, form, false);
                } else {
                    columns.resize(block.len() * taps, 0.0);
                    multiply(columns, left, right, form, false);
                    self.scatter_columns(columns, group, block.clone(), to);
                }
            }
        }
    }

    /// Calls `each(start in the input, start in the column, length)` for every run of neighbours
    /// that output `position` sees; what it leaves out of the column is padding.
    fn runs(&self, group: usize, position: usize, mut each: impl FnMut(usize, usize, usize)) {
        let [h, w, c] = self.input;
        let (oy, ox) = (position / self.output[1], position % self.output[1]);
        let n = self.in_per_group;
        let joined = n == c && self.dilation[1] == 1;
        for ky in 0..self.kernel[0] {
            let Some(y) = (oy * self.stride[0] + ky * self.dilation[0])
                .checked_sub(self.pads.top)
                .filter(|y| *y < h)
            else {
                continue;
            };
            let row = ky * self.kernel[1] * n;
            let left = ox * self.stride[1];
            if joined {
                let first = self.pads.left.saturating_sub(left);
                let last = (w + self.pads.left)
                    .saturating_sub(left)
                    .min(self.kernel[1]);
                if first < last {
                    let x = left + first - self.pads.left;
                    each((y * w + x) * c, row + first * n, (last - first) * n);
                }
                continue;
            }
            for kx in 0..self.kernel[1] {
                if let Some(x) = (left + kx * self.dilation[1])
                    .checked_sub(self.pads.left)
                    .filter(|x| *x < w)
                {
                    each((y * w + x) * c + group * n, row + kx * n, n);
                }
            }
        }
    }

    /// Where the sample of a position that is numbered through all samples begins, and its position
    /// there.
    fn sample_and_position(&self, position: usize) -> (usize, usize) {
        let positions = self.positions().max(1);
        (
            position / positions * self.input_elements(),
            position % positions,
        )
    }

    fn gather_columns(&self, x: &[f32], group: usize, block: Range<usize>, columns: &mut Vec<f32>) {
        let taps = self.taps();
        columns.clear();
        columns.resize(block.len() * taps, 0.0);
        for (column, position) in columns.chunks_exact_mut(taps.max(1)).zip(block) {
            let (sample, position) = self.sample_and_position(position);
            let x = &x[sample..];
            self.runs(group, position, |from, to, n| {
                column[to..to + n].copy_from_slice(&x[from..from + n]);
            });
        }
    }

    fn scatter_columns(&self, columns: &[f32], group: usize, block: Range<usize>, to: &mut [f32]) {
        for (column, position) in columns.chunks_exact(self.taps().max(1)).zip(block) {
            let (sample, position) = self.sample_and_position(position);
            let to = &mut to[sample..];
            self.runs(group, position, |at, from, n| {
                for (t, v) in to[at..at + n].iter_mut().zip(&column[from..from + n]) {
                    *t += v;
                }
            });
        }
    }

    /// Calls `each(tap, position, start in the input)` for all that a depthwise convolution
    /// multiplies.
    fn taps_of_depthwise(&self, mut each: impl FnMut(usize, usize, usize)) {
        let [h, w, c] = self.input;
        for position in 0..self.positions() {
            let (oy, ox) = (position / self.output[1], position % self.output[1]);
            for ky in 0..self.kernel[0] {
                let Some(y) = (oy * self.stride[0] + ky * self.dilation[0])
                    .checked_sub(self.pads.top)
                    .filter(|y| *y < h)
                else {
                    continue;
                };
                for kx in 0..self.kernel[1] {
                    if let Some(x) = (ox * self.stride[1] + kx * self.dilation[1])
                        .checked_sub(self.pads.left)
                        .filter(|x| *x < w)
                    {
                        each(ky * self.kernel[1] + kx, position, (y * w + x) * c);
                    }
                }
            }
        }
    }

    /// Into `sum`, `[taps][channels]`.
    fn depthwise_weights(&self, x: &[f32], g: &[f32], sum: &mut [f32]) {
        let c = self.channels();
        self.taps_of_depthwise(|tap, position, from| {
            let g = &g[position * c..(position + 1) * c];
            for ((s, g), x) in sum[tap * c..(tap + 1) * c]
                .iter_mut()
                .zip(g)
                .zip(&x[from..from + c])
            {
                *s += g * x;
            }
        });
    }

    /// `weights` is `[taps][channels]`.
    fn depthwise_input(&self, weights: &[f32], g: &[f32], to: &mut [f32]) {
        let c = self.channels();
        self.taps_of_depthwise(|tap, position, at| {
            let g = &g[position * c..(position + 1) * c];
            for ((t, g), w) in to[at..at + c]
                .iter_mut()
                .zip(g)
                .zip(&weights[tap * c..(tap + 1) * c])
            {
                *t += g * w;
            }
        });
    }
}

/// The transpose of `[rows][columns]`.
fn turned(m: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns)
        .map(|i| m[i % rows * columns + i / rows])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Pads;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    fn geometries() -> Vec<Patches> {
        let one = Patches {
            input: [7, 9, 4],
            output: [7, 9, 6],
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Pads {
                top: 1,
                left: 1,
                bottom: 1,
                right: 1,
            },
            in_per_group: 4,
            out_per_group: 6,
            zero_point: -5,
        };
        let none = Pads::default();
        vec![
            one,
            Patches {
                output: [4, 5, 6],
                stride: [2, 2],
                ..one
            },
            // Two groups, dilated.
            Patches {
                output: [5, 7, 6],
                dilation: [2, 2],
                in_per_group: 2,
                out_per_group: 3,
                ..one
            },
            // Depthwise, and with two outputs a channel.
            Patches {
                output: [7, 9, 4],
                in_per_group: 1,
                out_per_group: 1,
                ..one
            },
            Patches {
                output: [7, 9, 8],
                in_per_group: 1,
                out_per_group: 2,
                ..one
            },
            // Pointwise, strided pointwise, a vector.
            Patches {
                kernel: [1, 1],
                pads: none,
                ..one
            },
            Patches {
                output: [4, 5, 6],
                kernel: [1, 1],
                stride: [2, 2],
                pads: none,
                ..one
            },
            Patches {
                input: [1, 1, 4],
                output: [1, 1, 6],
                kernel: [1, 1],
                pads: none,
                ..one
            },
            // A filter larger than its input, and far outside on the left.
            Patches {
                input: [2, 1, 4],
                output: [2, 4, 6],
                kernel: [3, 3],
                pads: Pads {
                    top: 1,
                    left: 4,
                    bottom: 1,
                    right: 1,
                },
                ..one
            },
        ]
    }

    #[test]
    fn gradients_of_weights_and_inputs_are_the_sums_that_define_them() {
        let mut rng = StdRng::seed_from_u64(1);
        let rows = 3;
        for p in geometries() {
            let (taps, channels, inputs) = (p.taps(), p.channels(), p.input_elements());
            let outputs = p.positions() * channels;
            let x: Vec<i8> = (0..rows * inputs).map(|_| rng.random()).collect();
            let mut random =
                |n| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
            let (g, w) = (random(rows * outputs), random(channels * taps));
            let mut got = vec![1.0; channels * taps];
            p.accumulate_weight_gradient(&x, &g, rows, &mut got);
            let mut serial = vec![1.0; channels * taps];
            p.add_weight_gradient(&x, &g, rows, &mut serial);
            let got_input = p.input_gradient(&w, &g, rows);

            // What `gather` finds for numbered inputs says which weight sees which of them.
            let mut want = vec![1.0f64; channels * taps];
            let mut want_input = vec![0.0f64; rows * inputs];
            for r in 0..rows {
                let sample = &x[r * inputs..(r + 1) * inputs];
                for c in 0..channels {
                    for t in 0..taps {
                        want[c * taps + t] +=
                            p.weight_gradient(sample, &g[r * outputs..(r + 1) * outputs], c, t);
                    }
                }
            }
            let mut patch = vec![0.0; taps];
            for i in 0..inputs {
                let mut unit = vec![p.zero_point as i8; inputs];
                unit[i] += 1;
                for position in 0..p.positions() {
                    for c in 0..channels {
                        p.gather(&unit, c, position, &mut patch);
                        for (t, _) in patch.iter().enumerate().filter(|(_, v)| **v != 0.0) {
                            for r in 0..rows {
                                want_input[r * inputs + i] += w[c * taps + t] as f64
                                    * g[r * outputs + position * channels + c] as f64;
                            }
                        }
                    }
                }
            }
            for (got, want) in got.iter().chain(&serial).zip(want.iter().chain(&want)) {
                assert!((got - want).abs() < 1e-2, "{p:?}: {got} instead of {want}");
            }
            for (got, want) in got_input.iter().zip(&want_input) {
                let close = (*got as f64 - want).abs() < 1e-4;
                assert!(close, "{p:?}: input: {got} instead of {want}");
            }
        }
    }
}
