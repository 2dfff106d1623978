//! How much memory the plans of real networks take: no more than the tensors that are alive at once.

use std::path::Path;

use qmend::calibrate::{Method, calibrate};
use qmend::export::plan;
use qmend::float::{Backend, FloatNet};
use qmend::import::load_graph;
use qmend::import::tflite::import_tflite_int8;
use qmend::model::{Preprocess, QuantizedModel};
use qmend::quantize::{QuantizeConfig, quantize};
use rand::{Rng, SeedableRng, rngs::StdRng};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data/models");
const DEMO: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../host/assets/fmnist_cnn.onnx"
);

/// Fails where an arena is more than 1 % above what its tensors need.
fn is_tight(model: &QuantizedModel, what: &str) {
    let plan = plan(model).unwrap();
    let (bytes, least) = (plan.arena_bytes, plan.lower_bound);
    println!("{what}: arena of {bytes} bytes, tensors {least}");
    assert!(least > 0 && bytes >= least, "{what}: {bytes} {least}");
    assert!(100 * bytes <= 101 * least, "{what}: {bytes} {least}");
}

/// A float network at every width, calibrated on noise: a plan depends on shapes and widths alone.
fn at_every_width(file: &Path) {
    let graph = load_graph(file).unwrap();
    let [h, w, c] = graph.shape(graph.input);
    let mut random = StdRng::seed_from_u64(1);
    let noise = (0..4 * h * w * c).map(|_| random.random_range(-1.0..1.0f32));
    let noise: Vec<f32> = noise.collect();
    let net = FloatNet::new(&graph, Backend::default()).unwrap();
    let calibration = calibrate(&graph, &net, &noise, Method::MinMax).unwrap();
    for bits in [8, 4, 3, 2] {
        let config = QuantizeConfig {
            bits,
            ..QuantizeConfig::default()
        };
        let model = quantize(&graph, &calibration, &config, &[], Preprocess::default()).unwrap();
        is_tight(&model, &format!("{}, {bits} bits", file.display()));
    }
}

#[test]
fn the_demo_networks_arena_is_what_its_tensors_need_at_every_width() {
    at_every_width(Path::new(DEMO));
}

#[test]
fn known_networks_arenas_are_what_their_tensors_need() {
    let test = "known_networks_arenas_are_what_their_tensors_need";
    let there = |file: &str| {
        let path = Path::new(DATA).join(file);
        if !path.is_file() {
            println!("SKIPPED {test}: {} is not there", path.display());
        }
        path.is_file().then_some(path)
    };
    for file in ["resnet8_cifar10_folded.onnx", "kws_dscnn_folded.onnx"] {
        if let Some(path) = there(file) {
            at_every_width(&path);
        }
    }
    for file in [
        "resnet8_cifar10_int8.tflite",
        "kws_dscnn_official_int8.tflite",
        "kws_dscnn_v20210322_int8.tflite",
        "hello_world_sine_int8.tflite",
    ] {
        if let Some(path) = there(file) {
            let bytes = std::fs::read(&path).unwrap();
            is_tight(&import_tflite_int8(&bytes, file).unwrap(), file);
        }
    }
}
