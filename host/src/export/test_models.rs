//! Hand-made networks for this folder's tests.

use crate::model::{
    Add, Multiplier, Node, Op, Pool, Preprocess, QuantizedModel, Rounding, Tensor, TensorId,
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

fn node(op: Op, inputs: &[usize], output: usize) -> Node {
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
