//! Random integer networks: every operator, every width of weights, and the edges at which
//! arithmetic goes wrong (zero points at both ends, strides, dilations, lopsided padding, groups,
//! accumulators next to 2^31, multipliers of zero, outputs clamped to a narrow range).

use qmend::graph::Pads;
use qmend::model::{
    Add, Concat, ConcatInput, Conv2d, FullyConnected, Linear, Multiplier, Node, Op, Pad, Pool,
    Preprocess, QuantizedModel, Rounding, Tensor, TensorId,
};
use rand::prelude::*;

/// The operator that a random network is built around.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Focus {
    /// Convolution with any window.
    Conv,
    /// 1 x 1 convolution.
    Pointwise,
    /// Convolution in two or more groups of several channels.
    GroupedConv,
    /// Depthwise convolution.
    Depthwise,
    /// Depthwise convolution with several outputs for each input channel.
    DepthwiseMultiplier,
    /// Fully connected layer.
    FullyConnected,
    /// Sum of two tensors, or of one with itself.
    Add,
    /// Maximum pooling.
    MaxPool,
    /// Average pooling.
    AveragePool,
    /// Mean over space.
    Mean,
    /// Border.
    Pad,
    /// Concatenation on any axis.
    Concat,
    /// Another shape.
    Reshape,
    /// Axes reordered.
    Transpose,
    /// Another scale.
    Requantize,
    /// Table.
    Lut,
    /// Softmax.
    Softmax,
}

impl Focus {
    /// All of them.
    pub const ALL: [Focus; 17] = [
        Focus::Conv,
        Focus::Pointwise,
        Focus::GroupedConv,
        Focus::Depthwise,
        Focus::DepthwiseMultiplier,
        Focus::FullyConnected,
        Focus::Add,
        Focus::MaxPool,
        Focus::AveragePool,
        Focus::Mean,
        Focus::Pad,
        Focus::Concat,
        Focus::Reshape,
        Focus::Transpose,
        Focus::Requantize,
        Focus::Lut,
        Focus::Softmax,
    ];

    /// Whether it has weights.
    pub fn is_linear(self) -> bool {
        matches!(
            self,
            Focus::Conv
                | Focus::Pointwise
                | Focus::GroupedConv
                | Focus::Depthwise
                | Focus::DepthwiseMultiplier
                | Focus::FullyConnected
        )
    }
}

/// A network around one operator, with weights of `bits` bits; the same arguments give the same
/// network. The focus stands alone, or behind and before other operators, so that its tensors lie
/// in many places of the arena.
pub fn random_model(focus: Focus, bits: u8, seed: u64) -> QuantizedModel {
    let mut b = Builder::new(bits, seed);
    let others = [0, 0, 1, 2][b.rng.random_range(0..4)];
    for _ in 0..others {
        b.any();
    }
    b.add(focus);
    for _ in 0..others {
        b.any();
    }
    b.finish()
}

/// A network of `nodes` random operators, residual sums and concatenations among them.
pub fn random_network(nodes: usize, bits: u8, seed: u64) -> QuantizedModel {
    let mut b = Builder::new(bits, seed);
    for _ in 0..nodes {
        b.any();
    }
    b.finish()
}

/// `samples` inputs: noise, and both ends and a gradient of int8 among them.
pub fn random_inputs(model: &QuantizedModel, samples: usize, seed: u64) -> Vec<i8> {
    let mut rng = StdRng::seed_from_u64(seed ^ 0x1a9c);
    let len = model.tensor(model.input).elements();
    let zero = model.tensor(model.input).zero_point;
    let mut inputs = Vec::with_capacity(samples * len);
    for sample in 0..samples {
        inputs.extend((0..len).map(|i| match sample {
            1 => -128,
            2 => 127,
            3 => zero,
            4 => [-128, 127][i % 2],
            _ => rng.random::<i8>(),
        }));
    }
    inputs
}

/// The nearest multiplier of a positive real number.
pub fn multiplier(real: f64) -> Multiplier {
    let exponent = real.log2().floor() as i32 + 1;
    let mantissa = (real * 2f64.powi(31 - exponent)).round();
    match mantissa as i64 {
        m if m >= 1 << 31 => Multiplier {
            mantissa: 1 << 30,
            exponent: exponent as i8 + 1,
        },
        m => Multiplier {
            mantissa: m as i32,
            exponent: exponent as i8,
        },
    }
}

struct Builder {
    rng: StdRng,
    bits: u8,
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
    current: TensorId,
    rounding: Rounding,
}

impl Builder {
    fn new(bits: u8, seed: u64) -> Self {
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

    fn finish(self) -> QuantizedModel {
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

    fn one_in(&mut self, n: u32) -> bool {
        self.rng.random_ratio(1, n)
    }

    fn range(&mut self, from: usize, to: usize) -> usize {
        self.rng.random_range(from..=to)
    }

    fn zero_point(&mut self) -> i8 {
        match self.range(0, 4) {
            0 => -128,
            1 => 127,
            2 => 0,
            _ => self.rng.random(),
        }
    }

    fn scale(&mut self) -> f32 {
        2f32.powf(self.rng.random_range(-8.0..2.0))
    }

    /// A fused activation's range.
    fn clamp(&mut self, zero_point: i8) -> (i8, i8) {
        match self.range(0, 3) {
            0 => (zero_point, 127),
            1 => {
                let (a, b): (i8, i8) = (self.rng.random(), self.rng.random());
                (a.min(b), a.max(b))
            }
            _ => (-128, 127),
        }
    }

    fn tensor(&mut self, shape: [usize; 3], scale: f32, zero_point: i8) -> TensorId {
        let id = TensorId(self.tensors.len());
        self.tensors.push(Tensor {
            name: format!("t{}", id.0),
            shape,
            scale,
            zero_point,
        });
        id
    }

    fn node(&mut self, op: Op, inputs: Vec<TensorId>, output: TensorId) {
        let name = format!("{}-{}", op.kind(), self.nodes.len());
        self.nodes.push(Node {
            name,
            op,
            inputs,
            output,
        });
        self.current = output;
    }

    fn here(&self) -> Tensor {
        self.tensors[self.current.0].clone()
    }

    /// Any operator that keeps the tensors small.
    fn any(&mut self) {
        let focus = Focus::ALL[self.range(0, Focus::ALL.len() - 1)];
        let elements = self.here().elements();
        let grows = matches!(
            focus,
            Focus::Concat | Focus::Pad | Focus::DepthwiseMultiplier
        );
        let ends = matches!(focus, Focus::Mean | Focus::FullyConnected) && !self.one_in(4);
        if (grows && elements > 1500) || ends {
            self.add(Focus::Requantize);
        } else {
            self.add(focus);
        }
    }

    fn add(&mut self, focus: Focus) {
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
        }
    }

    /// Weights and constants of `outputs` channels of `taps` weights each.
    fn linear(&mut self, outputs: usize, taps: usize, input: &Tensor, zero_point: i8) -> Linear {
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
            let (b, m) = match self.range(0, 11) {
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
    fn axis(&mut self, size: usize) -> ([usize; 5], usize) {
        loop {
            let kernel = self.range(1, 4);
            let stride = self.range(1, 3);
            let dilation = if self.one_in(3) { 2 } else { 1 };
            let (before, after) = (self.range(0, 2), self.range(0, 2));
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

    fn conv_of(&mut self, outputs: usize, groups: usize, pointwise: bool) {
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

    fn conv(&mut self, groups: usize, pointwise: bool) {
        let outputs = self.range(1, 9);
        self.conv_of(outputs, groups, pointwise);
    }

    fn grouped(&mut self) {
        // Brings the channels to a multiple of the groups first.
        let (groups, per_group) = (self.range(2, 3), self.range(2, 4));
        self.conv_of(groups * per_group, 1, true);
        let outputs = groups * self.range(1, 3);
        self.conv_of(outputs, groups, false);
    }

    fn depthwise(&mut self, times: usize) {
        let channels = self.here().shape[2];
        self.conv_of(channels * times, channels, false);
    }

    fn fully_connected(&mut self) {
        let input = self.here();
        let outputs = self.range(1, 20);
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

    fn sum(&mut self) {
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

    fn pool(&mut self, focus: Focus) {
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
    fn pool_axis(&mut self, size: usize) -> ([usize; 5], usize) {
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

    fn mean(&mut self) {
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

    fn pad(&mut self) {
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

    fn concat(&mut self) {
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

    fn reshape(&mut self) {
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

    fn transpose(&mut self) {
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

    fn requantize(&mut self) {
        let input = self.here();
        let (scale, zero_point) = (
            input.scale * 2f32.powf(self.rng.random_range(-3.0..3.0)),
            self.zero_point(),
        );
        let multiplier = multiplier(input.scale as f64 / scale as f64);
        let (from, to) = (self.current, self.tensor(input.shape, scale, zero_point));
        self.node(Op::Requantize { multiplier }, vec![from], to);
    }

    fn lut(&mut self) {
        let input = self.here();
        let table = Box::new(std::array::from_fn(|_| self.rng.random()));
        let (scale, zero_point) = (self.scale(), self.zero_point());
        let (from, to) = (self.current, self.tensor(input.shape, scale, zero_point));
        self.node(Op::Lut { table }, vec![from], to);
    }

    fn softmax(&mut self) {
        let input = self.here();
        // TFLite's preparation: 5 integer bits.
        let real = (input.scale as f64 * (1u64 << 26) as f64).min(((1u64 << 31) - 1) as f64);
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
