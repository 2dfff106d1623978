//! Operators with weights.

use qmend::graph::Pads;
use qmend::model::{Conv2d, FullyConnected, Linear, Multiplier, Op, Tensor};
use rand::prelude::*;

use super::builder::Builder;
use super::multiplier;

impl Builder {
    /// Weights and constants of `outputs` channels of `taps` weights each.
    pub(super) fn linear(
        &mut self,
        outputs: usize,
        taps: usize,
        input: &Tensor,
        zero_point: i8,
    ) -> Linear {
        let half = 1i32 << (self.bits - 1);
        let extreme = self.one_in(5);
        let weights: Vec<i8> = (0..outputs * taps)
            .map(|_| match extreme {
                true => [-half, half - 1][self.rng.random_range(0..2)] as i8,
                false => self.rng.random_range(-half..half) as i8,
            })
            .collect();
        let zx = input.zero_point as i64;
        let reach = (127 - zx).max(zx + 128);
        // What an accumulator is like where inputs are noise.
        let typical = (taps as f64).sqrt() * half as f64 * 60.0;
        // Kernels for a processor scale ordinary channels and those at the ends in different ways.
        let plain = self.one_in(2);
        let (mut bias, mut multipliers) = (Vec::new(), Vec::new());
        for c in 0..outputs {
            let magnitudes: i64 = weights[c * taps..][..taps]
                .iter()
                .map(|&w| (w as i64).abs())
                .sum();
            let room = (1i64 << 31) - 1 - magnitudes * reach;
            assert!(
                room > 0,
                "these networks are too small to overflow by weights alone"
            );
            let sign = if self.one_in(2) { 1 } else { -1 };
            let kind = if plain { 11 } else { self.range(0, 11) };
            let (b, m) = match kind {
                // The accumulator may come within one of 2^31.
                0 => (sign * room, multiplier(100.0 / 2f64.powi(31))),
                1 => (0, Multiplier::ZERO),
                2 => (
                    sign * room,
                    Multiplier {
                        mantissa: i32::MAX,
                        exponent: -31,
                    },
                ),
                // A left shift, as far as the bound allows.
                3 => {
                    let b = sign * self.rng.random_range(0..=200);
                    let worst = b.abs() + magnitudes * reach;
                    let shift = (0..=30).rev().find(|s| worst << s < 1 << 31).unwrap_or(0);
                    let mantissa = self.rng.random_range(1 << 30..=i32::MAX);
                    (
                        b,
                        Multiplier {
                            mantissa,
                            exponent: self.rng.random_range(0..=shift) as i8,
                        },
                    )
                }
                _ => {
                    let b = (self.rng.random_range(-2.0..2.0) * typical) as i64;
                    let real = 2f64.powf(self.rng.random_range(-2.0..2.5)) * 40.0 / typical;
                    // A scale above one needs room that a large bias may not leave.
                    let m = multiplier(real.min(0.99));
                    (b.clamp(-room, room), m)
                }
            };
            bias.push(b as i32);
            multipliers.push(m);
        }
        let (act_min, act_max) = self.clamp(zero_point);
        Linear {
            weights,
            bits: self.bits,
            bias,
            multipliers,
            act_min,
            act_max,
        }
    }

    /// Kernel, stride, dilation, padding and output size along an axis of `size` elements.
    pub(super) fn axis(&mut self, size: usize) -> ([usize; 5], usize) {
        loop {
            let kernel = self.range(1, 5);
            let stride = self.range(1, 3);
            let dilation = if self.one_in(3) { 2 } else { 1 };
            let (before, after) = (self.range(0, 3), self.range(0, 3));
            let extent = (kernel - 1) * dilation + 1;
            let padded = size + before + after;
            if extent <= padded {
                let outputs = (padded - extent) / stride + 1;
                // No window may start behind the input.
                if (outputs - 1) * stride < before + size {
                    return ([kernel, stride, dilation, before, after], outputs);
                }
            }
        }
    }

    pub(super) fn conv_of(&mut self, outputs: usize, groups: usize, pointwise: bool) {
        let input = self.here();
        let [h, w, c] = input.shape;
        let (rows, columns) = if pointwise {
            (([1, 1, 1, 0, 0], h), ([1, 1, 1, 0, 0], w))
        } else {
            (self.axis(h), self.axis(w))
        };
        let ([kh, sh, dh, top, bottom], oh) = rows;
        let ([kw, sw, dw, left, right], ow) = columns;
        let (scale, zero_point) = (self.scale(), self.zero_point());
        let linear = self.linear(outputs, kh * kw * (c / groups), &input, zero_point);
        let conv = Conv2d {
            kernel: [kh, kw],
            stride: [sh, sw],
            dilation: [dh, dw],
            pads: Pads {
                top,
                left,
                bottom,
                right,
            },
            groups,
            linear,
        };
        let (from, to) = (
            self.current,
            self.tensor([oh, ow, outputs], scale, zero_point),
        );
        self.node(Op::Conv2d(conv), vec![from], to);
    }

    pub(super) fn conv(&mut self, groups: usize, pointwise: bool) {
        let outputs = self.outputs();
        self.conv_of(outputs, groups, pointwise);
    }

    /// Output channels: few, mostly.
    fn outputs(&mut self) -> usize {
        let most = if self.one_in(4) { 67 } else { 9 };
        self.range(1, most)
    }

    pub(super) fn grouped(&mut self) {
        // Brings the channels to a multiple of the groups first.
        let (groups, per_group) = (self.range(2, 3), self.range(2, 4));
        self.conv_of(groups * per_group, 1, true);
        let outputs = groups * self.range(1, 3);
        self.conv_of(outputs, groups, false);
    }

    pub(super) fn depthwise(&mut self, times: usize) {
        let channels = self.here().shape[2];
        self.conv_of(channels * times, channels, false);
    }

    pub(super) fn fully_connected(&mut self) {
        let input = self.here();
        let outputs = self.outputs();
        let (scale, zero_point) = (self.scale(), self.zero_point());
        let linear = self.linear(outputs, input.elements(), &input, zero_point);
        let (from, to) = (
            self.current,
            self.tensor([1, 1, outputs], scale, zero_point),
        );
        self.node(
            Op::FullyConnected(FullyConnected { linear }),
            vec![from],
            to,
        );
    }
}
