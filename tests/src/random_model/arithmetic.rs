//! Products, sums and differences with repeated or constant operands, and resizing.

use qmend::model::{ConstantOperand, Op, Product, Sum, Tensor, TensorId};
use rand::prelude::*;

use super::builder::Builder;
use super::{Focus, multiplier};

/// An operand: its shape, scale and zero point.
struct Operand {
    scale: f32,
    zero_point: i8,
}

impl Builder {
    pub(super) fn arithmetic(&mut self, focus: Focus) {
        let first = self.current;
        let x = self.here();
        let (mut inputs, mut constant) = (vec![first], None);
        let position = self.range(0, 1);
        let other = match self.range(0, 3) {
            0 => {
                let count = if self.one_in(2) { 1 } else { x.shape[2] };
                let c = ConstantOperand {
                    position,
                    values: (0..count).map(|_| self.rng.random()).collect(),
                    scale: self.scale(),
                    zero_point: self.zero_point(),
                };
                let operand = Operand {
                    scale: c.scale,
                    zero_point: c.zero_point,
                };
                constant = Some(c);
                operand
            }
            1 => {
                // One number a channel, repeated over height and width.
                self.mean();
                self.operand(position, &mut inputs)
            }
            2 if focus != Focus::BroadcastAdd => {
                if self.one_in(3) {
                    // One tensor twice.
                } else if self.one_in(2) {
                    self.requantize();
                } else {
                    self.lut();
                }
                self.operand(position, &mut inputs)
            }
            _ => {
                // Some rows or columns of the first, repeated.
                let mut rows: Vec<usize> = (0..x.shape[0]).collect();
                let mut columns: Vec<usize> = (0..x.shape[1]).collect();
                let keep_rows = self.one_in(2);
                let shortened = if keep_rows { &mut columns } else { &mut rows };
                let one = shortened[self.rng.random_range(0..shortened.len())];
                *shortened = vec![one];
                let shape = [rows.len(), columns.len(), x.shape[2]];
                let to = self.tensor(shape, x.scale, x.zero_point);
                self.node(Op::ResizeNearest { rows, columns }, vec![first], to);
                self.operand(position, &mut inputs)
            }
        };
        self.emit(focus, &x, &other, inputs, constant, position);
    }

    /// The newest tensor as the other operand.
    fn operand(&mut self, position: usize, inputs: &mut Vec<TensorId>) -> Operand {
        let t = self.here();
        inputs.insert(position, self.current);
        Operand {
            scale: t.scale,
            zero_point: t.zero_point,
        }
    }

    fn emit(
        &mut self,
        focus: Focus,
        x: &Tensor,
        other: &Operand,
        inputs: Vec<TensorId>,
        constant: Option<ConstantOperand>,
        position: usize,
    ) {
        let mut scales = [x.scale as f64; 2];
        scales[position] = other.scale as f64;
        let zero_point = self.zero_point();
        let (act_min, act_max) = self.clamp(zero_point);
        let spread: f64 = self.rng.random_range(0.3..3.0);
        let (op, scale) = if focus == Focus::Mul {
            let reach = |z: i8| (127 - z as i32).max(z as i32 + 128) as f64;
            let scale = scales[0] * scales[1] * reach(other.zero_point) * spread;
            let p = Product {
                multiplier: multiplier(scales[0] * scales[1] / scale),
                act_min,
                act_max,
                constant,
            };
            (Op::Mul(p), scale)
        } else {
            let twice = 2.0 * scales[0].max(scales[1]);
            let scale = twice * spread;
            let s = Sum {
                input_multipliers: scales.map(|s| multiplier(s / twice)),
                output_multiplier: multiplier(twice / (scale * (1 << 20) as f64)),
                act_min,
                act_max,
                constant,
            };
            let op = if focus == Focus::Sub {
                Op::Sub(s)
            } else {
                Op::BroadcastAdd(s)
            };
            (op, scale)
        };
        let to = self.tensor(x.shape, scale as f32, zero_point);
        self.node(op, inputs, to);
    }

    pub(super) fn resize(&mut self) {
        let x = self.here();
        let mut indices = |length: usize| -> Vec<usize> {
            let count = self.range(1, (2 * length).min(12));
            if self.one_in(2) {
                (0..count).map(|o| o * length / count).collect()
            } else {
                (0..count).map(|_| self.range(0, length - 1)).collect()
            }
        };
        let (rows, columns) = (indices(x.shape[0]), indices(x.shape[1]));
        let (from, to) = (
            self.current,
            self.tensor(
                [rows.len(), columns.len(), x.shape[2]],
                x.scale,
                x.zero_point,
            ),
        );
        self.node(Op::ResizeNearest { rows, columns }, vec![from], to);
    }
}
