//! Random integer networks that cover every operator, width and edge: what the engines, the image
//! and the device are compared on.
//!
//! They compute nothing sensible, but values stay spread over the int8 range, so that a wrong bit
//! anywhere reaches the output. The same seed gives the same network.

mod arithmetic;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{
    Add, Concat, ConcatInput, Conv2d, FullyConnected, Linear, Multiplier, Node, Op, Pad, Pool,
    Preprocess, QuantizedModel, Rounding, Tensor, TensorId,
};
use crate::graph::Pads;
use qmend_shared::image::OPERATORS;

/// A network of `nodes` random operators.
pub fn random_model(seed: u64, nodes: usize) -> QuantizedModel {
    let mut rng = StdRng::seed_from_u64(seed);
    let shape = [
        rng.random_range(1..10),
        rng.random_range(1..10),
        rng.random_range(1..12),
    ];
    let mut b = Builder {
        rng,
        tensors: Vec::new(),
        nodes: Vec::new(),
    };
    let input = b.tensor(shape, None);
    while b.nodes.len() < nodes {
        let kind = OPERATORS[b.rng.random_range(0..OPERATORS.len())];
        b.append(kind);
    }
    b.model(format!("random {seed}"), input)
}

/// A network around one operator of a kind of [`OPERATORS`] (the operator's second input, where it has
/// one, is made by a node before it).
///
/// # Panics
///
/// If there is no such kind.
pub fn random_operator(seed: u64, kind: &str) -> QuantizedModel {
    let mut rng = StdRng::seed_from_u64(seed);
    let shape = [
        rng.random_range(1..10),
        rng.random_range(1..10),
        rng.random_range(1..20),
    ];
    let mut b = Builder {
        rng,
        tensors: Vec::new(),
        nodes: Vec::new(),
    };
    let input = b.tensor(shape, None);
    if matches!(kind, "Add" | "Concat") {
        b.append("Lut");
    }
    b.append(kind);
    b.model(format!("{kind} {seed}"), input)
}

struct Builder {
    rng: StdRng,
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
}

impl Builder {
    fn model(mut self, name: String, input: TensorId) -> QuantizedModel {
        let rounding = if self.rng.random() {
            Rounding::Tflm
        } else {
            Rounding::LiteRtReference
        };
        QuantizedModel {
            name,
            rounding,
            output: TensorId(self.tensors.len() - 1),
            tensors: self.tensors,
            nodes: self.nodes,
            input,
            preprocess: Preprocess {
                scale: self.rng.random_range(0.001..1.0),
                mean: vec![0.5],
                std: vec![0.25],
            },
            labels: vec!["yes".into(), "nö".into()],
        }
    }

    /// A new tensor; `like` gives it another one's scale and zero point.
    fn tensor(&mut self, shape: [usize; 3], like: Option<TensorId>) -> TensorId {
        let (scale, zero_point) = match like {
            Some(id) => (self.tensors[id.0].scale, self.tensors[id.0].zero_point),
            None => (self.rng.random_range(0.001..0.1), self.zero_point()),
        };
        self.tensors.push(Tensor {
            name: format!("t{}", self.tensors.len()),
            shape,
            scale,
            zero_point,
        });
        TensorId(self.tensors.len() - 1)
    }

    fn zero_point(&mut self) -> i8 {
        match self.rng.random_range(0..5) {
            0 => -128,
            1 => 127,
            _ => self.rng.random(),
        }
    }

    fn push(&mut self, op: Op, inputs: Vec<TensorId>, output: TensorId) {
        let name = format!("{} {}", op.kind(), self.nodes.len());
        self.nodes.push(Node {
            name,
            op,
            inputs,
            output,
        });
    }

    fn range(&mut self) -> (i8, i8) {
        let (a, b): (i8, i8) = (self.rng.random(), self.rng.random());
        if self.rng.random_bool(0.7) {
            (-128, 127)
        } else {
            (a.min(b), a.max(b))
        }
    }

    fn multiplier(&mut self, exponents: std::ops::RangeInclusive<i8>) -> Multiplier {
        Multiplier {
            mantissa: self.rng.random_range(1 << 30..=i32::MAX),
            exponent: self.rng.random_range(exponents),
        }
    }

    /// Appends an operator on the newest tensor, where it can be.
    fn append(&mut self, kind: &str) {
        let x = TensorId(self.tensors.len() - 1);
        let shape = self.tensors[x.0].shape;
        match kind {
            "Conv2d" => self.convolution(x, false),
            "DepthwiseConv2d" => self.convolution(x, true),
            "FullyConnected" => {
                let outputs = self.rng.random_range(1..20);
                let linear = self.linear(
                    outputs,
                    shape.iter().product(),
                    self.tensors[x.0].zero_point,
                );
                let y = self.tensor([1, 1, outputs], None);
                self.push(Op::FullyConnected(FullyConnected { linear }), vec![x], y);
            }
            "Add" => self.add(x),
            "MaxPool" | "AveragePool" => self.pool(x, kind == "MaxPool"),
            "Mean" => {
                let y = self.tensor([1, 1, shape[2]], None);
                let positions = (shape[0] * shape[1]) as f64;
                let exponent = 1 - positions.log2().floor() as i8;
                let multiplier = self.multiplier(exponent - 1..=exponent);
                self.push(Op::Mean { multiplier }, vec![x], y);
            }
            "Pad" => {
                let mut border = || [0, 1, 2].map(|_| self.rng.random_range(0..3));
                let (before, after) = (border(), border());
                let value = if self.rng.random() {
                    self.tensors[x.0].zero_point
                } else {
                    self.rng.random()
                };
                let y = self.tensor([0, 1, 2].map(|i| before[i] + shape[i] + after[i]), Some(x));
                self.push(
                    Op::Pad(Pad {
                        before,
                        after,
                        value,
                    }),
                    vec![x],
                    y,
                );
            }
            "Concat" => self.concat(x),
            "Reshape" => {
                let [h, w, c] = shape;
                let to = [[1, 1, h * w * c], [h * w, 1, c], [1, h, w * c], [w, h, c]]
                    [self.rng.random_range(0..4)];
                let y = self.tensor(to, Some(x));
                self.push(Op::Reshape, vec![x], y);
            }
            "Transpose" => {
                let all = [
                    [0, 1, 2],
                    [0, 2, 1],
                    [1, 0, 2],
                    [1, 2, 0],
                    [2, 0, 1],
                    [2, 1, 0],
                ];
                let perm: [usize; 3] = all[self.rng.random_range(0..6)];
                let y = self.tensor(perm.map(|p| shape[p]), Some(x));
                self.push(Op::Transpose { perm }, vec![x], y);
            }
            "Requantize" => {
                let y = self.tensor(shape, None);
                let multiplier = self.multiplier(-1..=2);
                self.push(Op::Requantize { multiplier }, vec![x], y);
            }
            "Lut" => {
                let mut table = Box::new([0i8; 256]);
                self.rng.fill(&mut table[..]);
                let y = self.tensor(shape, None);
                self.push(Op::Lut { table }, vec![x], y);
            }
            "Softmax" => {
                let y = self.tensor(shape, None);
                self.tensors[y.0].scale = 1.0 / 256.0;
                self.tensors[y.0].zero_point = -128;
                let left_shift = self.rng.random_range(18..=26);
                let mantissa = self.rng.random_range(1 << 30..=i32::MAX);
                // 31 integer units of Q5.26, as TFLite computes it.
                let diff_min = -((31 << 26) >> left_shift);
                self.push(
                    Op::Softmax {
                        multiplier: mantissa,
                        left_shift,
                        diff_min,
                    },
                    vec![x],
                    y,
                );
            }
            "Mul" | "Sub" | "BroadcastAdd" => self.arithmetic(x, kind),
            "ResizeNearest" => self.resize(x),
            other => panic!("no operator is called {other}"),
        }
    }

    /// Weights, biases up to the accumulator's end, and multipliers that spread the outputs.
    fn linear(&mut self, outputs: usize, taps: usize, zero_point: i8) -> Linear {
        let bits = [2u8, 3, 4, 8][self.rng.random_range(0..4)];
        let half = 1i32 << (bits - 1);
        let extreme = self.rng.random_bool(0.2);
        let weights: Vec<i8> = (0..outputs * taps)
            .map(|_| if extreme { [-half, half - 1][self.rng.random_range(0..2)] } else { self.rng.random_range(-half..half) } as i8)
            .collect();
        let largest = (127 - zero_point as i64).max(zero_point as i64 + 128);
        let (mut bias, mut multipliers) = (Vec::new(), Vec::new());
        for c in 0..outputs {
            let sum: i64 = weights[c * taps..(c + 1) * taps]
                .iter()
                .map(|w| (*w as i64).abs())
                .sum();
            let room = i32::MAX as i64 - sum * largest;
            let spread = (half as f64 * 60.0 * (taps as f64).sqrt()) as i32;
            let (b, m) = match self.rng.random_range(0..12) {
                0 => (0, Multiplier::ZERO),
                // To the end of 32 bits, and back to the int8 range.
                1 => (
                    if self.rng.random() { room } else { -room } as i32,
                    self.multiplier(-24..=-22),
                ),
                _ => {
                    let exponent = (200.0 / spread as f64).log2().round() as i8;
                    (
                        self.rng.random_range(-spread..=spread),
                        self.multiplier(exponent - 1..=exponent + 1),
                    )
                }
            };
            bias.push(b);
            // A shift to the left must not overflow either.
            let fits =
                (b.unsigned_abs() as i64 + sum * largest) << m.exponent.max(0) <= i32::MAX as i64;
            multipliers.push(if fits {
                m
            } else {
                Multiplier { exponent: 0, ..m }
            });
        }
        let (act_min, act_max) = self.range();
        Linear {
            weights,
            bits,
            bias,
            multipliers,
            act_min,
            act_max,
        }
    }

    /// A window that fits on the shape: kernel, stride, dilation, paddings, output height and width.
    fn window(&mut self, shape: [usize; 3], pools: bool) -> ([[usize; 2]; 3], Pads, [usize; 2]) {
        let mut settings = [[1; 2]; 3];
        let mut pads = [[0; 2]; 2];
        let mut output = [0; 2];
        for axis in 0..2 {
            let kernel = self.rng.random_range(1..5);
            let stride = self.rng.random_range(1..4);
            let dilation = if self.rng.random_bool(0.3) {
                self.rng.random_range(1..4)
            } else {
                1
            };
            // A pooling window must have a tap inside, however it is dilated.
            let dilation = if pools { 1 } else { dilation };
            let extent = (kernel - 1) * dilation + 1;
            let before = self.rng.random_range(0..extent);
            let missing = (extent as i64 - (before + shape[axis]) as i64).max(0) as usize;
            let after = if pools {
                missing
            } else {
                missing + self.rng.random_range(0..extent)
            };
            settings[0][axis] = kernel;
            settings[1][axis] = stride;
            settings[2][axis] = dilation;
            pads[0][axis] = before;
            pads[1][axis] = after;
            output[axis] = (before + shape[axis] + after - extent) / stride + 1;
        }
        let pads = Pads {
            top: pads[0][0],
            left: pads[0][1],
            bottom: pads[1][0],
            right: pads[1][1],
        };
        (settings, pads, output)
    }

    fn convolution(&mut self, x: TensorId, depthwise: bool) {
        let Tensor {
            shape, zero_point, ..
        } = self.tensors[x.0];
        let ([kernel, stride, dilation], pads, [h, w]) = self.window(shape, false);
        let divisors: Vec<usize> = (1..=shape[2])
            .filter(|g| shape[2].is_multiple_of(*g))
            .collect();
        let groups = match depthwise {
            true => shape[2],
            false if self.rng.random_bool(0.3) => {
                divisors[self.rng.random_range(0..divisors.len())]
            }
            false => 1,
        };
        let per_group = if depthwise {
            self.rng.random_range(1..3)
        } else {
            self.rng.random_range(1..8)
        };
        let outputs = groups * per_group;
        let linear = self.linear(
            outputs,
            kernel[0] * kernel[1] * (shape[2] / groups),
            zero_point,
        );
        let y = self.tensor([h, w, outputs], None);
        self.push(
            Op::Conv2d(Conv2d {
                kernel,
                stride,
                dilation,
                pads,
                groups,
                linear,
            }),
            vec![x],
            y,
        );
    }

    fn pool(&mut self, x: TensorId, max: bool) {
        let shape = self.tensors[x.0].shape;
        let ([kernel, stride, dilation], pads, [h, w]) = self.window(shape, true);
        let (act_min, act_max) = self.range();
        let pool = Pool {
            kernel,
            stride,
            dilation,
            pads,
            act_min,
            act_max,
        };
        let y = self.tensor([h, w, shape[2]], Some(x));
        self.push(
            if max {
                Op::MaxPool(pool)
            } else {
                Op::AveragePool(pool)
            },
            vec![x],
            y,
        );
    }

    /// Some tensor that agrees with `x` on the axes other than `free`, `x` itself if need be.
    fn partner(&mut self, x: TensorId, free: Option<usize>) -> TensorId {
        let shape = self.tensors[x.0].shape;
        let fits = |t: &Tensor| (0..3).all(|i| Some(i) == free || t.shape[i] == shape[i]);
        let all: Vec<usize> = (0..self.tensors.len())
            .filter(|&t| fits(&self.tensors[t]))
            .collect();
        TensorId(all[self.rng.random_range(0..all.len())])
    }

    fn add(&mut self, x: TensorId) {
        let other = self.partner(x, None);
        let inputs = if self.rng.random() {
            vec![x, other]
        } else {
            vec![other, x]
        };
        let y = self.tensor(self.tensors[x.0].shape, None);
        let (act_min, act_max) = self.range();
        let add = Add {
            input_multipliers: [self.multiplier(-1..=0), self.multiplier(-4..=0)],
            output_multiplier: self.multiplier(-19..=-18),
            act_min,
            act_max,
        };
        self.push(Op::Add(add), inputs, y);
    }

    fn concat(&mut self, x: TensorId) {
        let axis = self.rng.random_range(0..3);
        let count = self.rng.random_range(0..3);
        let mut inputs = vec![x];
        inputs.extend((0..count).map(|_| self.partner(x, Some(axis))));
        let mut shape = self.tensors[x.0].shape;
        shape[axis] = inputs.iter().map(|t| self.tensors[t.0].shape[axis]).sum();
        let y = self.tensor(shape, Some(x));
        let target = (self.tensors[y.0].scale, self.tensors[y.0].zero_point);
        let same = |t: &Tensor| (t.scale, t.zero_point) == target;
        let parts = inputs
            .iter()
            .map(|t| same(&self.tensors[t.0]))
            .collect::<Vec<_>>();
        let parts = parts
            .into_iter()
            .map(|same| {
                if same {
                    ConcatInput::Copy
                } else {
                    ConcatInput::Rescale(self.multiplier(-1..=1))
                }
            })
            .collect();
        self.push(
            Op::Concat(Concat {
                axis,
                inputs: parts,
            }),
            inputs,
            y,
        );
    }
}
