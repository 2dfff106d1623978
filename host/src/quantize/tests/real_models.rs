//! Accuracy of trained networks after quantization.

use std::path::{Path, PathBuf};

use crate::calibrate::{Method, calibrate};
use crate::data::{LoadOptions, load};
use crate::engine::Engine;
use crate::float::{Backend, FloatNet};
use crate::import::load_graph;
use crate::model::Preprocess;
use crate::quantize::{QuantizeConfig, WeightRounding, quantize};

/// A file of the shared data, or `None` with a line that says what is skipped.
fn shared(path: &str) -> Option<PathBuf> {
    let p = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(path);
    if !p.exists() {
        println!("skipped: {} is not there", p.display());
        return None;
    }
    Some(p)
}

#[test]
fn fashion_mnist_keeps_its_accuracy_at_8_bits_and_most_of_it_at_3_with_gptq() {
    let (Some(model), Some(train), Some(test)) = (
        shared("models/fmnist_cnn_torchscript_op17.onnx"),
        shared("fashion-mnist/train_first_8000.npz"),
        shared("fashion-mnist/t10k-images-idx3-ubyte.gz"),
    ) else {
        return;
    };
    let graph = load_graph(model).expect("a model of PyTorch");
    let options = LoadOptions {
        expected: Some(graph.shape(graph.input)),
        ..Default::default()
    };
    let preprocess = Preprocess {
        scale: 1.0 / 255.0,
        ..Default::default()
    };
    let calibration_set = load(&train, &options).expect("an npz");
    let test = load(&test, &options).expect("IDX files");
    let x = calibration_set.real(0..500, &preprocess);
    let net = FloatNet::new(&graph, Backend::Flex).expect("a sound graph");
    let c = calibrate(&graph, &net, &x, Method::MinMax).expect("finite");
    let n = 2000;
    let labels = test.labels.as_ref().expect("labels beside the images");
    let accuracy = |config: &QuantizeConfig| {
        let model = quantize(&graph, &c, config, &x, preprocess.clone()).expect("quantizes");
        let input = model.tensor(model.input);
        let q: Vec<i8> = test
            .real(0..n, &preprocess)
            .iter()
            .map(|&v| input.quantize(v))
            .collect();
        let out = Engine::new(&model).expect("checked").run(&q);
        let right = out.chunks(10).zip(labels).filter(|(o, label)| {
            let best = (0..10).rev().max_by_key(|&i| o[i]).expect("ten classes");
            best as u32 == **label
        });
        100.0 * right.count() as f64 / n as f64
    };
    let at = |bits| QuantizeConfig {
        bits,
        ..Default::default()
    };
    let careful = |bits| QuantizeConfig {
        weight_rounding: WeightRounding::Gptq,
        bias_correction: true,
        ..at(bits)
    };
    // The float network has 89.8 % on all 10,000.
    assert!(accuracy(&at(8)) > 88.0);
    assert!(accuracy(&careful(4)) > 87.0);
    assert!(accuracy(&careful(3)) > 84.0);
    assert!(
        accuracy(&at(3)) < 80.0,
        "nearest rounding at 3 bits leaves something to mend"
    );
}
