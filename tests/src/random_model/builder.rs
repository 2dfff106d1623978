//! The network under construction.

use qmend::model::{Node, Op, Preprocess, QuantizedModel, Rounding, Tensor, TensorId};
use rand::prelude::*;

use super::Focus;

/// A network that grows at its end.
pub(super) struct Builder {
    pub(super) rng: StdRng,
    pub(super) bits: u8,
    pub(super) tensors: Vec<Tensor>,
    nodes: Vec<Node>,
    pub(super) current: TensorId,
    rounding: Rounding,
}

impl Builder {
    pub(super) fn new(bits: u8, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let shape = [
            rng.random_range(1..=9),
            rng.random_range(1..=9),
            rng.random_range(1..=9),
        ];
        let rounding = [Rounding::Tflm, Rounding::LiteRtReference][rng.random_range(0..2)];
        let mut b = Self {
            rng,
            bits,
            tensors: Vec::new(),
            nodes: Vec::new(),
            current: TensorId(0),
            rounding,
        };
        let (scale, zero_point) = (b.scale(), b.zero_point());
        b.tensor(shape, scale, zero_point);
        b
    }

    pub(super) fn finish(self) -> QuantizedModel {
        QuantizedModel {
            name: "random".into(),
            rounding: self.rounding,
            tensors: self.tensors,
            nodes: self.nodes,
            input: TensorId(0),
            output: self.current,
            preprocess: Preprocess::default(),
            labels: Vec::new(),
        }
    }

    pub(super) fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    pub(super) fn range(&mut self, from: usize, to: usize) -> usize {
        self.rng.random_range(from..=to)
    }

    pub(super) fn zero_point(&mut self) -> i8 {
        match self.range(0, 4) {
            0 => -128,
            1 => 127,
            2 => 0,
            _ => self.rng.random(),
        }
    }

    pub(super) fn scale(&mut self) -> f32 {
        2f32.powf(self.rng.random_range(-8.0..2.0))
    }

    /// A fused activation's range.
    pub(super) fn clamp(&mut self, zero_point: i8) -> (i8, i8) {
        match self.range(0, 3) {
            0 => (zero_point, 127),
            1 => {
                let (a, b): (i8, i8) = (self.rng.random(), self.rng.random());
                (a.min(b), a.max(b))
            }
            _ => (-128, 127),
        }
    }

    pub(super) fn tensor(&mut self, shape: [usize; 3], scale: f32, zero_point: i8) -> TensorId {
        let id = TensorId(self.tensors.len());
        self.tensors.push(Tensor {
            name: format!("t{}", id.0),
            shape,
            scale,
            zero_point,
        });
        id
    }

    pub(super) fn node(&mut self, op: Op, inputs: Vec<TensorId>, output: TensorId) {
        let name = format!("{}-{}", op.kind(), self.nodes.len());
        self.nodes.push(Node {
            name,
            op,
            inputs,
            output,
        });
        self.current = output;
    }

    pub(super) fn here(&self) -> Tensor {
        self.tensors[self.current.0].clone()
    }

    /// Any operator that keeps the tensors small.
    pub(super) fn any(&mut self) {
        let focus = Focus::ALL[self.range(0, Focus::ALL.len() - 1)];
        let elements = self.here().elements();
        let grows = matches!(
            focus,
            Focus::Concat | Focus::Pad | Focus::DepthwiseMultiplier | Focus::ResizeNearest
        );
        let ends = matches!(focus, Focus::Mean | Focus::FullyConnected) && !self.one_in(4);
        if (grows && elements > 1500) || ends {
            self.add(Focus::Requantize);
        } else {
            self.add(focus);
        }
    }

    pub(super) fn add(&mut self, focus: Focus) {
        match focus {
            Focus::Conv => self.conv(1, false),
            Focus::Pointwise => self.conv(1, true),
            Focus::GroupedConv => self.grouped(),
            Focus::Depthwise => self.depthwise(1),
            Focus::DepthwiseMultiplier => {
                let times = self.range(2, 3);
                self.depthwise(times);
            }
            Focus::FullyConnected => self.fully_connected(),
            Focus::Add => self.sum(),
            Focus::MaxPool | Focus::AveragePool => self.pool(focus),
            Focus::Mean => self.mean(),
            Focus::Pad => self.pad(),
            Focus::Concat => self.concat(),
            Focus::Reshape => self.reshape(),
            Focus::Transpose => self.transpose(),
            Focus::Requantize => self.requantize(),
            Focus::Lut => self.lut(),
            Focus::Softmax => self.softmax(),
            Focus::Mul | Focus::Sub | Focus::BroadcastAdd => self.arithmetic(focus),
            Focus::ResizeNearest => self.resize(),
        }
    }
}
