//! An integer network of every operator, with the directional derivatives of its definition.

use crate::float::{check, naive};
use crate::graph::{self, Activation, Pads, Weights};
use crate::model::*;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};

pub const ROWS: usize = 3;

/// An integer network, and beside each node the real operator that it stands for.
pub struct Builder {
    pub model: QuantizedModel,
    real: Vec<graph::Op>,
    /// `[ROWS][elements]` of each tensor: any integers do, whether or not a node would give them.
    pub acts: Vec<Vec<i8>>,
    pub rng: StdRng,
}

pub fn multiplier(real: f64) -> Multiplier {
    let exponent = real.log2().floor() as i32 + 1;
    let mantissa = (real * 2f64.powi(31 - exponent))
        .round()
        .min(i32::MAX as f64);
    Multiplier {
        mantissa: mantissa as i32,
        exponent: exponent as i8,
    }
}

impl Builder {
    pub fn new(input: [usize; 3], seed: u64) -> Self {
        let model = QuantizedModel {
            name: "test".into(),
            rounding: Rounding::Tflm,
            tensors: vec![],
            nodes: vec![],
            input: TensorId(0),
            output: TensorId(0),
            preprocess: Preprocess::default(),
            labels: vec![],
        };
        let mut b = Self {
            model,
            real: vec![],
            acts: vec![],
            rng: StdRng::seed_from_u64(seed),
        };
        b.tensor(input);
        b
    }

    fn tensor(&mut self, shape: [usize; 3]) -> TensorId {
        let id = TensorId(self.model.tensors.len());
        let scale = self.rng.random_range(0.01..0.1);
        let zero_point = self.rng.random_range(-60..60);
        let tensor = Tensor {
            name: format!("t{}", id.0),
            shape,
            scale,
            zero_point,
        };
        let n = tensor.elements();
        // Per channel distinct within a sample, so that no maximum is tied.
        let mut acts = vec![0; ROWS * n];
        for sample in acts.chunks_mut(n) {
            for c in 0..shape[2] {
                let mut all: Vec<i8> = (-128..=127).collect();
                all.shuffle(&mut self.rng);
                sample
                    .iter_mut()
                    .skip(c)
                    .step_by(shape[2])
                    .zip(all.iter().cycle())
                    .for_each(|(to, q)| *to = *q);
            }
        }
        self.acts.push(acts);
        self.model.tensors.push(tensor);
        id
    }

    fn node(
        &mut self,
        op: Op,
        real: graph::Op,
        inputs: &[TensorId],
        shape: [usize; 3],
    ) -> TensorId {
        let output = self.tensor(shape);
        // What only moves elements keeps their scale.
        let same = match &op {
            Op::Pad(_) | Op::Reshape | Op::Transpose { .. } | Op::ResizeNearest { .. } => Some(0),
            Op::MaxPool(_) | Op::AveragePool(_) => Some(0),
            Op::Concat(c) => c.inputs.iter().position(|i| *i == ConcatInput::Copy),
            _ => None,
        };
        if let Some(k) = same {
            let from = self.model.tensor(inputs[k]);
            let (scale, zero_point) = (from.scale, from.zero_point);
            let to = &mut self.model.tensors[output.0];
            (to.scale, to.zero_point) = (scale, zero_point);
        }
        let name = format!("n{}", self.model.nodes.len());
        self.model.nodes.push(Node {
            name,
            op,
            inputs: inputs.to_vec(),
            output,
        });
        self.model.output = output;
        self.real.push(real);
        output
    }

    /// Random weights whose accumulators go somewhat beyond int8 after scaling.
    fn linear(&mut self, out: usize, taps: usize) -> Linear {
        let r = &mut self.rng;
        let spread = 58.0 * 80.0 * (taps as f64).sqrt();
        Linear {
            weights: (0..out * taps)
                .map(|_| r.random_range(-100..=100))
                .collect(),
            bias: (0..out).map(|_| r.random_range(-5000..5000)).collect(),
            multipliers: (0..out)
                .map(|_| multiplier(r.random_range(60.0..120.0) / spread))
                .collect(),
            bits: 8,
            act_min: -100,
            act_max: 110,
        }
    }

    /// The linear operator's weights and biases in real units.
    fn real_weights(
        &self,
        l: &Linear,
        shape: Vec<usize>,
        input: TensorId,
        output_scale: f32,
    ) -> (Weights, Vec<f32>) {
        let unit = |c: usize| {
            let m = l.multipliers[c];
            m.mantissa as f64 * 2f64.powi(m.exponent as i32 - 31) * output_scale as f64
        };
        let sx = self.model.tensor(input).scale as f64;
        let data = (0..l.weights.len())
            .map(|i| (l.weights[i] as f64 * unit(i / l.taps()) / sx) as f32)
            .collect();
        let bias = l
            .bias
            .iter()
            .enumerate()
            .map(|(c, &b)| (b as f64 * unit(c)) as f32)
            .collect();
        (Weights { shape, data }, bias)
    }

    fn conv(
        &mut self,
        x: TensorId,
        filters: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        pads: Pads,
        groups: usize,
    ) -> TensorId {
        let [h, w, c] = self.model.tensor(x).shape;
        let dilation = [1, 1];
        let [oh, ow] = check::window([h, w, c], kernel, stride, dilation, pads).unwrap();
        let linear = self.linear(filters, kernel[0] * kernel[1] * c / groups);
        let op = Op::Conv2d(Conv2d {
            kernel,
            stride,
            dilation,
            pads,
            groups,
            linear: linear.clone(),
        });
        let y = self.node(op, graph::Op::Reshape, &[x], [oh, ow, filters]);
        let (weights, bias) = self.real_weights(
            &linear,
            vec![filters, kernel[0], kernel[1], c / groups],
            x,
            self.model.tensor(y).scale,
        );
        *self.real.last_mut().unwrap() = graph::Op::Conv2d(graph::Conv2d {
            weights,
            bias,
            stride,
            dilation,
            pads,
            groups,
            activation: Activation::Identity,
        });
        y
    }

    pub fn dense(&mut self, x: TensorId, out: usize) -> TensorId {
        let taps = self.model.tensor(x).elements();
        let linear = self.linear(out, taps);
        let op = Op::FullyConnected(FullyConnected {
            linear: linear.clone(),
        });
        let y = self.node(op, graph::Op::Reshape, &[x], [1, 1, out]);
        let (weights, bias) =
            self.real_weights(&linear, vec![out, taps], x, self.model.tensor(y).scale);
        *self.real.last_mut().unwrap() = graph::Op::FullyConnected(graph::FullyConnected {
            weights,
            bias,
            activation: Activation::Identity,
        });
        y
    }

    fn add(&mut self, a: TensorId, b: TensorId) -> TensorId {
        let shape = self.model.tensor(a).shape;
        let m = multiplier(0.5);
        let op = Op::Add(Add {
            input_multipliers: [m, m],
            output_multiplier: m,
            act_min: -90,
            act_max: 120,
        });
        self.node(
            op,
            graph::Op::Add {
                activation: Activation::Identity,
            },
            &[a, b],
            shape,
        )
    }

    fn pool(&mut self, x: TensorId, max: bool, pads: Pads) -> TensorId {
        let [h, w, c] = self.model.tensor(x).shape;
        let (kernel, stride, dilation) = ([3, 2], [2, 1], [1, 1]);
        let [oh, ow] = check::window([h, w, c], kernel, stride, dilation, pads).unwrap();
        let pool = Pool {
            kernel,
            stride,
            dilation,
            pads,
            act_min: -110,
            act_max: 100,
        };
        let real = graph::Pool {
            kernel,
            stride,
            dilation,
            pads,
        };
        let (op, real) = match max {
            true => (Op::MaxPool(pool), graph::Op::MaxPool(real)),
            false => (Op::AveragePool(pool), graph::Op::AveragePool(real)),
        };
        self.node(op, real, &[x], [oh, ow, c])
    }

    pub fn acts(&self) -> Vec<&[i8]> {
        self.acts.iter().map(|a| &a[..]).collect()
    }

    fn real_input(&self, t: TensorId, row: usize) -> Vec<f64> {
        let q = self.model.tensor(t);
        let n = q.elements();
        self.acts[t.0][row * n..(row + 1) * n]
            .iter()
            .map(|&v| q.scale as f64 * (v as f64 - q.zero_point as f64))
            .collect()
    }

    /// The real value of node `i` before its clamp, at exact inputs moved by `step * tangent`.
    fn moved(&self, i: usize, row: usize, tangents: &[Option<Vec<f64>>], step: f64) -> Vec<f64> {
        let node = &self.model.nodes[i];
        let inputs: Vec<Vec<f64>> = node
            .inputs
            .iter()
            .map(|&t| {
                let mut x = self.real_input(t, row);
                if let Some(d) = &tangents[t.0] {
                    x.iter_mut().zip(d).for_each(|(x, d)| *x += step * d);
                }
                x
            })
            .collect();
        let shaped: Vec<_> = inputs
            .iter()
            .zip(&node.inputs)
            .map(|(x, &t)| (&x[..], self.model.tensor(t).shape))
            .collect();
        naive::eval(&self.real[i], &shaped, self.model.tensor(node.output).shape)
    }

    fn limits(&self, i: usize) -> Option<(i8, i8)> {
        match &self.model.nodes[i].op {
            Op::Conv2d(Conv2d { linear: l, .. })
            | Op::FullyConnected(FullyConnected { linear: l }) => Some((l.act_min, l.act_max)),
            Op::Add(a) => Some((a.act_min, a.act_max)),
            Op::MaxPool(p) | Op::AveragePool(p) => Some((p.act_min, p.act_max)),
            Op::Mean { .. } | Op::Requantize { .. } | Op::Concat(_) => Some((-128, 127)),
            _ => None,
        }
    }

    /// `true` where node `i`'s value lies beyond its clamp.
    fn beyond(&self, i: usize, row: usize) -> Vec<bool> {
        let none = vec![None; self.model.tensors.len()];
        let y = self.model.tensor(self.model.nodes[i].output);
        let Some((lo, hi)) = self.limits(i) else {
            return vec![false; y.elements()];
        };
        let real = |q: i8| y.scale as f64 * (q as f64 - y.zero_point as f64);
        self.moved(i, row, &none, 0.0)
            .into_iter()
            .map(|v| v < real(lo) - 1e-9 || v > real(hi) + 1e-9)
            .collect()
    }

    /// Central differences of a table at each input; its graph operator is the identity.
    fn slopes(&self, node: &Node, table: &[i8; 256], row: usize) -> Vec<f64> {
        let (x, y) = (
            self.model.tensor(node.inputs[0]),
            self.model.tensor(node.output),
        );
        let n = x.elements();
        let slope = |q: i8| {
            let i = (q as i32 + 128) as usize;
            let (lo, hi) = (i.max(1) - 1, (i + 1).min(255));
            (table[hi] as f64 - table[lo] as f64) / (hi - lo) as f64 * (y.scale / x.scale) as f64
        };
        self.acts[node.inputs[0].0][row * n..(row + 1) * n]
            .iter()
            .map(|&q| slope(q))
            .collect()
    }

    /// Derivative of `sum(seeds * real(at))` in the direction of one pre-activation element.
    pub fn derivative(
        &self,
        node: usize,
        element: usize,
        row: usize,
        at: TensorId,
        seeds: &[f32],
    ) -> f64 {
        let mut tangents: Vec<Option<Vec<f64>>> = vec![None; self.model.tensors.len()];
        for i in node..self.model.nodes.len() {
            let n = &self.model.nodes[i];
            let mut tangent = if i == node {
                let mut t = vec![0.0; self.model.tensor(n.output).elements()];
                t[element] = 1.0;
                t
            } else if n.inputs.iter().any(|t| tangents[t.0].is_some()) {
                let step = 1e-6;
                let (a, b) = (
                    self.moved(i, row, &tangents, -step),
                    self.moved(i, row, &tangents, step),
                );
                a.iter()
                    .zip(&b)
                    .map(|(a, b)| (b - a) / (2.0 * step))
                    .collect()
            } else {
                continue;
            };
            if let Op::Lut { table } = &n.op
                && i != node
            {
                let slopes = self.slopes(n, table, row);
                tangent
                    .iter_mut()
                    .zip(slopes)
                    .for_each(|(t, slope)| *t *= slope);
            }
            tangent
                .iter_mut()
                .zip(self.beyond(i, row))
                .filter(|(_, beyond)| *beyond)
                .for_each(|(t, _)| *t = 0.0);
            tangents[n.output.0] = Some(tangent);
        }
        let n = self.model.tensor(at).elements();
        tangents[at.0].as_ref().map_or(0.0, |t| {
            t.iter()
                .zip(&seeds[row * n..])
                .map(|(t, &s)| t * s as f64)
                .sum()
        })
    }
}

/// Every operator, with two branches that meet again.
pub fn network() -> Builder {
    let mut b = Builder::new([8, 7, 3], 42);
    let x = TensorId(0);
    let same = Pads {
        top: 1,
        left: 1,
        bottom: 1,
        right: 1,
    };
    let moved = b.node(
        Op::Pad(Pad {
            before: [1, 0, 1],
            after: [0, 2, 0],
            value: 5,
        }),
        graph::Op::Pad {
            before: [1, 0, 1],
            after: [0, 2, 0],
            value: 0.0,
        },
        &[x],
        [9, 9, 4],
    );
    let a = b.conv(
        moved,
        6,
        [3, 3],
        [2, 2],
        Pads {
            top: 1,
            left: 0,
            bottom: 1,
            right: 2,
        },
        2,
    );
    let shape = b.model.tensor(a).shape;
    let depthwise = b.conv(a, 6, [3, 3], [1, 1], same, 6);
    let sum = b.add(depthwise, a);
    let doubled = b.add(sum, sum);
    let [h, w, _] = shape;
    let mut table = [0i8; 256];
    table
        .iter_mut()
        .enumerate()
        .for_each(|(i, v)| *v = ((i as f32 - 100.0) / 30.0).tanh().mul_add(90.0, 3.0) as i8);
    let bent = b.node(
        Op::Lut {
            table: Box::new(table),
        },
        graph::Op::Reshape,
        &[doubled],
        shape,
    );
    let moved = b.node(
        Op::Pad(Pad {
            before: [0, 1, 0],
            after: [1, 0, 2],
            value: 0,
        }),
        graph::Op::Pad {
            before: [0, 1, 0],
            after: [1, 0, 2],
            value: 0.0,
        },
        &[a],
        [h + 1, w + 1, 8],
    );
    let pooled = b.pool(
        moved,
        true,
        Pads {
            top: 0,
            left: 1,
            bottom: 1,
            right: 0,
        },
    );
    let averaged = b.pool(
        sum,
        false,
        Pads {
            top: 1,
            left: 0,
            bottom: 0,
            right: 1,
        },
    );
    let turned = b.node(
        Op::Transpose { perm: [2, 0, 1] },
        graph::Op::Transpose { perm: [2, 0, 1] },
        &[pooled],
        {
            let [h, w, c] = b.model.tensor(pooled).shape;
            [c, h, w]
        },
    );
    let vector = b.model.tensor(turned).elements();
    let flat = b.node(Op::Reshape, graph::Op::Reshape, &[turned], [1, 1, vector]);
    let m = multiplier(0.7);
    let smaller = b.node(
        Op::Requantize { multiplier: m },
        graph::Op::Reshape,
        &[averaged],
        b.model.tensor(averaged).shape,
    );
    let mean = b.node(
        Op::Mean { multiplier: m },
        graph::Op::GlobalAveragePool,
        &[smaller],
        [1, 1, 6],
    );
    let mean2 = b.node(
        Op::Mean { multiplier: m },
        graph::Op::GlobalAveragePool,
        &[bent],
        [1, 1, 6],
    );
    let inputs = vec![
        ConcatInput::Rescale(m),
        ConcatInput::Copy,
        ConcatInput::Rescale(m),
    ];
    let joined = b.node(
        Op::Concat(Concat { axis: 2, inputs }),
        graph::Op::Concat { axis: 2 },
        &[mean, flat, mean2],
        [1, 1, vector + 12],
    );
    let hidden = b.dense(joined, 9);
    let logits = b.dense(hidden, 5);
    let y = b.node(
        Op::Softmax {
            multiplier: 1 << 30,
            left_shift: 20,
            diff_min: -200,
        },
        graph::Op::Softmax,
        &[logits],
        [1, 1, 5],
    );
    // Softmax has a scale and a zero point of its own.
    let t = &mut b.model.tensors[y.0];
    (t.scale, t.zero_point) = (1.0 / 256.0, -128);
    b
}
