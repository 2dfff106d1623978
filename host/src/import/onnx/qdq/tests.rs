//! Networks that onnxruntime quantized, against its own integers (see generate.py beside them).

use std::path::{Path, PathBuf};

use onnx_rs::ast::{self, OpType, TensorProto};

use super::{import_qdq, is_qdq};
use crate::classes::{argmax, classes};
use crate::compare::xnnpack;
use crate::data::{Labels, Layout, LoadOptions, Values, load};
use crate::engine::{Engine, run_node};
use crate::import::ImportError;
use crate::model::{Op, QuantizedModel, Tensor, TensorId};

const NETWORKS: [&str; 6] = [
    "fashion_int8",
    "functions_int8",
    "residual_int8",
    "residual_pairs_on_weights",
    "residual_symmetric",
    "residual_uint8",
];

fn fixture(name: &str) -> PathBuf {
    Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/qdq"
    ))
    .join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    let path = fixture(&format!("{name}.onnx"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn model(name: &str) -> QuantizedModel {
    import_qdq(&bytes(name), name).unwrap_or_else(|e| panic!("{e}"))
}

/// An array of a recording, if it is there.
fn array(name: &str, key: &str, shape: [usize; 3]) -> Option<Values> {
    let options = LoadOptions {
        x_key: Some(key.into()),
        labels: Labels::None,
        layout: Layout::Nhwc,
        expected: Some(shape),
        ..Default::default()
    };
    let data = load(&fixture(&format!("{name}.npz")), &options).ok()?;
    (data.shape.iter().product::<usize>() == shape.iter().product::<usize>()).then_some(data.values)
}

fn integers(name: &str, t: &Tensor) -> Option<Vec<i8>> {
    match array(name, &format!("q/{}", t.name), t.shape)? {
        Values::I8(v) => Some(v),
        other => panic!("{name}: {} is {}", t.name, other.dtype()),
    }
}

fn input(name: &str, m: &QuantizedModel) -> Vec<i8> {
    let t = m.tensor(m.input);
    match array(name, "x", t.shape) {
        Some(Values::F32(x)) => x.iter().map(|&v| t.quantize(v)).collect(),
        _ => panic!("{name} has no float input"),
    }
}

fn largest_difference(a: &[i8], b: &[i8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| a.abs_diff(*b))
        .max()
        .unwrap_or(0)
}

#[test]
fn every_layer_is_within_a_step_of_onnxruntime_on_its_own_inputs() {
    for name in NETWORKS {
        let m = model(name);
        let x = input(name, &m);
        let n = x.len() / m.tensor(m.input).elements();
        let mut values: Vec<Vec<i8>> = vec![Vec::new(); m.tensors.len()];
        let recorded = integers(name, m.tensor(m.input)).expect("the input is recorded");
        assert!(largest_difference(&recorded, &x) <= 1, "{name}: input");
        values[m.input.0] = recorded;
        let engine = Engine::new(&m).expect("sound");
        let (mut compared, mut elements, mut differing, mut rounded_once) = (0, 0, 0, 0);
        for (i, node) in m.nodes.iter().enumerate() {
            let operands: Vec<&[i8]> = node.inputs.iter().map(|t| &values[t.0][..]).collect();
            let ours = run_node(&m, i, &operands, n).expect("sound");
            let once = xnnpack::node(&m, &engine, i, &operands, n).expect("sound");
            let t = m.tensor(node.output);
            values[node.output.0] = match integers(name, t) {
                Some(theirs) => {
                    let off = largest_difference(&ours, &theirs);
                    assert!(
                        off <= 1,
                        "{name}: {} ({}) is {off} off",
                        node.name,
                        node.op.kind()
                    );
                    compared += 1;
                    elements += ours.len();
                    differing += ours.iter().zip(&theirs).filter(|(a, b)| a != b).count();
                    if node.op.linear().is_some() {
                        rounded_once += once.iter().zip(&theirs).filter(|(a, b)| a != b).count();
                    }
                    theirs
                }
                None => ours,
            };
        }
        println!(
            "{name}: {compared} of {} layers, {differing} of {elements} elements differ; {rounded_once} of linear layers where one rounding in float replaces two in integers",
            m.nodes.len()
        );
        // Parts without a recording are halves of a layer, and moved or padded tensors.
        assert!(
            compared >= 6 && 2 * compared >= m.nodes.len(),
            "{name}: {compared}"
        );
        // All that is left in linear layers is how a scaled accumulator is rounded.
        assert!(rounded_once * 1000 < elements, "{name}: {rounded_once}");
        assert!(
            differing * 20 < elements,
            "{name}: {differing} of {elements}"
        );
    }
}

#[test]
fn whole_networks_give_onnxruntimes_classes() {
    for name in NETWORKS {
        let m = model(name);
        let out = m.tensor(m.output);
        let ours = Engine::new(&m).expect("sound").run(&input(name, &m));
        let theirs = match array(name, "y", out.shape) {
            Some(Values::F32(y)) => y,
            _ => panic!("{name} has no output"),
        };
        let k = out.elements();
        let mut steps = 0f32;
        for (q, y) in ours.chunks_exact(k).zip(theirs.chunks_exact(k)) {
            for (&q, &y) in q.iter().zip(y) {
                steps = steps.max((out.dequantize(q) - y).abs() / out.scale);
            }
            // Where onnxruntime's own two best are a step apart, either may win.
            let (a, b) = (argmax(q), argmax(y));
            assert!(
                a == b || y[b] - y[a] < 2.5 * out.scale,
                "{name}: {a} instead of {b}"
            );
        }
        println!("{name}: outputs within {steps:.2} steps");
        assert!(steps < 4.5, "{name}: {steps} steps");
    }
}

#[test]
fn five_hundred_images_get_onnxruntimes_classes() {
    let m = model("fashion_int8");
    let images = Path::new(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/assets/t10k-images-idx3-ubyte.gz"
    ));
    let data = load(images, &LoadOptions::default()).expect("the example's images");
    let pre = crate::model::Preprocess {
        scale: 1.0 / 255.0,
        ..Default::default()
    };
    let x = data.integers(5000..5500, &pre, m.tensor(m.input));
    let ours = classes(&Engine::new(&m).expect("sound").run(&x), 10);
    let Some(Values::U8(theirs)) = array("fashion_int8", "classes", [1, 1, 1]) else {
        panic!("no classes are recorded");
    };
    let same = ours
        .iter()
        .zip(&theirs)
        .filter(|(a, b)| **a == **b as usize)
        .count();
    println!("{same} of 500 classes agree");
    assert_eq!(theirs.len(), 500);
    assert!(same >= 495, "{same} of 500");
}

#[test]
fn weights_and_scales_are_those_of_the_file() {
    let file = bytes("residual_int8");
    let parsed = onnx_rs::parse(&file).expect("sound");
    let graph = parsed.graph.as_ref().expect("a graph");
    let find = |name: &str| -> &TensorProto<'_> {
        graph
            .initializer
            .iter()
            .find(|t| t.name() == name)
            .unwrap_or_else(|| panic!("no {name}"))
    };
    let m = model("residual_int8");
    let node = m
        .nodes
        .iter()
        .find(|n| n.name == "Gemm_logits")
        .expect("the layer");
    let linear = node.op.linear().expect("linear");
    let stored: Vec<i8> = find("fc_w_quantized")
        .as_raw()
        .expect("raw")
        .iter()
        .map(|&b| b as i8)
        .collect();
    assert_eq!(linear.weights, stored);
    assert_eq!(
        linear.bias,
        *find("fc_b_quantized").as_i32().expect("int32")
    );
    let scale = find("logits_scale").as_f32().expect("float")[0];
    assert_eq!(m.tensor(node.output).scale, scale);
    assert!(matches!(
        m.nodes.last().expect("nodes").op,
        Op::Softmax { .. } | Op::Requantize { .. }
    ));
}

#[test]
fn uint8_activations_are_the_int8_ones_128_lower() {
    // The same floats over the same range: rounding of the zero point aside, the same network.
    let (a, b) = (model("residual_int8"), model("residual_uint8"));
    let name = |m: &QuantizedModel, t: TensorId| m.tensor(t).name.clone();
    assert_eq!(a.nodes.len(), b.nodes.len());
    for (x, y) in a.nodes.iter().zip(&b.nodes) {
        assert_eq!(name(&a, x.output), name(&b, y.output));
        let (s, t) = (a.tensor(x.output), b.tensor(y.output));
        assert!((s.scale / t.scale - 1.0).abs() < 1e-3, "{}", s.name);
        assert!(s.zero_point.abs_diff(t.zero_point) <= 1, "{}", s.name);
    }
}

#[test]
fn float_networks_are_told_from_quantized_ones() {
    assert!(NETWORKS.iter().all(|n| is_qdq(&bytes(n))));
    let float = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/fmnist_cnn.onnx");
    let float = std::fs::read(float).expect("the example");
    assert!(!is_qdq(&float) && !is_qdq(b"no network") && !is_qdq(&[]));
    let e = import_qdq(&float, "float.onnx")
        .expect_err("it is float")
        .to_string();
    assert!(
        e.contains("float.onnx") && e.contains("no QuantizeLinear"),
        "{e}"
    );
}

/// The refusal of a network after a change.
fn refusal(change: impl FnOnce(&mut ast::Graph<'_>)) -> String {
    let file = bytes("residual_int8");
    let mut parsed = onnx_rs::parse(&file).expect("sound");
    change(parsed.graph.as_mut().expect("a graph"));
    let changed = onnx_rs::encode(&parsed);
    match import_qdq(&changed, "x.onnx") {
        Ok(_) => panic!("it was imported"),
        Err(e) => e.to_string(),
    }
}

fn initializer<'g, 'a>(g: &'g mut ast::Graph<'a>, name: &str) -> &'g mut TensorProto<'a> {
    g.initializer
        .iter_mut()
        .find(|t| t.name() == name)
        .unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn asymmetric_weights_are_refused_with_the_option_that_mends_them() {
    match import_qdq(&bytes("weights_uint8"), "w.onnx") {
        Err(e @ ImportError::Unsupported { .. }) => {
            let text = e.to_string();
            for wanted in ["w.onnx", "asymmetric", "WeightSymmetric", "c1"] {
                assert!(text.contains(wanted), "{wanted}: {text}");
            }
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_cannot_be_followed_is_refused_by_name() {
    let e = refusal(|g| {
        *initializer(g, "logits_scale") =
            TensorProto::from_f32("logits_scale", vec![], vec![f32::NAN])
    });
    assert!(e.contains("scale of NaN") && e.contains("QDQ"), "{e}");
    let e = refusal(|g| {
        g.initializer.retain(|t| t.name() != "logits_scale");
    });
    assert!(e.contains("`logits_scale` is not an initializer"), "{e}");
    let e = refusal(|g| {
        *initializer(g, "c2_scale") = TensorProto::from_f32("c2_scale", vec![2], vec![0.1, 0.1])
    });
    assert!(e.contains("2 scales and 1 zero points"), "{e}");
    // A layer whose result no pair quantizes.
    let e = refusal(|g| {
        let reads = |n: &ast::Node<'_>, x: &str| n.input.first() == Some(&x);
        g.node
            .retain(|n| !(n.op_type == OpType::QuantizeLinear && reads(n, "logits")));
        let pair = g
            .node
            .iter()
            .position(|n| n.op_type == OpType::DequantizeLinear && n.input[0].starts_with("logits"))
            .expect("the other half");
        let removed = g.node.remove(pair);
        for n in &mut g.node {
            n.input
                .iter_mut()
                .filter(|i| **i == removed.output[0])
                .for_each(|i| *i = "logits");
        }
    });
    assert!(
        e.contains("Gemm_logits") && e.contains("`logits` is not quantized"),
        "{e}"
    );
}

#[test]
fn damaged_bytes_are_errors() {
    let file = bytes("residual_int8");
    let mut state = 1u32;
    let mut next = |n: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % n
    };
    for _ in 0..3000 {
        let mut b = file.clone();
        if next(4) == 0 {
            b.truncate(next(file.len()));
        }
        for _ in 0..1 + next(3) {
            if !b.is_empty() {
                let at = next(b.len());
                b[at] = next(256) as u8;
            }
        }
        // No panic; a change in a weight is still a network.
        if let Ok(m) = import_qdq(&b, "x") {
            Engine::new(&m).expect("what is imported runs");
        }
    }
}
