//! Real networks, run by the plain interpreter, against onnxruntime's outputs.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use crate::graph::{Activation, Graph, Op, interpret};
use crate::import::load_graph;

/// The shared data folder's file, or `None` (said aloud) where the folder is not there.
pub(super) fn data(path: &str) -> Option<PathBuf> {
    let full = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(path);
    if full.exists() {
        return Some(full);
    }
    println!("SKIPPED: {} is not there", full.display());
    None
}

/// An array of an .npz file as `f32`.
fn array(path: &Path, name: &str) -> Vec<f32> {
    let file = std::fs::File::open(path).expect("the file");
    let mut npz = zip::ZipArchive::new(file).expect("an npz file");
    let entry = npz.by_name(&format!("{name}.npy")).expect("the array");
    let npy = npyz::NpyFile::new(entry).expect("readable");
    match npy.dtype().descr().trim_matches('\'') {
        "<f4" => npy.into_vec::<f32>().expect("floats"),
        "|u1" => npy
            .into_vec::<u8>()
            .expect("bytes")
            .into_iter()
            .map(f32::from)
            .collect(),
        "|i1" => npy
            .into_vec::<i8>()
            .expect("bytes")
            .into_iter()
            .map(f32::from)
            .collect(),
        other => panic!("unexpected type {other}"),
    }
}

fn agrees(graph: &Graph, inputs: &[f32], golden: &[f32], samples: usize) {
    let (n, m) = (graph.elements(graph.input), graph.elements(graph.output));
    let largest = golden[..samples * m]
        .iter()
        .fold(0.0f32, |a, b| a.max(b.abs()));
    for i in 0..samples {
        let y = interpret::run(graph, &inputs[i * n..][..n]);
        for (a, b) in y.iter().zip(&golden[i * m..][..m]) {
            assert!(
                (a - b).abs() <= 1e-4 * largest,
                "{}: sample {i}: {a} is not {b}",
                graph.name
            );
        }
    }
}

#[test]
fn fashion_mnist_networks_of_all_exporters_give_onnxruntimes_logits() {
    let Some(golden) = data("golden/fmnist_cnn_float_logits.npz") else {
        return;
    };
    let (Some(images), Some(models)) = (
        data("fashion-mnist/t10k-images-idx3-ubyte.gz"),
        data("models"),
    ) else {
        return;
    };
    let mut idx = Vec::new();
    let file = std::fs::read(images).expect("readable");
    flate2::read::GzDecoder::new(Cursor::new(file))
        .read_to_end(&mut idx)
        .expect("gzip");
    let images: Vec<f32> = idx[16..]
        .iter()
        .take(20 * 784)
        .map(|&p| f32::from(p) / 255.0)
        .collect();
    let logits = array(&golden, "logits");
    for name in [
        "fmnist_cnn_bn_op13",
        "fmnist_cnn_dynamo",
        "fmnist_cnn_torchscript_op17",
    ] {
        let graph = load_graph(models.join(format!("{name}.onnx"))).expect("imports");
        let kinds: Vec<&str> = graph.nodes.iter().map(|n| n.op.kind()).collect();
        assert_eq!(
            kinds,
            [
                "Conv2d",
                "Conv2d",
                "Conv2d",
                "Conv2d",
                "Conv2d",
                "GlobalAveragePool",
                "FullyConnected"
            ]
        );
        assert!(
            graph.nodes[..5]
                .iter()
                .all(|n| matches!(&n.op, Op::Conv2d(c) if c.activation == Activation::Relu))
        );
        assert_eq!(graph.weight_count(), 72 + 576 + 1_152 + 2_304 + 4_608 + 320);
        assert!(graph.input_was_nchw);
        assert_eq!(graph.value_name(graph.output), "logits");
        agrees(&graph, &images, &logits, 20);
    }
}

#[test]
fn resnet8_with_and_without_batch_norm_gives_onnxruntimes_probabilities() {
    let Some(golden) = data("golden/resnet8_cifar10_float.npz") else {
        return;
    };
    let (Some(images), Some(models)) = (data("cifar10_test_even.npz"), data("models")) else {
        return;
    };
    let (images, golden) = (array(&images, "images"), array(&golden, "output"));
    for name in ["resnet8_cifar10_bn", "resnet8_cifar10_folded"] {
        let graph = load_graph(models.join(format!("{name}.onnx"))).expect("imports");
        let count = |kind| graph.nodes.iter().filter(|n| n.op.kind() == kind).count();
        assert_eq!(
            (
                count("Conv2d"),
                count("Add"),
                count("GlobalAveragePool"),
                count("FullyConnected"),
                count("Softmax")
            ),
            (9, 3, 1, 1, 1)
        );
        assert_eq!(graph.nodes.len(), 15);
        agrees(&graph, &images, &golden, 3);
    }
}

#[test]
fn keyword_spotting_with_and_without_batch_norm_gives_onnxruntimes_probabilities() {
    let Some(golden) = data("golden/kws_dscnn_float.npz") else {
        return;
    };
    let (Some(features), Some(models)) = (data("kws_mfcc_500.npz"), data("models")) else {
        return;
    };
    let golden = array(&golden, "output");
    for name in ["kws_dscnn_bn", "kws_dscnn_folded"] {
        let graph = load_graph(models.join(format!("{name}.onnx"))).expect("imports");
        assert_eq!(graph.shape(graph.input), [49, 10, 1]);
        let features: Vec<f32> = array(&features, "features_int8")
            .into_iter()
            .take(3 * 490)
            .map(|q| (q - 83.0) * 0.584_702_9)
            .collect();
        let count = |kind| graph.nodes.iter().filter(|n| n.op.kind() == kind).count();
        assert_eq!(
            (count("DepthwiseConv2d"), count("Conv2d"), graph.nodes.len()),
            (4, 5, 12)
        );
        agrees(&graph, &features, &golden, 3);
    }
}
