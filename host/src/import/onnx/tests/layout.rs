//! Reshapes, transpositions and shape arithmetic: the file's channels-first order against the
//! graph's.

use super::build::{Net, assert_close, int, ints, noise, to_channels_last};
use crate::graph::interpret;

/// `[2, 3, 4]` flattened in the file's order times a matrix.
fn flat_product(x: &[f32], m: &[f32]) -> Vec<f32> {
    (0..5)
        .map(|o| (0..24).map(|i| x[i] * m[i * 5 + o]).sum())
        .collect()
}

#[test]
fn flattening_before_a_fully_connected_layer_permutes_its_columns() {
    let (x, m) = (noise(24, 1), noise(24 * 5, 2));
    let net = || Net::new(&[2, 3, 4]).floats("m", &[24, 5], &m);
    let flatten =
        net()
            .node("Flatten", &["x"], "f", vec![])
            .node("MatMul", &["f", "m"], "y", vec![]);
    let reshape = net()
        .ints("s", &[-1, 24])
        .node("Reshape", &["x", "s"], "f", vec![])
        .node("MatMul", &["f", "m"], "y", vec![]);
    let copied = net()
        .ints("s", &[0, -1])
        .node("Reshape", &["x", "s"], "f", vec![])
        .node("MatMul", &["f", "m"], "y", vec![]);
    let fixed = net()
        .batch(2)
        .ints("s", &[2, 24])
        .node("Reshape", &["x", "s"], "f", vec![])
        .node("MatMul", &["f", "m"], "y", vec![]);
    for net in [flatten, reshape, copied, fixed] {
        assert_eq!(net.kinds(), ["FullyConnected"]);
        assert_close(&net.run(&x), &flat_product(&x, &m));
    }
}

#[test]
fn functions_between_flattening_and_a_fully_connected_layer_do_not_keep_the_transposition() {
    let (x, m) = (noise(24, 1), noise(24 * 5, 2));
    let net = Net::new(&[2, 3, 4])
        .floats("m", &[24, 5], &m)
        .node("Flatten", &["x"], "f", vec![])
        .node("Relu", &["f"], "r", vec![])
        .node("MatMul", &["r", "m"], "y", vec![]);
    assert_eq!(net.kinds(), ["Activation", "FullyConnected"]);
    let relu: Vec<f32> = x.iter().map(|x| x.max(0.0)).collect();
    assert_close(&net.run(&x), &flat_product(&relu, &m));
}

#[test]
fn a_flattened_output_keeps_the_files_order() {
    let x = noise(24, 1);
    let net = Net::new(&[2, 3, 4]).node("Flatten", &["x"], "y", vec![]);
    assert_eq!(net.kinds(), ["Transpose", "Reshape"]);
    assert_close(&net.run(&x), &x);
}

#[test]
fn shapes_computed_from_the_batch_keep_their_meaning() {
    let (x, m) = (noise(24, 1), noise(24 * 5, 2));
    // x.reshape(x.shape[0], -1), as the TorchScript exporter writes it.
    let old = Net::new(&[2, 3, 4])
        .opset(11)
        .floats("m", &[24, 5], &m)
        .tensor(onnx_rs::ast::TensorProto::from_i64("zero", vec![], vec![0]))
        .ints("rest", &[-1])
        .node("Shape", &["x"], "shape", vec![])
        .node("Gather", &["shape", "zero"], "n", vec![int("axis", 0)])
        .node("Unsqueeze", &["n"], "n1", vec![ints("axes", &[0])])
        .node("Concat", &["n1", "rest"], "s", vec![int("axis", 0)])
        .node("Reshape", &["x", "s"], "f", vec![])
        .node("MatMul", &["f", "m"], "y", vec![]);
    // x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3])
    let product = Net::new(&[2, 3, 4])
        .floats("m", &[24, 5], &m)
        .ints("a", &[0])
        .ints("b", &[1])
        .ints("c", &[i64::MAX])
        .node("Shape", &["x"], "shape", vec![])
        .node("Slice", &["shape", "a", "b"], "n", vec![])
        .node("Slice", &["shape", "b", "c"], "chw", vec![])
        .node("ReduceProd", &["chw"], "k", vec![])
        .node("Concat", &["n", "k"], "s", vec![int("axis", 0)])
        .node("Reshape", &["x", "s"], "f", vec![])
        .node("MatMul", &["f", "m"], "y", vec![]);
    for net in [old, product] {
        assert_eq!(net.kinds(), ["FullyConnected"]);
        assert_close(&net.run(&x), &flat_product(&x, &m));
    }
}

#[test]
fn a_reshape_that_moves_the_batch_is_refused() {
    for s in [&[2, 24][..], &[-1, 4], &[24, -1], &[4, 0, 6]] {
        let net = Net::new(&[2, 3, 4])
            .ints("s", s)
            .node("Reshape", &["x", "s"], "y", vec![]);
        assert!(
            net.error().contains("keep the batch as its first axis"),
            "{s:?}: {}",
            net.error()
        );
    }
}

#[test]
fn networks_that_take_nhwc_and_transpose_it_themselves_lose_the_transposition() {
    let (x, w) = (noise(3 * 5 * 4, 1), noise(2 * 3 * 4, 2));
    let net = Net::new(&[5, 4, 3])
        .floats("mean", &[3], &[0.5, 0.25, 1.0])
        .floats("w", &[2, 3, 2, 2], &w)
        .node("Sub", &["x", "mean"], "n", vec![])
        .node("Transpose", &["n"], "t", vec![ints("perm", &[0, 3, 1, 2])])
        .node("Conv", &["t", "w"], "y", vec![]);
    let graph = net.graph();
    assert_eq!(
        (graph.shape(graph.input), graph.input_was_nchw),
        ([5, 4, 3], false)
    );
    assert_eq!(net.kinds(), ["Conv2d"]);
    let first = Net::new(&[3, 5, 4])
        .floats("mean", &[3, 1, 1], &[0.5, 0.25, 1.0])
        .floats("w", &[2, 3, 2, 2], &w)
        .node("Sub", &["x", "mean"], "n", vec![])
        .node("Conv", &["n", "w"], "y", vec![]);
    assert_close(
        &interpret::run(&graph, &to_channels_last(&x, [3, 5, 4])),
        &interpret::run(&first.graph(), &to_channels_last(&x, [3, 5, 4])),
    );
}

#[test]
fn transposed_maps_are_transposed_where_an_operator_needs_it() {
    let (x, w) = (noise(2 * 3 * 4, 1), noise(3 * 2, 2));
    // Height and width change places, then a kernel of width one meets what was the height.
    let net = Net::new(&[2, 3, 4])
        .floats("w", &[1, 2, 1, 3], &w)
        .node("Transpose", &["x"], "t", vec![ints("perm", &[0, 1, 3, 2])])
        .node("Conv", &["t", "w"], "y", vec![]);
    let want: Vec<f32> = (0..4)
        .map(|q| (0..6).map(|i| w[i] * x[i * 4 + q]).sum())
        .collect();
    assert_eq!(net.kinds(), ["Transpose", "Conv2d"]);
    assert_close(&net.run(&x), &want);
    let back = Net::new(&[2, 3, 4])
        .node("Transpose", &["x"], "t", vec![ints("perm", &[0, 2, 3, 1])])
        .node("Relu", &["t"], "r", vec![])
        .node("Transpose", &["r"], "y", vec![ints("perm", &[0, 3, 1, 2])]);
    assert_eq!(back.kinds(), ["Activation"]);
    let moved = Net::new(&[2, 3, 4]).node("Transpose", &["x"], "y", vec![]);
    assert!(moved.error().contains("moves the batch"));
}

#[test]
fn axes_of_length_one_come_and_go_by_attribute_or_operand() {
    let x = noise(6, 1);
    let mean: Vec<f32> = x.chunks(3).map(|c| c.iter().sum::<f32>() / 3.0).collect();
    let old = Net::new(&[2, 3, 1])
        .opset(11)
        .node("GlobalAveragePool", &["x"], "g", vec![])
        .node("Squeeze", &["g"], "y", vec![ints("axes", &[-1, 2])]);
    let new = Net::new(&[2, 3, 1])
        .ints("a", &[2, 3])
        .node("GlobalAveragePool", &["x"], "g", vec![])
        .node("Squeeze", &["g", "a"], "y", vec![]);
    for net in [old, new] {
        assert_eq!(net.kinds(), ["GlobalAveragePool"]);
        assert_close(&net.run(&x), &mean);
    }
    let image = Net::new(&[3, 2])
        .ints("a", &[1])
        .floats("w", &[1, 1, 1, 1], &[2.0])
        .node("Unsqueeze", &["x", "a"], "u", vec![])
        .node("Conv", &["u", "w"], "y", vec![]);
    assert_close(
        &image.run(&x),
        &x.iter().map(|x| 2.0 * x).collect::<Vec<_>>(),
    );
    let all = Net::new(&[2, 1, 1])
        .batch(1)
        .node("Squeeze", &["x"], "y", vec![]);
    assert!(all.error().contains("the batch too"));
}

#[test]
fn channels_stay_where_they_are_when_only_the_map_is_flattened() {
    let (x, v) = (noise(24, 1), noise(4, 2));
    let net = Net::new(&[2, 3, 4])
        .floats("v", &[2, 2, 1, 1], &v)
        .ints("s", &[0, 2, -1])
        .node("Conv", &["x", "v"], "c", vec![])
        .node("Reshape", &["c", "s"], "f", vec![])
        .node(
            "ReduceMean",
            &["f"],
            "y",
            vec![ints("axes", &[2]), int("keepdims", 0)],
        );
    assert_eq!(net.kinds(), ["Conv2d", "Reshape", "GlobalAveragePool"]);
    let mean = |c: usize| x[c * 12..][..12].iter().sum::<f32>() / 12.0;
    assert_close(
        &net.run(&x),
        &[
            v[0] * mean(0) + v[1] * mean(1),
            v[2] * mean(0) + v[3] * mean(1),
        ],
    );
}

#[test]
fn concatenation_follows_the_files_axes() {
    let x = noise(24, 1);
    for (axis, inner) in [(1, 24), (2, 12), (-1, 4)] {
        let net = Net::new(&[2, 3, 4]).node("Neg", &["x"], "n", vec![]).node(
            "Concat",
            &["x", "n"],
            "y",
            vec![int("axis", axis)],
        );
        let want: Vec<f32> = x
            .chunks(inner)
            .flat_map(|c| c.iter().copied().chain(c.iter().map(|x| -x)))
            .collect();
        assert_close(&net.run(&x), &want);
    }
    let batch = Net::new(&[4]).node("Concat", &["x", "x"], "y", vec![int("axis", 0)]);
    assert!(batch.error().contains("across the batch"));
}

#[test]
fn weights_prepared_by_constant_operators_are_evaluated() {
    let (x, w) = (noise(3, 1), noise(6, 2));
    let net = Net::new(&[3])
        .floats("w", &[2, 3], &w)
        .floats("k", &[2, 1], &[4.0, 9.0])
        .node("Sqrt", &["k"], "root", vec![])
        .node("Mul", &["w", "root"], "scaled", vec![])
        .node("Transpose", &["scaled"], "m", vec![ints("perm", &[1, 0])])
        .node("MatMul", &["x", "m"], "y", vec![]);
    let row = |o: usize| (0..3).map(|i| x[i] * w[o * 3 + i]).sum::<f32>();
    assert_close(&net.run(&x), &[2.0 * row(0), 3.0 * row(1)]);
}
