//! Repaired int8 networks as .tflite files: only weights and biases change, and LiteRT's reference
//! kernels give the bits that our engine gives.

use std::path::{Path, PathBuf};

use qmend::engine::Engine;
use qmend::export::tflite::Patchable;
use qmend::float::{Backend, FloatNet};
use qmend::import::tflite::{import_tflite_int8, import_tflite_int8_as};
use qmend::localize::match_layers;
use qmend::model::{QuantizedModel, Rounding};
use qmend::repair::{Edits, Freedom, Job as RepairJob, RepairConfig, Strategy, Tests, repair};
use qmend_tests::golden::{Arrays, same};
use qmend_tests::litert::{self, Job, Outputs};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");
const INT8: [&str; 4] = [
    "hello_world_sine_int8",
    "kws_dscnn_official_int8",
    "kws_dscnn_v20210322_int8",
    "resnet8_cifar10_int8",
];

/// A file of the data folder, or `None` (said aloud) where it is not there.
fn data(test: &str, path: &str) -> Option<PathBuf> {
    let full = Path::new(DATA).join(path);
    if full.exists() {
        return Some(full);
    }
    println!("SKIPPED: {test}: {} is absent", full.display());
    None
}

/// Moves about a fifth of the weights of every layer by one, and every bias by a little.
fn edited(model: &QuantizedModel) -> QuantizedModel {
    let mut rng = StdRng::seed_from_u64(7);
    let mut model = model.clone();
    for (_, l) in model.linears_mut() {
        for w in &mut l.weights {
            let step = [0, 0, 0, 0, 0, 0, 0, 0, 1, -1][rng.random_range(0..10)];
            *w = w.saturating_add(step).max(-127);
        }
        for b in &mut l.bias {
            *b += rng.random_range(-200..=200);
        }
    }
    model
}

#[test]
fn edited_files_read_back_exactly_and_give_our_bits_in_litert() {
    let test = "bits of patched files in LiteRT";
    let python = litert::python(test);
    for name in INT8 {
        let Some(path) = data(test, &format!("models/{name}.tflite")) else {
            continue;
        };
        let bytes = std::fs::read(path).expect("readable");
        let file = Patchable::new(&bytes, name).expect("it can be imported");
        let freedom = file.freedom();
        assert!(
            freedom.fixed_weights.is_empty() && freedom.fixed_biases.is_empty(),
            "{name}: {freedom:?}"
        );
        let original = import_tflite_int8(&bytes, name).expect("it can be imported");
        let model = edited(&original);
        let (patched, replaced) = file.patch(&model).expect("it fits");
        assert_eq!(import_tflite_int8(&patched, name).as_ref(), Ok(&model));
        assert_eq!(patched.len(), bytes.len());
        let edits = Edits::between(&original, &model);
        assert!(edits.weights > 0 && edits.biases > 0 && edits.multipliers == 0);
        // One byte a weight, at most four a bias.
        assert!(replaced.bytes >= edits.weights + edits.biases / 2);
        assert!(replaced.bytes <= edits.weights + 4 * edits.biases);

        let Some(python) = &python else { continue };
        let Some(golden) = data(test, &format!("golden/{name}.npz")) else {
            continue;
        };
        let inputs = Arrays::open(&golden).int8("input");
        // LiteRT's multipliers differ from TFLM's in the last bits.
        let model = import_tflite_int8_as(&patched, name, Rounding::LiteRtReference)
            .expect("it can be imported");
        let ours = Engine::new(&model).expect("it runs").run(&inputs);
        let theirs = litert::run(python, &patched, &inputs);
        let n = same(&format!("{name}, patched, in LiteRT"), &theirs, &ours);
        println!("{name}: patched file: 0 of {n} outputs differ from LiteRT's reference kernels");
    }
}

/// Moves every third multiplier by up to a tenth of a per cent, as far as the file can hold it.
fn rescaled(model: &QuantizedModel, freedom: &Freedom) -> QuantizedModel {
    let mut rng = StdRng::seed_from_u64(11);
    let old = model.clone();
    let mut model = edited(model);
    for (node, l) in model.linears_mut() {
        for m in l.multipliers.iter_mut().step_by(3) {
            let step = rng.random_range(-1_000_000..=1_000_000);
            let mantissa = m.mantissa.saturating_add(step);
            m.mantissa = mantissa.max(1 << 30);
        }
        let before = old.nodes[node].op.linear().expect("linear");
        freedom.conform(node, before, l);
    }
    model
}

#[test]
fn multipliers_become_weight_scales_that_both_runtimes_read_as_we_do() {
    let test = "multipliers of patched files in LiteRT and TFLM";
    let python = litert::python(test);
    let (mut jobs, mut wanted) = (Vec::new(), Vec::new());
    for name in INT8 {
        let (Some(path), Some(golden)) = (
            data(test, &format!("models/{name}.tflite")),
            data(test, &format!("golden/{name}.npz")),
        ) else {
            continue;
        };
        let bytes = std::fs::read(path).expect("readable");
        let file = Patchable::new(&bytes, name)
            .expect("it can be imported")
            .with_multipliers();
        let freedom = file.freedom();
        let original = import_tflite_int8(&bytes, name).expect("it can be imported");
        let model = rescaled(&original, &freedom);
        let edits = Edits::between(&original, &model);
        let (patched, _) = file.patch(&model).expect("it fits");
        assert_eq!(import_tflite_int8(&patched, name).as_ref(), Ok(&model));
        assert_eq!(patched.len(), bytes.len());
        println!(
            "{name}: {} multipliers changed, layers that keep theirs: {}",
            edits.multipliers,
            freedom.fixed_multipliers.len()
        );
        let per_channel = freedom.fixed_multipliers.len() < original.linears().count();
        assert_eq!(edits.multipliers > 0, per_channel, "{name}");
        let inputs = Arrays::open(&golden).int8("input");
        jobs.push(Job {
            file: patched,
            inputs,
        });
        wanted.push((name, model));
    }
    let Some(python) = python.filter(|_| !jobs.is_empty()) else {
        return;
    };
    let found = litert::run_all(&python, test, &jobs);
    for (((name, model), job), both) in wanted.iter().zip(&jobs).zip(found) {
        for (rounding, outputs, who) in [
            (Rounding::LiteRtReference, both.reference, "LiteRT"),
            (Rounding::Tflm, both.tflm, "TFLM"),
        ] {
            let theirs = match outputs {
                Outputs::Given(theirs) => theirs,
                Outputs::Refused(why) => panic!("{name}: {who} refuses it: {why}"),
                Outputs::Absent => continue,
            };
            let mut model = model.clone();
            model.rounding = rounding;
            let ours = Engine::new(&model).expect("it runs").run(&job.inputs);
            let n = same(&format!("{name}, patched, in {who}"), &theirs, &ours);
            println!("{name}: patched file: 0 of {n} outputs differ from {who}");
        }
    }
}

#[test]
fn an_onnx_network_and_the_int8_tflite_made_elsewhere_are_a_pair_that_can_be_repaired() {
    let test = "repair of a pair";
    let (Some(float), Some(int8), Some(samples)) = (
        data(test, "models/kws_dscnn_folded.onnx"),
        data(test, "models/kws_dscnn_v20210322_int8.tflite"),
        data(test, "kws_mfcc_500.npz"),
    ) else {
        return;
    };
    let graph = qmend::import::load_graph(float).expect("it can be imported");
    let bytes = std::fs::read(int8).expect("readable");
    let file = Patchable::new(&bytes, "kws").expect("it can be imported");
    let model = import_tflite_int8(&bytes, "kws").expect("it can be imported");
    let matches = match_layers(&graph, &model);
    assert_eq!(
        (matches.by_structure, matches.unmatched.len()),
        (model.linears().count(), 0),
        "no name is the same, every layer has its partner"
    );

    // The recorded features were quantized for another model: real = (q - 83) * 0.5847029.
    let input = model.tensor(model.input).clone();
    let size = input.elements();
    let mut arrays = Arrays::open(&samples);
    let features = arrays.int8("features_int8");
    let reals: Vec<f32> = features
        .iter()
        .map(|q| (f32::from(*q) - 83.0) * 0.584_702_9)
        .collect();
    let net = FloatNet::new(&graph, Backend::default()).expect("it runs");
    let tests = |range: std::ops::Range<usize>| {
        let reals = reals[range.start * size..range.end * size].to_vec();
        let integers = reals.iter().map(|r| input.quantize(*r)).collect();
        Tests::from_teacher(&net, reals, integers, size, graph.elements(graph.output))
            .expect("it runs")
    };
    // Coarse biases first, so that there is something to mend.
    let mut damaged = model.clone();
    for (_, l) in damaged.linears_mut() {
        for b in &mut l.bias {
            *b = *b / 4096 * 4096;
        }
    }
    let (mend, hold) = (tests(0..200), tests(200..400));
    let config = RepairConfig {
        strategy: Strategy::Margin.into(),
        rounds: 2,
        // 200 holdout tests are too few to prove a gain; here the file matters.
        significance: 1.0,
        freedom: file.freedom(),
        ..RepairConfig::default()
    };
    let job = RepairJob {
        graph: &graph,
        float: &net,
        model: &damaged,
        repair: &mend,
        holdout: &hold,
    };
    let outcome = repair(&job, &config, &|| false, &mut |_| {}).expect("it can be repaired");
    assert!(
        outcome.after.repair > outcome.before.repair
            && outcome.after.holdout >= outcome.before.holdout,
        "{:?} {:?}",
        outcome.before,
        outcome.after
    );
    assert_eq!(outcome.edits.multipliers, 0);
    let (patched, _) = file
        .patch(&outcome.model)
        .expect("the repair fits the file");
    let back = import_tflite_int8(&patched, "kws").expect("it can be imported");
    assert_eq!(back, outcome.model);
    println!(
        "{} to {} of {} repair tests, {} to {} of {} holdout tests",
        outcome.before.repair,
        outcome.after.repair,
        mend.len(),
        outcome.before.holdout,
        outcome.after.holdout,
        hold.len()
    );
}
