//! Random float networks around each operator that a .tflite can hold, to be quantized.

use qmend::graph::{
    Activation, Affine, Conv2d, FullyConnected, Graph, Node, Op, Pads, Pool, Shape, Value, ValueId,
    Weights,
};
use rand::prelude::*;

/// A network under construction.
struct Maker {
    rng: StdRng,
    graph: Graph,
}

/// A network by the name of what it is about.
pub type Named = (&'static str, Graph);

const EVEN: Pads = Pads {
    top: 1,
    left: 1,
    bottom: 1,
    right: 1,
};
const SAME_BY_TWO: Pads = Pads {
    top: 0,
    left: 0,
    bottom: 1,
    right: 1,
};
const RELU6: Activation = Activation::Clip { lo: 0.0, hi: 6.0 };
const NONE: Activation = Activation::Identity;

impl Maker {
    fn new(seed: u64, shape: Shape) -> Self {
        let value = Value {
            name: "x".into(),
            shape,
        };
        Self {
            rng: StdRng::seed_from_u64(seed),
            graph: Graph {
                name: "random".into(),
                values: vec![value],
                nodes: Vec::new(),
                input: ValueId(0),
                output: ValueId(0),
                input_was_nchw: false,
            },
        }
    }

    fn push(&mut self, op: Op, inputs: &[ValueId], shape: Shape) -> ValueId {
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

    fn here(&self) -> (ValueId, Shape) {
        (self.graph.output, self.graph.shape(self.graph.output))
    }

    fn random(&mut self, n: usize, reach: f32) -> Vec<f32> {
        (0..n)
            .map(|_| self.rng.random_range(-reach..reach))
            .collect()
    }

    /// Weights that keep the variance, each row with a gain of its own.
    fn weights(&mut self, shape: Vec<usize>) -> Weights {
        let taps: usize = shape[1..].iter().product();
        let reach = 1.7 / (taps as f32).sqrt();
        let mut data = Vec::new();
        for _ in 0..shape[0] {
            let gain = self.rng.random_range(0.3..1.5) * reach;
            data.extend(self.random(taps, gain));
        }
        Weights { shape, data }
    }

    /// A convolution of a window with a stride, a dilation and padding.
    fn conv(
        &mut self,
        (kernel, stride, dilation): ([usize; 2], usize, usize),
        pads: Pads,
        (out_c, groups): (usize, usize),
        activation: Activation,
    ) -> ValueId {
        let (x, [h, w, c]) = self.here();
        let extent = kernel.map(|k| (k - 1) * dilation + 1);
        let shape = [
            (h + pads.top + pads.bottom - extent[0]) / stride + 1,
            (w + pads.left + pads.right - extent[1]) / stride + 1,
            out_c,
        ];
        let op = Op::Conv2d(Conv2d {
            weights: self.weights(vec![out_c, kernel[0], kernel[1], c / groups]),
            bias: self.random(out_c, 0.3),
            stride: [stride; 2],
            dilation: [dilation; 2],
            pads,
            groups,
            activation,
        });
        self.push(op, &[x], shape)
    }

    fn dense(&mut self, out_c: usize, activation: Activation) -> ValueId {
        let (x, _) = self.here();
        let taps = self.graph.elements(x);
        let op = Op::FullyConnected(FullyConnected {
            weights: self.weights(vec![out_c, taps]),
            bias: self.random(out_c, 0.3),
            activation,
        });
        self.push(op, &[x], [1, 1, out_c])
    }

    fn pool(&mut self, max: bool, kernel: usize, stride: usize, pads: Pads) -> ValueId {
        let (x, [h, w, c]) = self.here();
        let pool = Pool {
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            pads,
        };
        let shape = [
            (h + pads.top + pads.bottom - kernel) / stride + 1,
            (w + pads.left + pads.right - kernel) / stride + 1,
            c,
        ];
        let op = if max {
            Op::MaxPool(pool)
        } else {
            Op::AveragePool(pool)
        };
        self.push(op, &[x], shape)
    }

    /// An operator that keeps the shape.
    fn keep(&mut self, op: Op) -> ValueId {
        let (x, shape) = self.here();
        self.push(op, &[x], shape)
    }

    /// Two convolutions of one tensor.
    fn branches(&mut self) -> [ValueId; 2] {
        let (x, _) = self.here();
        let a = self.conv(([3, 3], 1, 1), EVEN, (6, 1), Activation::Relu);
        self.graph.output = x;
        let b = self.conv(([1, 1], 1, 1), Pads::default(), (6, 1), NONE);
        [a, b]
    }
}

/// One network for every operator, fused activation and kind of window that a .tflite can hold.
pub fn of_every_operator(seed: u64) -> Vec<Named> {
    let mut all: Vec<Named> = Vec::new();
    let mut make = |name: &'static str, build: &dyn Fn(&mut Maker)| {
        let mut m = Maker::new(seed * 1000 + all.len() as u64, [9, 8, 6]);
        build(&mut m);
        all.push((name, m.graph));
    };
    let valid = Pads::default();
    make("conv_same", &|m| {
        m.conv(([3, 3], 1, 1), EVEN, (10, 1), Activation::Relu);
    });
    make("conv_symmetric_padding_with_stride", &|m| {
        m.conv(([3, 3], 2, 1), EVEN, (7, 1), NONE);
    });
    make("conv_valid_by_two_relu6", &|m| {
        m.conv(([5, 3], 2, 1), valid, (7, 1), RELU6);
    });
    make("conv_relu_n1_to_1", &|m| {
        let clip = Activation::Clip { lo: -1.0, hi: 1.0 };
        m.conv(([1, 1], 1, 1), valid, (12, 1), clip);
    });
    make("conv_dilated", &|m| {
        m.conv(([3, 3], 1, 2), valid, (5, 1), NONE);
    });
    make("conv_in_groups", &|m| {
        m.conv(([3, 3], 1, 1), EVEN, (8, 2), NONE);
    });
    make("depthwise", &|m| {
        m.conv(([3, 3], 1, 1), EVEN, (6, 6), RELU6);
    });
    make("depthwise_with_multiplier", &|m| {
        m.conv(([3, 3], 2, 1), valid, (18, 6), Activation::Relu);
    });
    make("fully_connected", &|m| {
        m.dense(11, Activation::Relu);
        m.dense(5, NONE);
    });
    make("affine", &|m| {
        let affine = Affine {
            scale: m.random(6, 2.0),
            shift: m.random(6, 0.5),
            activation: NONE,
        };
        m.keep(Op::Affine(affine));
    });
    make("add", &|m| {
        let inputs = m.branches();
        let activation = Activation::Relu;
        m.push(Op::Add { activation }, &inputs, [9, 8, 6]);
    });
    make("add_of_itself", &|m| {
        let (x, shape) = m.here();
        m.push(Op::Add { activation: NONE }, &[x, x], shape);
    });
    make("sub", &|m| {
        let inputs = m.branches();
        m.push(Op::Sub { activation: RELU6 }, &inputs, [9, 8, 6]);
    });
    make("mul", &|m| {
        let inputs = m.branches();
        m.push(Op::Mul { activation: NONE }, &inputs, [9, 8, 6]);
    });
    make("squeeze_and_excite", &|m| {
        let x = m.conv(([3, 3], 1, 1), EVEN, (6, 1), Activation::Relu);
        m.push(Op::GlobalAveragePool, &[x], [1, 1, 6]);
        m.conv(([1, 1], 1, 1), valid, (6, 1), NONE);
        let gate = m.keep(Op::Activation(Activation::Sigmoid));
        m.push(Op::Mul { activation: NONE }, &[x, gate], [9, 8, 6]);
    });
    make("add_of_a_vector", &|m| {
        let x = m.conv(([3, 3], 1, 1), EVEN, (6, 1), NONE);
        let mean = m.push(Op::GlobalAveragePool, &[x], [1, 1, 6]);
        m.push(Op::Add { activation: NONE }, &[mean, x], [9, 8, 6]);
    });
    for (name, rows) in [
        (
            "resize_to_twice",
            vec![0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8],
        ),
        ("resize_with_aligned_corners", vec![0, 2, 4, 6, 8]),
    ] {
        make(name, &|m| {
            let (x, [_, w, c]) = m.here();
            let shape = [rows.len(), w, c];
            let resize = Op::ResizeNearest {
                rows: rows.clone(),
                columns: (0..w).collect(),
            };
            m.push(resize, &[x], shape);
        });
    }
    make("concat_of_channels", &|m| {
        let inputs = m.branches();
        m.push(Op::Concat { axis: 2 }, &inputs, [9, 8, 12]);
    });
    make("concat_of_rows", &|m| {
        let inputs = m.branches();
        m.push(Op::Concat { axis: 0 }, &inputs, [18, 8, 6]);
    });
    make("max_pool", &|m| {
        m.pool(true, 3, 2, EVEN);
    });
    make("max_pool_same", &|m| {
        m.pool(true, 2, 2, Pads { bottom: 1, ..valid });
    });
    make("average_pool", &|m| {
        m.pool(false, 2, 2, valid);
    });
    make("average_pool_same", &|m| {
        m.pool(false, 3, 1, EVEN);
    });
    make("mean", &|m| {
        let (x, [_, _, c]) = m.here();
        m.push(Op::GlobalAveragePool, &[x], [1, 1, c]);
    });
    make("mean_and_fully_connected", &|m| {
        m.conv(([3, 3], 2, 1), EVEN, (13, 1), Activation::Relu);
        let (x, [_, _, c]) = m.here();
        m.push(Op::GlobalAveragePool, &[x], [1, 1, c]);
        m.dense(4, NONE);
    });
    make("pad_by_zero", &|m| {
        let (x, _) = m.here();
        let pad = Op::Pad {
            before: [1, 0, 0],
            after: [0, 2, 0],
            value: 0.0,
        };
        m.push(pad, &[x], [10, 10, 6]);
    });
    make("pad_by_a_value", &|m| {
        let (x, _) = m.here();
        let pad = Op::Pad {
            before: [1, 0, 1],
            after: [0, 2, 0],
            value: -0.7,
        };
        m.push(pad, &[x], [10, 10, 7]);
    });
    make("reshape_and_transpose", &|m| {
        let (x, _) = m.here();
        let t = m.push(Op::Transpose { perm: [2, 0, 1] }, &[x], [6, 9, 8]);
        m.push(Op::Reshape, &[t], [1, 1, 432]);
        m.dense(6, NONE);
    });
    make("softmax", &|m| {
        m.dense(12, NONE);
        m.keep(Op::Softmax);
    });
    for (name, f) in [
        ("relu", Activation::Relu),
        ("leaky_relu", Activation::LeakyRelu { alpha: 0.137 }),
        ("logistic", Activation::Sigmoid),
        ("tanh", Activation::Tanh),
        ("hard_swish", Activation::HardSwish),
    ] {
        make(name, &|m| {
            m.conv(([1, 1], 1, 1), valid, (5, 1), NONE);
            m.keep(Op::Activation(f));
        });
    }
    make("small_resnet", &|m| {
        m.conv(([3, 3], 1, 1), EVEN, (6, 1), Activation::Relu);
        let (x, shape) = m.here();
        m.conv(([3, 3], 1, 1), EVEN, (6, 1), Activation::Relu);
        let y = m.conv(([3, 3], 1, 1), EVEN, (6, 1), NONE);
        let activation = Activation::Relu;
        m.push(Op::Add { activation }, &[x, y], shape);
        m.pool(true, 2, 2, SAME_BY_TWO);
        m.conv(([3, 3], 1, 1), EVEN, (9, 3), NONE);
        m.keep(Op::Activation(Activation::HardSwish));
        let (x, [_, _, c]) = m.here();
        m.push(Op::GlobalAveragePool, &[x], [1, 1, c]);
        m.dense(7, NONE);
        m.keep(Op::Softmax);
    });
    all
}
