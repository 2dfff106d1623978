//! Hand-made networks for this folder's tests.

use rand::Rng;
use rand::rngs::StdRng;

use crate::graph::Pads;
use crate::model::{
    Add, Conv2d, FullyConnected, Linear, Multiplier, Node, Op, Pool, Preprocess, QuantizedModel,
    Rounding, Tensor, TensorId,
};

/// A network over tensors of these shapes, the first the input and the last the output.
pub(super) fn model_of(shapes: &[[usize; 3]], nodes: Vec<Node>) -> QuantizedModel {
    let tensor = |(i, &shape): (usize, &[usize; 3])| Tensor {
        name: format!("t{i}"),
        shape,
        scale: 0.5,
        zero_point: 3,
    };
    QuantizedModel {
        name: "hand-made".into(),
        rounding: Rounding::Tflm,
        tensors: shapes.iter().enumerate().map(tensor).collect(),
        nodes,
        input: TensorId(0),
        output: TensorId(shapes.len() - 1),
        preprocess: Preprocess::default(),
        labels: Vec::new(),
    }
}

pub(super) fn node(op: Op, inputs: &[usize], output: usize) -> Node {
    let inputs = inputs.iter().map(|&i| TensorId(i)).collect();
    Node {
        name: format!("node{output}"),
        op,
        inputs,
        output: TensorId(output),
    }
}

/// Keeps the values, in a place of its own: a pooling window of one.
pub(super) fn identity(input: usize, output: usize) -> Node {
    let pool = Pool {
        kernel: [1, 1],
        stride: [1, 1],
        dilation: [1, 1],
        pads: Default::default(),
        act_min: -128,
        act_max: 127,
    };
    node(Op::MaxPool(pool), &[input], output)
}

/// A sum.
pub(super) fn add(a: usize, b: usize, output: usize) -> Node {
    let half = Multiplier {
        mantissa: 1 << 30,
        exponent: 0,
    };
    let add = Add {
        input_multipliers: [half; 2],
        output_multiplier: Multiplier {
            mantissa: 1 << 30,
            exponent: -18,
        },
        act_min: -128,
        act_max: 127,
    };
    node(Op::Add(add), &[a, b], output)
}

/// Another shape.
pub(super) fn reshape(input: usize, output: usize) -> Node {
    node(Op::Reshape, &[input], output)
}

/// A convolution of 3 x 3 that keeps the shape of its input of `channels` channels.
pub(super) fn convolution_3x3(channels: usize, input: usize, output: usize) -> Node {
    let pads = Pads {
        top: 1,
        left: 1,
        bottom: 1,
        right: 1,
    };
    let conv = Conv2d {
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        pads,
        groups: 1,
        linear: linear(channels, vec![1; channels * channels * 9]),
    };
    node(Op::Conv2d(conv), &[input], output)
}

/// A fully connected layer with weights of `bits` bits.
pub(super) fn fully_connected(
    bits: u8,
    inputs: usize,
    outputs: usize,
    input: usize,
    output: usize,
) -> Node {
    let linear = Linear {
        bits,
        ..linear(outputs, vec![1; outputs * inputs])
    };
    node(
        Op::FullyConnected(FullyConnected { linear }),
        &[input],
        output,
    )
}

fn linear(outputs: usize, weights: Vec<i8>) -> Linear {
    let multiplier = Multiplier {
        mantissa: 3 << 29,
        exponent: -9,
    };
    Linear {
        weights,
        bits: 8,
        bias: vec![5; outputs],
        multipliers: vec![multiplier; outputs],
        act_min: -128,
        act_max: 127,
    }
}

/// Any convolution of an input of a shape; the shape of its output.
pub(super) fn convolution_of(
    input: [usize; 3],
    depthwise: bool,
    rng: &mut StdRng,
) -> (Op, [usize; 3]) {
    let kernel = [rng.random_range(1..5), rng.random_range(1..4)];
    let stride = [rng.random_range(1..3), rng.random_range(1..3)];
    let dilation = [rng.random_range(1..3), 1];
    let mut pad = || rng.random_range(0..3);
    let pads = Pads {
        top: pad(),
        left: pad(),
        bottom: pad(),
        right: pad(),
    };
    let axis = |i: usize, before: usize, after: usize| {
        let extent = (kernel[i] - 1) * dilation[i] + 1;
        (input[i] + before + after - extent) / stride[i] + 1
    };
    let (h, w) = (
        axis(0, pads.top, pads.bottom),
        axis(1, pads.left, pads.right),
    );
    let outputs = if depthwise {
        input[2]
    } else {
        rng.random_range(2..9)
    };
    let taps = kernel[0] * kernel[1] * if depthwise { 1 } else { input[2] };
    let weights = (0..outputs * taps).map(|_| rng.random()).collect();
    let conv = Conv2d {
        kernel,
        stride,
        dilation,
        pads,
        groups: if depthwise { input[2] } else { 1 },
        linear: linear(outputs, weights),
    };
    (Op::Conv2d(conv), [h, w, outputs])
}
