//! What is computed, what is refused and how, and that no bytes bring the reader down.

use std::path::Path;

use super::import_tflite_float;
use crate::graph::{Activation, Graph, Op, interpret};
use crate::import::tflite::builder::*;
use crate::import::tflite::schema::{code, options};
use crate::import::tflite::{TfliteError, is_tflite};

fn floats(name: &str, shape: &[i32], data: &[f32]) -> FileTensor {
    FileTensor {
        data: Some(data.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ..float(name, shape)
    }
}

fn ints(name: &str, shape: &[i32], data: &[i32]) -> FileTensor {
    FileTensor {
        element: 2,
        data: Some(data.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ..float(name, shape)
    }
}

fn with(op: FileOperator, kind: u8, fields: Vec<(u16, Value)>) -> FileOperator {
    FileOperator {
        options: Some((kind, fields)),
        ..op
    }
}

/// A network of one operator: tensor 0 in, tensor 1 out, and its constants.
fn one(x: &[i32], y: &[i32], constants: Vec<FileTensor>, op: FileOperator) -> Network {
    let mut tensors = vec![float("x", x), float("y", y)];
    tensors.extend(constants);
    Network::new(tensors, vec![op], 0, 1)
}

fn import(n: &Network) -> Result<Graph, TfliteError> {
    import_tflite_float(&n.bytes(), "net.tflite")
}

fn run(n: &Network, x: &[f32]) -> Vec<f32> {
    interpret::run(&import(n).expect("it is whole"), x)
}

#[test]
fn a_depthwise_convolution_with_a_multiplier_and_same_padding_is_computed_by_its_definition() {
    // Two input channels, multiplier 2, a 1 x 2 window: SAME padding adds a column on the right.
    let w = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
    let op = with(
        operator(code::DEPTHWISE_CONV_2D, &[0, 2, 3], &[1]),
        options::DEPTHWISE_CONV_2D,
        vec![
            (1, Value::I32(1)),
            (2, Value::I32(1)),
            (3, Value::I32(2)),
            (4, Value::I8(1)),
        ],
    );
    let n = one(
        &[1, 1, 2, 2],
        &[1, 1, 2, 4],
        vec![
            floats("w", &[1, 1, 2, 4], &w),
            floats("b", &[4], &[0.5, 0.0, 0.0, -1000.0]),
        ],
        op,
    );
    let y = run(&n, &[1.0, -1.0, 2.0, 5.0]);
    // Position 0 sees both columns, position 1 its own alone; the last channel is cut off by RELU.
    assert_eq!(y, [21.5, 42.0, 147.0, 0.0, 2.5, 4.0, 15.0, 0.0]);
}

#[test]
fn a_dense_layer_along_the_last_axis_is_applied_at_every_position() {
    let n = one(
        &[1, 2, 2],
        &[1, 2, 1],
        vec![floats("w", &[1, 2], &[1.0, 10.0])],
        operator(code::FULLY_CONNECTED, &[0, 2], &[1]),
    );
    assert_eq!(run(&n, &[1.0, 2.0, 3.0, 4.0]), [21.0, 43.0]);
}

#[test]
fn arithmetic_with_constants_works_from_either_side() {
    let c = || vec![floats("c", &[2], &[1.0, 10.0])];
    let of = |code, inputs: &[i32]| one(&[1, 2], &[1, 2], c(), operator(code, inputs, &[1]));
    let x = [3.0, 4.0];
    assert_eq!(run(&of(code::ADD, &[0, 2]), &x), [4.0, 14.0]);
    assert_eq!(run(&of(code::ADD, &[2, 0]), &x), [4.0, 14.0]);
    assert_eq!(run(&of(code::SUB, &[0, 2]), &x), [2.0, -6.0]);
    assert_eq!(run(&of(code::SUB, &[2, 0]), &x), [-2.0, 6.0]);
    assert_eq!(run(&of(code::MUL, &[0, 2]), &x), [3.0, 40.0]);
    let mut both = of(code::SUB, &[0, 2]);
    both.tensors.push(float("t", &[1, 2]));
    both.operators = vec![
        operator(code::TANH, &[0], &[3]),
        operator(code::SUB, &[0, 3], &[1]),
    ];
    let y = run(&both, &x);
    assert!((y[0] - (3.0 - 3f32.tanh())).abs() < 1e-6, "{y:?}");
}

#[test]
fn functions_are_those_of_their_names() {
    let of = |code, kind: Option<(u8, Vec<(u16, Value)>)>| {
        let mut n = one(&[1, 3], &[1, 3], vec![], operator(code, &[0], &[1]));
        n.operators[0].options = kind;
        run(&n, &[-2.0, 0.5, 8.0])
    };
    assert_eq!(of(code::RELU, None), [0.0, 0.5, 8.0]);
    assert_eq!(of(code::RELU6, None), [0.0, 0.5, 6.0]);
    assert_eq!(of(code::RELU_N1_TO_1, None), [-1.0, 0.5, 1.0]);
    let leaky = (options::LEAKY_RELU, vec![(0, Value::F32(0.25))]);
    assert_eq!(of(code::LEAKY_RELU, Some(leaky)), [-0.5, 0.5, 8.0]);
    let swish = of(code::HARD_SWISH, None);
    assert!(
        (swish[0] + 1.0 / 3.0).abs() < 1e-6 && swish[2] == 8.0,
        "{swish:?}"
    );
    let sigmoid = of(code::LOGISTIC, None);
    assert!((sigmoid[0] - 0.119_202_92).abs() < 1e-6, "{sigmoid:?}");
    let softmax = of(
        code::SOFTMAX,
        Some((options::SOFTMAX, vec![(0, Value::F32(0.5))])),
    );
    let e: Vec<f32> = [-1.0f32, 0.25, 4.0].iter().map(|v| v.exp()).collect();
    let sum: f32 = e.iter().sum();
    for (y, e) in softmax.iter().zip(e) {
        assert!((y - e / sum).abs() < 1e-6, "{softmax:?}");
    }
}

#[test]
fn pooling_leaves_padding_out_and_means_run_over_height_and_width() {
    let pool = |code| {
        with(
            operator(code, &[0], &[1]),
            options::POOL_2D,
            vec![
                (1, Value::I32(2)),
                (2, Value::I32(2)),
                (3, Value::I32(2)),
                (4, Value::I32(2)),
                (5, Value::I8(1)),
            ],
        )
    };
    let x: Vec<f32> = (1..=9).map(|v| v as f32 - 4.0).collect();
    let n = |code| one(&[1, 3, 3, 1], &[1, 2, 2, 1], vec![], pool(code));
    assert_eq!(run(&n(code::AVERAGE_POOL_2D), &x), [0.0, 0.5, 3.5, 5.0]);
    assert_eq!(run(&n(code::MAX_POOL_2D), &x), [1.0, 2.0, 4.0, 5.0]);
    let mean = one(
        &[1, 3, 3, 1],
        &[1, 1],
        vec![ints("axes", &[2], &[1, 2])],
        operator(code::MEAN, &[0, 2], &[1]),
    );
    assert_eq!(run(&mean, &x), [1.0]);
}

#[test]
fn values_are_moved_as_the_file_says() {
    let pad = one(
        &[1, 1, 2, 1],
        &[1, 2, 3, 1],
        vec![
            ints("p", &[4, 2], &[0, 0, 1, 0, 0, 1, 0, 0]),
            floats("v", &[1], &[7.0]),
        ],
        operator(code::PADV2, &[0, 2, 3], &[1]),
    );
    assert_eq!(run(&pad, &[1.0, 2.0]), [7.0, 7.0, 7.0, 1.0, 2.0, 7.0]);
    let transpose = one(
        &[1, 1, 2, 3],
        &[1, 1, 3, 2],
        vec![ints("p", &[4], &[0, 1, 3, 2])],
        operator(code::TRANSPOSE, &[0, 2], &[1]),
    );
    let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    assert_eq!(run(&transpose, &x), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    let reshape = one(
        &[1, 1, 2, 3],
        &[1, 6],
        vec![],
        operator(code::RESHAPE, &[0], &[1]),
    );
    assert_eq!(run(&reshape, &x), x);
    let concat = one(
        &[1, 1, 2, 3],
        &[1, 1, 2, 6],
        vec![],
        with(
            operator(code::CONCATENATION, &[0, 0], &[1]),
            options::CONCATENATION,
            vec![(0, Value::I32(-1)), (1, Value::I8(3))],
        ),
    );
    let x = [1.0, -2.0, 30.0, 4.0, 5.0, 6.0];
    assert_eq!(
        run(&concat, &x),
        [1.0, 0.0, 6.0, 1.0, 0.0, 6.0, 4.0, 5.0, 6.0, 4.0, 5.0, 6.0]
    );
}

#[test]
fn a_fused_clamp_stays_in_its_layer_and_names_are_the_files() {
    let n = one(
        &[1, 2],
        &[1, 1],
        vec![floats("w", &[1, 2], &[1.0, 1.0])],
        with(
            operator(code::FULLY_CONNECTED, &[0, 2], &[1]),
            options::FULLY_CONNECTED,
            vec![(0, Value::I8(3))],
        ),
    );
    let graph = import(&n).expect("it is whole");
    let [node] = &graph.nodes[..] else {
        panic!("{:?}", graph.nodes)
    };
    let Op::FullyConnected(f) = &node.op else {
        panic!("{node:?}")
    };
    assert_eq!(f.activation, Activation::Clip { lo: 0.0, hi: 6.0 });
    assert_eq!(
        (node.name.as_str(), graph.value_name(node.output)),
        ("y", "y")
    );
    assert!(!graph.input_was_nchw);
}

#[test]
fn tensors_of_one_name_or_none_get_names_of_their_own() {
    let mut n = one(&[1, 2], &[1, 2], vec![], operator(code::TANH, &[0], &[1]));
    n.tensors[0].name.clear();
    n.tensors[1].name = "same".into();
    n.tensors.push(float("same", &[1, 2]));
    n.operators.push(operator(code::LOGISTIC, &[1], &[2]));
    n.outputs = vec![2];
    let graph = import(&n).expect("it is whole");
    let mut names: Vec<&str> = graph.values.iter().map(|v| v.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.iter().all(|n| !n.is_empty()));
}

#[test]
fn quantized_networks_are_told_apart_and_operators_listed_all_at_once() {
    let dense = || {
        one(
            &[1, 2],
            &[1, 1],
            vec![floats("w", &[1, 2], &[1.0, 1.0])],
            operator(code::FULLY_CONNECTED, &[0, 2], &[1]),
        )
    };
    let refused = |n: &Network, words: &[&str]| {
        let error = import(n).expect_err("refused").to_string();
        for w in words {
            assert!(error.contains(w), "{w:?} is not in {error:?}");
        }
    };
    let mut hybrid = dense();
    hybrid.tensors[2] = constant("w", &[1, 2], &[1, 2], 0.1);
    refused(
        &hybrid,
        &[
            "net.tflite",
            "FULLY_CONNECTED has weights of int8 (`w`)",
            "optimization",
        ],
    );
    let mut half = dense();
    half.tensors.push(FileTensor {
        element: 1,
        data: Some(vec![0; 4]),
        ..float("h", &[1, 2])
    });
    half.operators
        .insert(0, operator(code::DEQUANTIZE, &[3], &[2]));
    refused(&half, &["`h` of DEQUANTIZE is float16"]);
    let mut two = dense();
    two.tensors.push(float("z", &[1, 2]));
    two.operators = vec![operator(26, &[0], &[3]), operator(5, &[3], &[1])];
    refused(
        &two,
        &[
            "2 of its operators",
            "operator 0 `z` (SPACE_TO_DEPTH",
            "operator 1 `y` (DEPTH_TO_SPACE",
        ],
    );
    let mut nan = dense();
    nan.tensors[2] = floats("w", &[1, 2], &[1.0, f32::NAN]);
    refused(&nan, &["`w` holds NaN at index 1"]);
    let mut batch = dense();
    batch.tensors[0].shape = vec![3, 2];
    refused(&batch, &["the batch, is not 1"]);
}

#[test]
fn no_cut_or_mutation_brings_the_reader_down() {
    let conv = with(
        operator(code::CONV_2D, &[0, 2, 3], &[1]),
        options::CONV_2D,
        vec![(1, Value::I32(2)), (2, Value::I32(1)), (3, Value::I8(4))],
    );
    let mut n = one(
        &[1, 4, 4, 2],
        &[1, 4, 2, 2],
        vec![
            floats("w", &[2, 3, 3, 2], &[0.25; 36]),
            floats("b", &[2], &[0.5, -0.5]),
            ints("axes", &[2], &[1, 2]),
            float("m", &[1, 2]),
            floats("c", &[2], &[2.0, 3.0]),
            float("s", &[1, 2]),
        ],
        conv,
    );
    n.operators.push(operator(code::MEAN, &[1, 4], &[5]));
    n.operators.push(operator(code::MUL, &[5, 6], &[7]));
    n.outputs = vec![7];
    let bytes = n.bytes();
    assert!(is_tflite(&bytes));
    import_tflite_float(&bytes, "whole").expect("it is whole");
    for cut in 0..bytes.len() {
        let _ = import_tflite_float(&bytes[..cut], "cut");
    }
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    let mut refused = 0;
    for _ in 0..5000 {
        let mut copy = bytes.clone();
        for _ in 0..1 + next() % 3 {
            let at = next() % copy.len();
            copy[at] = [0, 1, 0x7f, 0x80, 0xff, next() as u8][next() % 6];
        }
        match import_tflite_float(&copy, "damaged") {
            Ok(graph) => graph.check().expect("what is read is sound"),
            Err(_) => refused += 1,
        }
    }
    assert!(refused > 1000, "{refused}");
}

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");

fn data(path: &str) -> Option<std::path::PathBuf> {
    let full = Path::new(DATA).join(path);
    if full.exists() {
        return Some(full);
    }
    println!("SKIPPED: {} is not there", full.display());
    None
}

fn array<T: npyz::Deserialize>(path: &Path, name: &str) -> Vec<T> {
    let file = std::fs::File::open(path).expect("the file");
    let mut npz = zip::ZipArchive::new(file).expect("an npz file");
    let entry = npz.by_name(&format!("{name}.npy")).expect("the array");
    let npy = npyz::NpyFile::new(entry).expect("readable");
    npy.into_vec().expect("of its type")
}

#[test]
fn resnet8_gives_onnxruntimes_outputs_for_its_onnx_twin_on_every_recorded_image() {
    let (Some(model), Some(golden), Some(images)) = (
        data("models/resnet8_cifar10_float.tflite"),
        data("golden/resnet8_cifar10_float.npz"),
        data("cifar10_test_even.npz"),
    ) else {
        return;
    };
    let graph = crate::import::load_graph(&model).expect("it is whole");
    let want: Vec<f32> = array(&golden, "output");
    let n = want.len() / graph.elements(graph.output);
    let size = graph.elements(graph.input);
    let x: Vec<f32> = array::<u8>(&images, "images")[..n * size]
        .iter()
        .map(|p| f32::from(*p))
        .collect();
    let net = crate::float::FloatNet::new(&graph, Default::default()).expect("it runs");
    let y = net.run(&x).expect("it runs");
    assert_eq!(y.len(), want.len());
    let mut classes = 0;
    for (i, (y, want)) in y.chunks(10).zip(want.chunks(10)).enumerate() {
        let largest = want.iter().fold(0f32, |a, b| a.max(b.abs()));
        for (a, b) in y.iter().zip(want) {
            assert!((a - b).abs() <= 1e-4 * largest, "image {i}: {a} is not {b}");
        }
        assert_eq!(
            crate::classes::argmax(y),
            crate::classes::argmax(want),
            "image {i}"
        );
        classes += 1;
    }
    assert!(classes >= 500, "{classes}");
    println!("{classes} images: every output within 1e-4 of the largest, every class the same");
}

#[test]
fn real_hybrid_and_int8_networks_are_no_float_networks() {
    for name in ["kws_dscnn_official_dynrange", "resnet8_cifar10_int8"] {
        let Some(path) = data(&format!("models/{name}.tflite")) else {
            continue;
        };
        let bytes = std::fs::read(path).expect("readable");
        let error = import_tflite_float(&bytes, name).expect_err("it is quantized");
        assert!(
            matches!(error, TfliteError::NotFloat { .. }),
            "{name}: {error}"
        );
    }
}
