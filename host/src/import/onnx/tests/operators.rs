//! Element-wise operators, normalisation, products, reductions and the variants that operator sets
//! brought, against their definitions.

use onnx_rs::ast::TensorProto;

use super::build::{Net, assert_close, float, int, ints, noise};
use crate::graph::{Activation, Op};

const DIMS: [i64; 3] = [3, 2, 4];

/// `f(channel, x)` over `[3, 2, 4]`.
fn map(x: &[f32], f: impl Fn(usize, f32) -> f32) -> Vec<f32> {
    x.iter().enumerate().map(|(i, &x)| f(i / 8, x)).collect()
}

fn input() -> Vec<f32> {
    noise(24, 9).into_iter().map(|x| 5.0 * x).collect()
}

#[test]
fn functions_follow_their_definitions_and_default_attributes() {
    let x = input();
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    type Case = (
        &'static str,
        Vec<onnx_rs::ast::Attribute<'static>>,
        fn(f32) -> f32,
    );
    let cases: [Case; 8] = [
        ("Relu", vec![], |x| x.max(0.0)),
        ("LeakyRelu", vec![], |x| if x < 0.0 { 0.01 * x } else { x }),
        ("LeakyRelu", vec![float("alpha", 0.3)], |x| {
            if x < 0.0 { 0.3 * x } else { x }
        }),
        ("Tanh", vec![], f32::tanh),
        ("HardSigmoid", vec![], |x| (0.2 * x + 0.5).clamp(0.0, 1.0)),
        (
            "HardSigmoid",
            vec![float("alpha", 0.4), float("beta", 0.1)],
            |x| (0.4 * x + 0.1).clamp(0.0, 1.0),
        ),
        ("HardSwish", vec![], |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0)),
        ("Neg", vec![], |x| -x),
    ];
    for (op, attributes, f) in cases {
        let y = Net::new(&DIMS).node(op, &["x"], "y", attributes).run(&x);
        assert_close(&y, &map(&x, |_, x| f(x)));
    }
    assert_close(
        &Net::new(&DIMS).node("Sigmoid", &["x"], "y", vec![]).run(&x),
        &map(&x, |_, x| sigmoid(x)),
    );
}

#[test]
fn clip_takes_bounds_from_attributes_before_operator_set_11_and_from_operands_since() {
    let x = input();
    let clamp = |lo: f32, hi: f32| map(&x, |_, x| x.max(lo).min(hi));
    let old = Net::new(&DIMS).opset(10).node(
        "Clip",
        &["x"],
        "y",
        vec![float("min", -1.0), float("max", 2.0)],
    );
    assert_close(&old.run(&x), &clamp(-1.0, 2.0));
    let net = |operands: &[&'static str]| {
        Net::new(&DIMS)
            .opset(11)
            .floats("lo", &[], &[-1.0])
            .floats("hi", &[], &[2.0])
            .node("Clip", operands, "y", vec![])
    };
    assert_close(&net(&["x", "lo", "hi"]).run(&x), &clamp(-1.0, 2.0));
    assert_close(
        &net(&["x", "", "hi"]).run(&x),
        &clamp(f32::NEG_INFINITY, 2.0),
    );
    assert_close(&net(&["x", "lo"]).run(&x), &clamp(-1.0, f32::INFINITY));
    assert!(net(&["x", "hi", "lo"]).error().contains("empty range"));
}

#[test]
fn arithmetic_with_constants_broadcasts_from_either_side() {
    let x = input();
    type Case = (&'static str, fn(f32, f32) -> f32);
    let ops: [Case; 4] = [
        ("Add", |a, b| a + b),
        ("Sub", |a, b| a - b),
        ("Mul", |a, b| a * b),
        ("Div", |a, b| a / b),
    ];
    let k = [2.0, -0.5, 4.0];
    for (op, f) in ops {
        for dims in [vec![3, 1, 1], vec![1, 3, 1, 1]] {
            let net = |operands: &[&'static str]| {
                Net::new(&DIMS)
                    .floats("k", &dims, &k)
                    .node(op, operands, "y", vec![])
            };
            assert_close(&net(&["x", "k"]).run(&x), &map(&x, |c, x| f(x, k[c])));
            if op == "Div" {
                assert!(
                    net(&["k", "x"])
                        .error()
                        .contains("divides by an activation")
                );
            } else {
                assert_close(&net(&["k", "x"]).run(&x), &map(&x, |c, x| f(k[c], x)));
            }
        }
        let scalar = Net::new(&DIMS)
            .floats("k", &[], &[3.0])
            .node(op, &["x", "k"], "y", vec![]);
        assert_close(&scalar.run(&x), &map(&x, |_, x| f(x, 3.0)));
        // Along the width, which is not where channels are.
        let w = [1.0, 2.0, 3.0, 4.0];
        let wide = Net::new(&DIMS)
            .floats("k", &[4], &w)
            .node(op, &["x", "k"], "y", vec![]);
        let want: Vec<f32> = x.iter().enumerate().map(|(i, &x)| f(x, w[i % 4])).collect();
        assert_close(&wide.run(&x), &want);
    }
}

#[test]
fn sums_and_differences_of_activations_are_additions() {
    let x = input();
    let relu = |net: Net| net.node("Relu", &["x"], "r", vec![]);
    let sub = relu(Net::new(&DIMS)).node("Sub", &["r", "x"], "y", vec![]);
    assert_close(&sub.run(&x), &map(&x, |_, x| x.max(0.0) - x));
    let sum = relu(Net::new(&DIMS)).node("Sum", &["x", "r", "x"], "y", vec![]);
    assert_close(&sum.run(&x), &map(&x, |_, x| 2.0 * x + x.max(0.0)));
}

#[test]
fn hard_swish_is_recognised_in_the_spellings_of_exporters() {
    let x = input();
    let short = Net::new(&DIMS)
        .node("HardSigmoid", &["x"], "s", vec![float("alpha", 1.0 / 6.0)])
        .node("Mul", &["x", "s"], "y", vec![]);
    let constants = |net: Net| {
        net.floats("three", &[], &[3.0])
            .floats("zero", &[], &[0.0])
            .floats("six", &[], &[6.0])
    };
    let long = constants(Net::new(&DIMS))
        .node("Add", &["x", "three"], "a", vec![])
        .node("Clip", &["a", "zero", "six"], "b", vec![])
        .node("Mul", &["x", "b"], "c", vec![])
        .node("Div", &["c", "six"], "y", vec![]);
    for net in [short, long] {
        assert_eq!(net.kinds(), ["Activation"]);
        assert_close(&net.run(&x), &map(&x, |_, x| Activation::HardSwish.eval(x)));
    }
}

/// Scale, shift, mean and variance of two channels, and the same as an affine map.
fn batch_norm(net: Net) -> (Net, [f32; 2], [f32; 2]) {
    let (g, b, m, v, e) = ([1.5, -2.0], [0.25, 1.0], [0.5, -1.0], [4.0, 0.25], 1e-3f32);
    let net = net
        .floats("g", &[2], &g)
        .floats("b", &[2], &b)
        .floats("m", &[2], &m)
        .floats("v", &[2], &v);
    let s = [0, 1].map(|i| g[i] / (v[i] + e).sqrt());
    let t = [0, 1].map(|i| b[i] - m[i] * s[i]);
    (net, s, t)
}

const BN: [&str; 4] = ["g", "b", "m", "v"];

fn norm(net: Net, from: &'static str, to: &'static str) -> Net {
    net.node(
        "BatchNormalization",
        &[&[from], &BN[..]].concat(),
        to,
        vec![float("epsilon", 1e-3)],
    )
}

#[test]
fn batch_norm_folds_into_the_convolution_before_it() {
    let x = noise(2 * 9, 4);
    let (net, s, t) =
        batch_norm(Net::new(&[2, 3, 3]).floats("w", &[2, 2, 1, 1], &[1.0, 0.5, -1.0, 2.0]));
    let net = norm(net.node("Conv", &["x", "w"], "c", vec![]), "c", "n").node(
        "Relu",
        &["n"],
        "y",
        vec![],
    );
    assert_eq!(net.kinds(), ["Conv2d"]);
    let want: Vec<f32> = (0..18)
        .map(|i| {
            let (a, b) = (x[i % 9], x[9 + i % 9]);
            let conv = if i < 9 { a + 0.5 * b } else { 2.0 * b - a };
            (s[i / 9] * conv + t[i / 9]).max(0.0)
        })
        .collect();
    assert_close(&net.run(&x), &want);
}

#[test]
fn batch_norm_before_a_convolution_folds_only_where_no_padding_stands_in_for_it() {
    let x = noise(2 * 9, 4);
    let w = noise(2 * 2 * 9, 8);
    let net = |pads: &[i64]| {
        let (net, s, t) = batch_norm(Net::new(&[2, 3, 3]).floats("w", &[2, 2, 3, 3], &w));
        (
            norm(net, "x", "n").node("Conv", &["n", "w"], "y", vec![ints("pads", pads)]),
            s,
            t,
        )
    };
    let (open, s, t) = net(&[0; 4]);
    assert_eq!(open.kinds(), ["Conv2d"]);
    let n: Vec<f32> = (0..18).map(|i| s[i / 9] * x[i] + t[i / 9]).collect();
    let dot = |o: usize| (0..18).map(|i| w[o * 18 + i] * n[i]).sum::<f32>();
    assert_close(&open.run(&x), &[dot(0), dot(1)]);
    let (padded, ..) = net(&[1; 4]);
    assert_eq!(padded.kinds(), ["Affine", "Conv2d"]);
    let y = padded.run(&x);
    assert_close(&[y[4], y[13]], &[dot(0), dot(1)]);
    // The corner sees four normalised elements and zeros, not normalised zeros.
    let corner: f32 = (0..2)
        .flat_map(|c| [(4, 0), (5, 1), (7, 3), (8, 4)].map(|(k, p)| (c * 9 + k, c * 9 + p)))
        .map(|(k, p)| w[k] * n[p])
        .sum();
    assert_close(&y[..1], &[corner]);
}

#[test]
fn a_scale_without_shift_folds_into_a_padded_convolution() {
    let net = Net::new(&[1, 3, 3])
        .floats("k", &[], &[0.5])
        .floats("w", &[1, 1, 3, 3], &noise(9, 2))
        .node("Mul", &["x", "k"], "m", vec![])
        .node("Conv", &["m", "w"], "y", vec![ints("pads", &[1; 4])]);
    assert_eq!(net.kinds(), ["Conv2d"]);
}

#[test]
fn nothing_folds_into_a_value_that_is_used_elsewhere() {
    let (net, ..) =
        batch_norm(Net::new(&[2, 3, 3]).floats("w", &[2, 2, 1, 1], &[1.0, 0.5, -1.0, 2.0]));
    let net = norm(net.node("Conv", &["x", "w"], "c", vec![]), "c", "n").node(
        "Add",
        &["c", "n"],
        "y",
        vec![],
    );
    assert_eq!(net.kinds(), ["Conv2d", "Affine", "Add"]);
    let net = Net::new(&[2, 3, 3])
        .floats("w", &[2, 2, 1, 1], &[1.0, 0.5, -1.0, 2.0])
        .node("Conv", &["x", "w"], "c", vec![])
        .node("Relu", &["c"], "r", vec![])
        .node("Add", &["c", "r"], "y", vec![]);
    assert_eq!(net.kinds(), ["Conv2d", "Activation", "Add"]);
}

#[test]
fn clamps_fuse_through_maxima_and_join() {
    let net = Net::new(&[1, 4, 4])
        .floats("w", &[1, 1, 1, 1], &[-2.0])
        .floats("six", &[], &[6.0])
        .node("Conv", &["x", "w"], "c", vec![])
        .node("MaxPool", &["c"], "p", vec![ints("kernel_shape", &[2, 2])])
        .node("Relu", &["p"], "r", vec![])
        .node("Clip", &["r", "", "six"], "y", vec![]);
    assert_eq!(net.kinds(), ["Conv2d", "MaxPool"]);
    let graph = net.graph();
    assert!(
        matches!(&graph.nodes[0].op, Op::Conv2d(c) if c.activation == Activation::Clip { lo: 0.0, hi: 6.0 })
    );
    assert_eq!(graph.value_name(graph.output), "y");
}

#[test]
fn products_with_matrices_apply_factors_and_take_the_bias_from_an_addition() {
    let x = [1.0, -2.0, 0.5];
    let w = noise(6, 3);
    let column = |o: usize| (0..3).map(|i| x[i] * w[i * 2 + o]).sum::<f32>();
    let gemm = Net::new(&[3])
        .floats("w", &[3, 2], &w)
        .floats("b", &[2], &[1.0, 2.0])
        .node(
            "Gemm",
            &["x", "w", "b"],
            "y",
            vec![float("alpha", 0.5), float("beta", 3.0)],
        );
    assert_close(
        &gemm.run(&x),
        &[0.5 * column(0) + 3.0, 0.5 * column(1) + 6.0],
    );
    let transposed: Vec<f32> = (0..6).map(|i| w[i % 3 * 2 + i / 3]).collect();
    let gemm = Net::new(&[3]).floats("w", &[2, 3], &transposed).node(
        "Gemm",
        &["x", "w"],
        "y",
        vec![int("transB", 1)],
    );
    assert_close(&gemm.run(&x), &[column(0), column(1)]);
    let product = Net::new(&[3])
        .floats("w", &[3, 2], &w)
        .floats("b", &[2], &[1.0, 2.0])
        .node("MatMul", &["x", "w"], "m", vec![])
        .node("Add", &["b", "m"], "y", vec![]);
    assert_eq!(product.kinds(), ["FullyConnected"]);
    assert_close(&product.run(&x), &[column(0) + 1.0, column(1) + 2.0]);
}

#[test]
fn reductions_take_axes_as_attribute_or_operand() {
    let x = input();
    let means: Vec<f32> = (0..3)
        .map(|c| x[c * 8..][..8].iter().sum::<f32>() / 8.0)
        .collect();
    let old = Net::new(&DIMS).opset(13).node(
        "ReduceMean",
        &["x"],
        "y",
        vec![ints("axes", &[2, -1]), int("keepdims", 0)],
    );
    let new =
        Net::new(&DIMS)
            .opset(18)
            .ints("a", &[-2, 3])
            .node("ReduceMean", &["x", "a"], "y", vec![]);
    for net in [old, new] {
        assert_eq!(net.kinds(), ["GlobalAveragePool"]);
        assert_close(&net.run(&x), &means);
    }
    let sum =
        Net::new(&DIMS)
            .opset(13)
            .ints("a", &[2, 3])
            .node("ReduceSum", &["x", "a"], "y", vec![]);
    assert_close(
        &sum.run(&x),
        &means.iter().map(|m| 8.0 * m).collect::<Vec<_>>(),
    );
    let rows = Net::new(&DIMS).node("ReduceMax", &["x"], "y", vec![ints("axes", &[3])]);
    assert_close(
        &rows.run(&x),
        &x.chunks(4)
            .map(|r| r.iter().copied().fold(f32::MIN, f32::max))
            .collect::<Vec<_>>(),
    );
    let channels = Net::new(&DIMS).node("ReduceMean", &["x"], "y", vec![ints("axes", &[1])]);
    assert_close(
        &channels.run(&x),
        &(0..8)
            .map(|i| (x[i] + x[8 + i] + x[16 + i]) / 3.0)
            .collect::<Vec<_>>(),
    );
}

#[test]
fn dropout_disappears_in_all_its_forms() {
    let old = Net::new(&DIMS)
        .opset(11)
        .node("Dropout", &["x"], "d", vec![float("ratio", 0.4)])
        .node("Relu", &["d"], "y", vec![]);
    let flag = |v| TensorProto::from_raw("t", vec![], onnx_rs::ast::DataType::Bool, v);
    let new = |v| {
        Net::new(&DIMS)
            .floats("r", &[], &[0.5])
            .tensor(flag(v))
            .node("Dropout", &["x", "r", "t"], "d", vec![])
            .node("Relu", &["d"], "y", vec![])
    };
    assert_eq!(old.kinds(), ["Activation"]);
    assert_eq!(new(&[0]).kinds(), ["Activation"]);
    assert!(new(&[1]).error().contains("model.eval()"));
}

#[test]
fn softmax_works_on_the_axis_that_its_operator_set_means() {
    let x = input();
    let softmax = |v: Vec<f32>| {
        let sum: f32 = v.iter().map(|x| x.exp()).sum();
        v.into_iter().map(|x| x.exp() / sum).collect::<Vec<_>>()
    };
    let channels = Net::new(&DIMS)
        .node("Softmax", &["x"], "y", vec![int("axis", 1)])
        .run(&x);
    for p in 0..8 {
        assert_close(
            &[channels[p], channels[8 + p], channels[16 + p]],
            &softmax(vec![x[p], x[8 + p], x[16 + p]]),
        );
    }
    let last = Net::new(&DIMS).node("Softmax", &["x"], "y", vec![]).run(&x);
    assert_close(&last[4..8], &softmax(x[4..8].to_vec()));
    assert_close(
        &Net::new(&[4])
            .opset(11)
            .node("Softmax", &["x"], "y", vec![])
            .run(&x[..4]),
        &softmax(x[..4].to_vec()),
    );
    let together = Net::new(&DIMS)
        .opset(11)
        .node("Softmax", &["x"], "y", vec![])
        .error();
    assert!(together.contains("axes 1 to 3 together"), "{together}");
}

#[test]
fn padding_comes_from_attributes_or_operands_and_joins_a_convolution_if_it_is_zero() {
    let x = noise(4, 1);
    let want = [0.5, 0.5, 0.5, x[0], x[1], 0.5, x[2], x[3], 0.5];
    let old = Net::new(&[1, 2, 2]).opset(10).node(
        "Pad",
        &["x"],
        "y",
        vec![ints("pads", &[0, 0, 1, 0, 0, 0, 0, 1]), float("value", 0.5)],
    );
    let operands = Net::new(&[1, 2, 2])
        .ints("p", &[0, 0, 1, 0, 0, 0, 0, 1])
        .floats("v", &[], &[0.5]);
    let new = operands.node("Pad", &["x", "p", "v"], "y", vec![]);
    let axes = Net::new(&[1, 2, 2])
        .opset(18)
        .ints("p", &[0, 1, 1, 0])
        .ints("a", &[-1, 2])
        .floats("v", &[], &[0.5]);
    let axes = axes.node("Pad", &["x", "p", "v", "a"], "y", vec![]);
    for net in [old, new, axes] {
        assert_close(&net.run(&x), &want);
    }
    let joined = Net::new(&[1, 2, 2])
        .ints("p", &[0, 0, 1, 1, 0, 0, 0, 1])
        .floats("w", &[1, 1, 2, 2], &noise(4, 2))
        .node("Pad", &["x", "p"], "q", vec![])
        .node("Conv", &["q", "w"], "y", vec![]);
    assert_eq!(joined.kinds(), ["Conv2d"]);
}
