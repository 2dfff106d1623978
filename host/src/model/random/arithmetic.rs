//! Products, sums and differences with repeated or constant operands, and resizing.

use rand::Rng;

use super::Builder;
use crate::model::{ConstantOperand, Op, Product, Sum, TensorId};

impl Builder {
    /// An element-wise operator on a tensor and a constant, or two tensors of which one may be
    /// repeated.
    pub(super) fn arithmetic(&mut self, x: TensorId, kind: &str) {
        let shape = self.tensors[x.0].shape;
        let position = self.rng.random_range(0..2);
        let (mut inputs, mut constant) = (vec![x], None);
        match self.rng.random_range(0..3) {
            0 => {
                let count = if self.rng.random() { 1 } else { shape[2] };
                constant = Some(ConstantOperand {
                    position,
                    values: (0..count).map(|_| self.rng.random()).collect(),
                    scale: self.rng.random_range(0.001..0.1),
                    zero_point: self.zero_point(),
                });
            }
            1 => {
                // The last row, column, or both, repeated.
                let keep: [bool; 2] =
                    [[true, false], [false, true], [false, false]][self.rng.random_range(0..3)];
                let indices = |length: usize, keep: bool| match keep {
                    true => (0..length).collect(),
                    false => vec![length - 1],
                };
                let (rows, columns): (Vec<usize>, Vec<usize>) =
                    (indices(shape[0], keep[0]), indices(shape[1], keep[1]));
                let y = self.tensor([rows.len(), columns.len(), shape[2]], Some(x));
                self.push(Op::ResizeNearest { rows, columns }, vec![x], y);
                inputs.insert(position, y);
            }
            _ => {
                let partner = self.partner(x, None);
                inputs.insert(position, partner);
            }
        }
        let (act_min, act_max) = self.range();
        let y = self.tensor(shape, None);
        let op = if kind == "Mul" {
            Op::Mul(Product {
                multiplier: self.multiplier(-7..=-5),
                act_min,
                act_max,
                constant,
            })
        } else {
            let s = Sum {
                input_multipliers: [self.multiplier(-1..=0), self.multiplier(-4..=0)],
                output_multiplier: self.multiplier(-19..=-18),
                act_min,
                act_max,
                constant,
            };
            match kind {
                "Sub" => Op::Sub(s),
                _ => Op::BroadcastAdd(s),
            }
        };
        self.push(op, inputs, y);
    }

    /// Rows and columns of the input in any order, some of them more than once.
    pub(super) fn resize(&mut self, x: TensorId) {
        let shape = self.tensors[x.0].shape;
        let mut indices = |length: usize| -> Vec<usize> {
            let count = self.rng.random_range(1..=12);
            (0..count)
                .map(|_| self.rng.random_range(0..length))
                .collect()
        };
        let (rows, columns) = (indices(shape[0]), indices(shape[1]));
        let y = self.tensor([rows.len(), columns.len(), shape[2]], Some(x));
        self.push(Op::ResizeNearest { rows, columns }, vec![x], y);
    }
}
