//! Quantization of whole graphs.

mod faults;
mod networks;
mod real_models;

use rand::prelude::*;

use crate::calibrate::{Calibration, Method, calibrate};
use crate::float::{Backend, FloatNet};
use crate::graph::*;

/// A graph in the making, with random weights.
pub(super) struct Maker {
    pub graph: Graph,
    pub rng: StdRng,
}

impl Maker {
    pub fn new(seed: u64, input: Shape) -> Self {
        let graph = Graph {
            name: "made".into(),
            values: vec![Value {
                name: "in".into(),
                shape: input,
            }],
            nodes: vec![],
            input: ValueId(0),
            output: ValueId(0),
            input_was_nchw: false,
        };
        Self {
            graph,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Appends a node; its output becomes the graph's.
    pub fn push(&mut self, op: Op, inputs: &[ValueId], shape: Shape) -> ValueId {
        let i = self.graph.nodes.len();
        let output = ValueId(self.graph.values.len());
        self.graph.values.push(Value {
            name: format!("v{i}"),
            shape,
        });
        self.graph.nodes.push(Node {
            name: format!("n{i}"),
            op,
            inputs: inputs.to_vec(),
            output,
        });
        self.graph.output = output;
        output
    }

    pub fn random(&mut self, n: usize, reach: f32) -> Vec<f32> {
        (0..n)
            .map(|_| self.rng.random_range(-reach..reach))
            .collect()
    }

    /// Rows of bell-shaped weights that keep the variance, each row with a gain of its own.
    fn weights(&mut self, rows: usize, taps: usize) -> Vec<f32> {
        let reach = (3.0 / taps as f32).sqrt();
        let mut data = Vec::with_capacity(rows * taps);
        for _ in 0..rows {
            let gain = self.rng.random_range(0.3..1.5) * reach;
            data.extend((0..taps).map(|_| {
                gain * (0..4)
                    .map(|_| self.rng.random_range(-0.5..0.5f32))
                    .sum::<f32>()
            }));
        }
        data
    }

    /// A 3x3 convolution that keeps height and width.
    pub fn conv(
        &mut self,
        x: ValueId,
        out_c: usize,
        groups: usize,
        activation: Activation,
    ) -> ValueId {
        let [h, w, c] = self.graph.shape(x);
        let taps = 9 * c / groups;
        let op = Op::Conv2d(Conv2d {
            weights: Weights {
                shape: vec![out_c, 3, 3, c / groups],
                data: self.weights(out_c, taps),
            },
            bias: self.random(out_c, 0.3),
            stride: [1, 1],
            dilation: [1, 1],
            pads: Pads {
                top: 1,
                left: 1,
                bottom: 1,
                right: 1,
            },
            groups,
            activation,
        });
        self.push(op, &[x], [h, w, out_c])
    }

    pub fn fully_connected(&mut self, x: ValueId, out_c: usize, activation: Activation) -> ValueId {
        let taps = self.graph.elements(x);
        let op = Op::FullyConnected(FullyConnected {
            weights: Weights {
                shape: vec![out_c, taps],
                data: self.weights(out_c, taps),
            },
            bias: self.random(out_c, 0.3),
            activation,
        });
        self.push(op, &[x], [1, 1, out_c])
    }

    /// Random inputs of `n` samples, and the calibration on them.
    pub fn calibrated(&mut self, n: usize) -> (Vec<f32>, Calibration) {
        let x = self.random(n * self.graph.elements(self.graph.input), 1.0);
        let c = calibrate(&self.graph, &self.net(), &x, Method::MinMax).expect("finite");
        (x, c)
    }

    pub fn net(&self) -> FloatNet {
        FloatNet::new(&self.graph, Backend::Flex).expect("a sound graph")
    }
}
