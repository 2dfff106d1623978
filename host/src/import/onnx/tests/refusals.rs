//! What is not supported is listed in full, with a way out.

use onnx_rs::ast::ValueInfo;

use super::build::{Net, int, ints, noise};
use crate::import::ImportError;

#[test]
fn all_unsupported_nodes_are_listed_at_once_with_shapes_and_remedies() {
    let net = Net::new(&[2, 3, 4])
        .node("Gelu", &["x"], "g", vec![])
        .node("Relu", &["g"], "r", vec![])
        .node("LogSoftmax", &["r"], "l", vec![])
        .node("Sigmoid", &["x"], "s", vec![])
        .node("Mul", &["x", "s"], "silu", vec![])
        .node("Add", &["l", "silu"], "y", vec![]);
    let Err(ImportError::Unsupported { file, issues }) = net.import() else {
        panic!("should be unsupported")
    };
    assert_eq!(file, "test.onnx");
    let listed: Vec<_> = issues
        .iter()
        .map(|i| (i.node.as_str(), i.operator.as_str(), i.shapes.as_str()))
        .collect();
    assert_eq!(
        listed,
        [
            ("g", "Gelu", "[N,2,3,4]"),
            ("l", "LogSoftmax", "?"),
            ("silu", "Mul", "[N,2,3,4] [N,2,3,4]")
        ]
    );
    assert!(issues[0].remedy.contains("HardSwish"));
    assert!(issues[1].remedy.contains("return the logits"));
    assert!(issues[2].remedy.contains("HardSwish or ReLU"));
    let text = net.error();
    assert!(
        text.contains("3 of its nodes cannot be imported") && text.lines().count() == 4,
        "{text}"
    );
}

#[test]
fn operators_of_other_domains_are_refused_by_name() {
    let mut net = Net::new(&[4]).node("FusedConv", &["x"], "y", vec![]);
    net.graph_mut().node[0].domain = "com.microsoft";
    let error = net.error();
    assert!(
        error.contains("com.microsoft.FusedConv") && error.contains("standard ONNX operators"),
        "{error}"
    );
}

#[test]
fn quantized_networks_are_sent_back_to_their_float_source() {
    let net = Net::new(&[4])
        .floats("s", &[], &[0.1])
        .node("QuantizeLinear", &["x", "s"], "q", vec![])
        .node("DequantizeLinear", &["q", "s"], "y", vec![]);
    assert!(net.error().contains("float model from before quantization"));
}

#[test]
fn operator_sets_outside_the_range_are_refused() {
    for version in [1, 6, 25, i64::MAX] {
        let error = Net::new(&[4])
            .opset(version)
            .node("Relu", &["x"], "y", vec![])
            .error();
        assert!(
            error.contains(&format!(
                "operator set {version} is not supported (7 to 24 are)"
            )),
            "{error}"
        );
    }
}

#[test]
fn only_one_input_and_one_output_are_taken_and_the_others_named() {
    let extra = |name| ValueInfo {
        name,
        ..Default::default()
    };
    let mut net = Net::new(&[4]).node("Relu", &["x"], "y", vec![]);
    net.graph_mut().output.push(extra("aux"));
    assert!(
        net.error()
            .contains("exactly one output, but this one has 2: `y`, `aux`"),
        "{}",
        net.error()
    );
    let mut net = Net::new(&[4]).node("Relu", &["x"], "y", vec![]);
    net.graph_mut().input.push(extra("state"));
    assert!(
        net.error()
            .contains("exactly one input, but this one has 2: `x`, `state`")
    );
}

#[test]
fn initializers_that_are_also_inputs_do_not_count_as_inputs() {
    let mut net =
        Net::new(&[2])
            .floats("w", &[2, 2], &noise(4, 1))
            .node("MatMul", &["x", "w"], "y", vec![]);
    net.graph_mut().input.push(ValueInfo {
        name: "w",
        ..Default::default()
    });
    assert_eq!(net.kinds(), ["FullyConnected"]);
}

#[test]
fn dynamic_dimensions_other_than_the_batch_are_refused() {
    let error = Net::new(&[3, 0, 32])
        .node("Relu", &["x"], "y", vec![])
        .error();
    assert!(
        error.contains("more than the batch is not fixed"),
        "{error}"
    );
    let error = Net::new(&[3, 2, 2, 2])
        .node("Relu", &["x"], "y", vec![])
        .error();
    assert!(error.contains("[`N`, 3, 2, 2, 2]"), "{error}");
}

#[test]
fn tensors_of_five_axes_and_broadcasts_between_activations_are_refused() {
    let shuffle =
        Net::new(&[4, 3, 3])
            .ints("s", &[0, 2, 2, 3, 3])
            .node("Reshape", &["x", "s"], "y", vec![]);
    assert!(shuffle.error().contains("5 axes"));
    let gate = Net::new(&[4, 3, 3])
        .node("GlobalAveragePool", &["x"], "g", vec![])
        .node("Add", &["x", "g"], "y", vec![]);
    assert!(gate.error().contains("different shapes"));
    let bias = Net::new(&[4, 3, 3])
        .floats("k", &[4, 3, 3], &noise(36, 1))
        .node("Add", &["x", "k"], "y", vec![]);
    assert!(bias.error().contains("more than the channel"));
}

#[test]
fn second_results_that_something_reads_are_refused() {
    let mut net = Net::new(&[1, 4, 4])
        .node("MaxPool", &["x"], "p", vec![ints("kernel_shape", &[2, 2])])
        .node("Cast", &["i"], "y", vec![int("to", 1)]);
    net.graph_mut().node[0].output.push("i");
    assert!(net.error().contains("second result `i`"), "{}", net.error());
}
