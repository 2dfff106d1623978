//! Real networks against the outputs that ONNX Runtime and PyTorch gave for them.

use super::{Backend, FloatNet};
use crate::data::{self, Labels, LoadOptions, Values};
use crate::import::load_graph;
use std::path::{Path, PathBuf};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");

/// The data pack's folder; says so where it is not there.
fn data_pack(test: &str) -> Option<PathBuf> {
    let root = PathBuf::from(DATA);
    if !root.is_dir() {
        println!("{test}: SKIPPED, the data pack {DATA} is not there");
        return None;
    }
    Some(root)
}

fn load(path: &Path, key: Option<&str>, take: usize) -> Values {
    let options = LoadOptions {
        x_key: key.map(str::to_owned),
        labels: Labels::None,
        ..LoadOptions::default()
    };
    let all = data::load(path, &options).unwrap_or_else(|e| panic!("{e}"));
    all.subset(&(0..take.min(all.len())).collect::<Vec<_>>())
        .values
}

fn real(values: Values, scale: f32, zero_point: f32) -> Vec<f32> {
    let map = |v: f32| (v - zero_point) * scale;
    match values {
        Values::U8(v) => v.iter().map(|&v| map(v as f32)).collect(),
        Values::I8(v) => v.iter().map(|&v| map(v as f32)).collect(),
        Values::F32(v) => v.into_iter().map(map).collect(),
    }
}

/// Every output within 1e-4 of its row's largest, and the same class for every sample.
fn check(root: &Path, models: &[&str], x: &[f32], golden: &Path, key: &str, samples: usize) {
    let want = real(load(golden, Some(key), usize::MAX), 1.0, 0.0);
    let classes = want.len() / samples;
    let argmax = |row: &[f32]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b]));
    for model in models {
        let graph = load_graph(root.join("models").join(model)).unwrap_or_else(|e| panic!("{e}"));
        for &backend in Backend::ALL {
            let got = FloatNet::new(&graph, backend).unwrap().run(x).unwrap();
            assert_eq!(got.len(), want.len(), "{model}");
            let mut worst = 0.0f32;
            for (i, (g, w)) in got.chunks(classes).zip(want.chunks(classes)).enumerate() {
                let largest = w.iter().fold(0.0f32, |m, v| m.max(v.abs()));
                let error = g
                    .iter()
                    .zip(w)
                    .fold(0.0f32, |m, (g, w)| m.max((g - w).abs()))
                    / largest;
                assert!(
                    error <= 1e-4,
                    "{model}, {backend}, sample {i}: relative error {error}"
                );
                assert_eq!(argmax(g), argmax(w), "{model}, {backend}, sample {i}");
                worst = worst.max(error);
            }
            println!("{model}, {backend}: {samples} samples, largest relative error {worst:e}");
        }
    }
}

#[test]
fn the_fashion_mnist_network_gives_the_golden_logits_from_every_exporter() {
    let Some(root) = data_pack("fashion-mnist logits") else {
        return;
    };
    let images = load(
        &root.join("fashion-mnist/t10k-images-idx3-ubyte.gz"),
        None,
        1000,
    );
    let models = [
        "fmnist_cnn_torchscript_op17.onnx",
        "fmnist_cnn_dynamo.onnx",
        "fmnist_cnn_bn_op13.onnx",
    ];
    let x = real(images, 1.0 / 255.0, 0.0);
    check(
        &root,
        &models,
        &x,
        &root.join("golden/fmnist_cnn_float_logits.npz"),
        "logits",
        1000,
    );
}

#[test]
fn resnet8_gives_the_golden_outputs() {
    let Some(root) = data_pack("ResNet-8 outputs") else {
        return;
    };
    let x = real(
        load(&root.join("cifar10_test_even.npz"), Some("images"), 500),
        1.0,
        0.0,
    );
    let models = ["resnet8_cifar10_folded.onnx", "resnet8_cifar10_bn.onnx"];
    check(
        &root,
        &models,
        &x,
        &root.join("golden/resnet8_cifar10_float.npz"),
        "output",
        500,
    );
}

#[test]
fn ds_cnn_gives_the_golden_outputs() {
    let Some(root) = data_pack("DS-CNN outputs") else {
        return;
    };
    let x = real(
        load(&root.join("kws_mfcc_500.npz"), Some("features_int8"), 500),
        0.5847029,
        83.0,
    );
    let models = ["kws_dscnn_folded.onnx", "kws_dscnn_bn.onnx"];
    check(
        &root,
        &models,
        &x,
        &root.join("golden/kws_dscnn_float.npz"),
        "output",
        500,
    );
}
