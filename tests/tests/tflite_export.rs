//! Networks that were quantized here, written as .tflite: LiteRT's reference kernels and TFLM take
//! the files and give, under the rule of each, every bit that our engine gives.

use std::path::Path;

use qmend::calibrate::{Method, calibrate};
use qmend::engine::Engine;
use qmend::export::tflite::write_tflite;
use qmend::float::{Backend, FloatNet};
use qmend::graph::Graph;
use qmend::import::tflite::import_tflite_int8_as;
use qmend::model::{Preprocess, QuantizedModel, Rounding};
use qmend::quantize::{QuantizeConfig, quantize};
use qmend_tests::float_networks::of_every_operator;
use qmend_tests::golden::count_differing;
use qmend_tests::litert::{self, Job, Outputs};
use rand::prelude::*;

const SAMPLES: usize = 24;

fn quantized(graph: &Graph, config: &QuantizeConfig, seed: u64) -> QuantizedModel {
    let mut rng = StdRng::seed_from_u64(seed);
    let x: Vec<f32> = (0..32 * graph.elements(graph.input))
        .map(|_| rng.random_range(-1.0..1.0))
        .collect();
    let net = FloatNet::new(graph, Backend::default()).expect("a sound network");
    let ranges = calibrate(graph, &net, &x, Method::MinMax).expect("finite");
    quantize(graph, &ranges, config, &x, Preprocess::default()).expect("it can be quantized")
}

/// Noise, both ends, the zero point, and a gradient.
fn inputs(model: &QuantizedModel, seed: u64) -> Vec<i8> {
    qmend_tests::random_model::random_inputs(model, SAMPLES, seed)
}

fn settings() -> Vec<(&'static str, QuantizeConfig)> {
    let plain = QuantizeConfig::default;
    vec![
        ("8-bit", plain()),
        (
            "per-tensor",
            QuantizeConfig {
                per_tensor: true,
                ..plain()
            },
        ),
        (
            "4-bit, ends 8",
            QuantizeConfig {
                bits: 4,
                keep_ends_8bit: true,
                ..plain()
            },
        ),
    ]
}

/// The models: every operator under all settings, and the network that the product carries.
fn models() -> Vec<(String, QuantizedModel)> {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../host/assets/fmnist_cnn.onnx");
    let demo = qmend::import::load_graph(demo).expect("the product's network");
    let mut networks = of_every_operator(1);
    networks.extend(of_every_operator(2));
    networks.push(("demo", demo));
    let mut all = Vec::new();
    for (i, (name, graph)) in networks.iter().enumerate() {
        for (how, config) in settings() {
            let model = quantized(graph, &config, i as u64);
            all.push((format!("{name}, {how}"), model));
        }
    }
    all
}

#[test]
fn networks_quantized_here_give_the_same_bits_as_tflite_files_in_litert_and_tflm() {
    let test = "exported networks in LiteRT and TFLM";
    let models = models();
    let mut jobs = Vec::new();
    for (i, (name, model)) in models.iter().enumerate() {
        let written = write_tflite(model, false).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(written.rounded, 0, "{name}");
        jobs.push(Job {
            file: written.bytes,
            inputs: inputs(model, i as u64),
        });
    }
    println!("{} networks can be written as .tflite", models.len());
    let Some(python) = litert::python(test) else {
        return;
    };
    let mut totals = [(0, 0); 2];
    let mut wrong = Vec::new();
    for ((name, _), (job, outputs)) in models
        .iter()
        .zip(jobs.iter().zip(litert::run_all(&python, test, &jobs)))
    {
        let rules = [
            (Rounding::LiteRtReference, &outputs.reference, "LiteRT"),
            (Rounding::Tflm, &outputs.tflm, "TFLM"),
        ];
        for ((rounding, theirs, who), (networks, elements)) in rules.into_iter().zip(&mut totals) {
            let theirs = match theirs {
                Outputs::Given(theirs) => theirs,
                Outputs::Refused(why) => {
                    wrong.push(format!("{name}: {who} refuses it: {why}"));
                    continue;
                }
                Outputs::Absent => continue,
            };
            // LiteRT makes some multipliers from scales in another way: it is its file that is read.
            let model = import_tflite_int8_as(&job.file, name, rounding).expect("it was read");
            let ours = Engine::new(&model).expect("it runs").run(&job.inputs);
            assert_eq!(ours.len(), theirs.len(), "{name}, {who}");
            let differing = count_differing(&ours, theirs);
            if differing > 0 {
                wrong.push(format!(
                    "{name}: {differing} of {} elements differ from {who}",
                    ours.len()
                ));
            }
            *networks += 1;
            *elements += ours.len();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for ((networks, elements), who) in totals
        .into_iter()
        .zip(["LiteRT's reference kernels", "TFLM"])
    {
        println!("{networks} networks, {elements} elements, 0 differing from {who}");
    }
    assert!(totals[0].0 == models.len(), "LiteRT ran every network");
}
