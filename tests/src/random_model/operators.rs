//! Operators without weights.

use qmend::graph::Pads;
use qmend::model::{Add, Concat, ConcatInput, Op, Pad, Pool};
use rand::prelude::*;

use super::builder::Builder;
use super::{Focus, multiplier};

impl Builder {
    pub(super) fn sum(&mut self) {
        let first = self.current;
        if self.one_in(4) {
            // One tensor twice.
        } else if self.one_in(2) {
            self.requantize();
        } else {
            self.lut();
        }
        let second = self.current;
        let (a, b) = (
            self.tensors[first.0].clone(),
            self.tensors[second.0].clone(),
        );
        let twice = 2.0 * (a.scale as f64).max(b.scale as f64);
        let spread = self.rng.random_range(0.3..3.0);
        let scale = (twice * spread) as f32;
        let zero_point = self.zero_point();
        let (act_min, act_max) = self.clamp(zero_point);
        let add = Add {
            input_multipliers: [
                multiplier(a.scale as f64 / twice),
                multiplier(b.scale as f64 / twice),
            ],
            output_multiplier: multiplier(twice / (scale as f64 * (1 << 20) as f64)),
            act_min,
            act_max,
        };
        let inputs = if self.one_in(2) {
            vec![first, second]
        } else {
            vec![second, first]
        };
        let add = if inputs[0] == first {
            add
        } else {
            let [x, y] = add.input_multipliers;
            Add {
                input_multipliers: [y, x],
                ..add
            }
        };
        let to = self.tensor(a.shape, scale, zero_point);
        self.node(Op::Add(add), inputs, to);
    }

    pub(super) fn pool(&mut self, focus: Focus) {
        let input = self.here();
        let [h, w, c] = input.shape;
        let (([kh, sh, dh, top, bottom], oh), ([kw, sw, dw, left, right], ow)) =
            (self.pool_axis(h), self.pool_axis(w));
        let (act_min, act_max) = self.clamp(input.zero_point);
        let pool = Pool {
            kernel: [kh, kw],
            stride: [sh, sw],
            dilation: [dh, dw],
            pads: Pads {
                top,
                left,
                bottom,
                right,
            },
            act_min,
            act_max,
        };
        let op = if focus == Focus::MaxPool {
            Op::MaxPool(pool)
        } else {
            Op::AveragePool(pool)
        };
        let (from, to) = (
            self.current,
            self.tensor([oh, ow, c], input.scale, input.zero_point),
        );
        self.node(op, vec![from], to);
    }

    /// As [`Self::axis`], with input in every window.
    pub(super) fn pool_axis(&mut self, size: usize) -> ([usize; 5], usize) {
        loop {
            let (axis, outputs) = self.axis(size);
            let [kernel, stride, dilation, before, _] = axis;
            let inside = |o: usize| {
                (0..kernel).any(|k| (before..before + size).contains(&(o * stride + k * dilation)))
            };
            if (0..outputs).all(inside) {
                return (axis, outputs);
            }
        }
    }

    pub(super) fn mean(&mut self) {
        let input = self.here();
        let (scale, zero_point) = (
            input.scale * self.rng.random_range(0.2..2.0f32),
            self.zero_point(),
        );
        let positions = (input.shape[0] * input.shape[1]) as f64;
        let multiplier = multiplier(input.scale as f64 / (scale as f64 * positions));
        let (from, to) = (
            self.current,
            self.tensor([1, 1, input.shape[2]], scale, zero_point),
        );
        self.node(Op::Mean { multiplier }, vec![from], to);
    }

    pub(super) fn pad(&mut self) {
        let input = self.here();
        let before = [self.range(0, 2), self.range(0, 2), self.range(0, 1)];
        let after = [self.range(0, 2), self.range(0, 2), self.range(0, 1)];
        let shape = std::array::from_fn(|i| input.shape[i] + before[i] + after[i]);
        let (from, to) = (
            self.current,
            self.tensor(shape, input.scale, input.zero_point),
        );
        self.node(
            Op::Pad(Pad {
                before,
                after,
                value: input.zero_point,
            }),
            vec![from],
            to,
        );
    }

    pub(super) fn concat(&mut self) {
        let first = self.current;
        let axis = self.range(0, 2);
        let mut parts = vec![first];
        for _ in 0..self.range(0, 2) {
            if self.one_in(2) {
                self.requantize();
            } else {
                self.lut();
            }
            parts.push(self.current);
        }
        let base = self.tensors[first.0].clone();
        let (scale, zero_point) = if self.one_in(2) {
            (base.scale, base.zero_point)
        } else {
            (self.scale(), self.zero_point())
        };
        let mut shape = base.shape;
        shape[axis] *= parts.len();
        let inputs = parts
            .iter()
            .map(|id| {
                let t = &self.tensors[id.0];
                match t.scale == scale && t.zero_point == zero_point {
                    true => ConcatInput::Copy,
                    false => ConcatInput::Rescale(multiplier(t.scale as f64 / scale as f64)),
                }
            })
            .collect();
        let to = self.tensor(shape, scale, zero_point);
        self.node(Op::Concat(Concat { axis, inputs }), parts, to);
    }

    pub(super) fn reshape(&mut self) {
        let input = self.here();
        let [h, w, c] = input.shape;
        let shapes = [[1, 1, h * w * c], [h * w, c, 1], [w, h, c], [1, h, w * c]];
        let shape = shapes[self.range(0, 3)];
        let (from, to) = (
            self.current,
            self.tensor(shape, input.scale, input.zero_point),
        );
        self.node(Op::Reshape, vec![from], to);
    }

    pub(super) fn transpose(&mut self) {
        let input = self.here();
        let mut perm = [0, 1, 2];
        perm.shuffle(&mut self.rng);
        let shape = perm.map(|p| input.shape[p]);
        let (from, to) = (
            self.current,
            self.tensor(shape, input.scale, input.zero_point),
        );
        self.node(Op::Transpose { perm }, vec![from], to);
    }

    pub(super) fn requantize(&mut self) {
        let input = self.here();
        let (scale, zero_point) = (
            input.scale * 2f32.powf(self.rng.random_range(-3.0..3.0)),
            self.zero_point(),
        );
        let multiplier = multiplier(input.scale as f64 / scale as f64);
        let (from, to) = (self.current, self.tensor(input.shape, scale, zero_point));
        self.node(Op::Requantize { multiplier }, vec![from], to);
    }

    pub(super) fn lut(&mut self) {
        let input = self.here();
        let table = Box::new(std::array::from_fn(|_| self.rng.random()));
        let (scale, zero_point) = (self.scale(), self.zero_point());
        let (from, to) = (self.current, self.tensor(input.shape, scale, zero_point));
        self.node(Op::Lut { table }, vec![from], to);
    }

    pub(super) fn softmax(&mut self) {
        let input = self.here();
        // TFLite's preparation: 5 integer bits; the format takes left shifts of up to 30.
        let real = (input.scale as f64 * (1u64 << 26) as f64).min(((1u64 << 30) - 1) as f64);
        let m = multiplier(real);
        let left_shift = m.exponent as u8;
        let radius = 31.0 * (1u64 << 26) as f64 / 2f64.powi(left_shift as i32);
        let diff_min = -(radius.floor().min(i32::MAX as f64) as i32);
        let (from, to) = (self.current, self.tensor(input.shape, 1.0 / 256.0, -128));
        self.node(
            Op::Softmax {
                multiplier: m.mantissa,
                left_shift,
                diff_min,
            },
            vec![from],
            to,
        );
    }
}
