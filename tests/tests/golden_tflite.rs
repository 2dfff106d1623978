//! Our arithmetic against outputs that other people's kernels computed.
//!
//! `../shared/data` holds int8 networks in TFLite's format with recorded inputs and outputs:
//! `out_tflm` of TFLM, `out_ref` of LiteRT's reference kernels, and in `_layers` files every
//! operator's output under the latter. Not one element may differ, neither on the host's engine
//! nor on the device's portable one, which runs the image. Where the folder is absent (it is no
//! part of the repository), each test says so and checks nothing.

use std::path::{Path, PathBuf};

use qmend::engine::Engine;
use qmend::import::tflite::{import_tflite_int8, import_tflite_int8_as};
use qmend::model::{QuantizedModel, Rounding, TensorId};
use qmend_tests::golden::{Arrays, count_differing, on_device_engine, same};

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");

/// The int8 networks that have golden outputs.
fn networks(test: &str) -> Vec<PathBuf> {
    let folder = Path::new(DATA).join("models");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!(
            "SKIPPED: {test}: {} is absent, so nothing was compared",
            folder.display()
        );
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .map(|e| e.expect("the folder can be listed").path())
        .filter(|p| p.to_string_lossy().ends_with("_int8.tflite") && golden(p, "").exists())
        .collect();
    found.sort();
    assert!(
        !found.is_empty(),
        "{} holds no network with golden outputs",
        folder.display()
    );
    found
}

fn golden(network: &Path, suffix: &str) -> PathBuf {
    let stem = network
        .file_stem()
        .and_then(|s| s.to_str())
        .expect("a file name");
    Path::new(DATA)
        .join("golden")
        .join(format!("{stem}{suffix}.npz"))
}

fn load(path: &Path, rounding: Rounding) -> QuantizedModel {
    let bytes = std::fs::read(path).expect("the network can be read");
    let model = import_tflite_int8_as(&bytes, &path.display().to_string(), rounding)
        .expect("the network can be imported");
    model
}

fn outputs_agree(test: &str, rounding: Rounding, key: &str) {
    for path in networks(test) {
        let model = load(&path, rounding);
        let mut arrays = Arrays::open(&golden(&path, ""));
        let (inputs, want) = (arrays.int8("input"), arrays.int8(key));
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let host = Engine::new(&model)
            .expect("the host's engine takes it")
            .run(&inputs);
        let n = same(&format!("{name}, {key}, host"), &host, &want);
        let (device, _) = on_device_engine(&model, &inputs);
        let m = same(&format!("{name}, {key}, device's engine"), &device, &want);
        println!("{name}: {key}: 0 of {n} differ on the host's engine, 0 of {m} on the device's");
    }
}

#[test]
fn int8_networks_give_tflms_outputs_on_the_hosts_and_the_devices_engine() {
    outputs_agree("outputs of TFLM", Rounding::Tflm, "out_tflm");
}

#[test]
fn int8_networks_give_litert_reference_outputs_under_its_rounding() {
    outputs_agree(
        "outputs of LiteRT's reference kernels",
        Rounding::LiteRtReference,
        "out_ref",
    );
}

#[test]
fn every_operator_gives_the_output_of_litert_reference_kernels() {
    let mut networks_compared = 0;
    for path in networks("operators of LiteRT's reference kernels") {
        let layers = golden(&path, "_layers");
        if !layers.exists() {
            continue;
        }
        networks_compared += 1;
        let model = load(&path, Rounding::LiteRtReference);
        let mut arrays = Arrays::open(&layers);
        let inputs = arrays.int8("input");
        let keep: Vec<TensorId> = model.nodes.iter().map(|n| n.output).collect();
        let host = Engine::new(&model)
            .expect("the host's engine takes it")
            .run_keep(&inputs, &keep);
        let (_, device) = on_device_engine(&model, &inputs);
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        let operators: Vec<String> = arrays
            .names()
            .into_iter()
            .filter(|k| k.starts_with("op"))
            .collect();
        assert_eq!(
            operators.len(),
            model.nodes.len(),
            "{name}: a node for every operator"
        );
        let mut compared = 0;
        for key in operators {
            let index: usize = key[2..4].parse().expect("opNN_");
            let want = arrays.int8(&key);
            compared += same(&format!("{name}, {key}, host"), &host[index], &want);
            same(
                &format!("{name}, {key}, device's engine"),
                &device[index],
                &want,
            );
        }
        println!(
            "{name}: {} operators: 0 of {compared} elements differ on the host's engine, nor on the device's",
            model.nodes.len()
        );
    }
    assert!(
        networks_compared > 0 || !Path::new(DATA).exists(),
        "no network has a _layers file"
    );
}

/// The recorded outputs of the two rules differ, so a test that passed under either would show
/// nothing.
#[test]
fn the_rounding_rule_is_what_tells_tflm_from_litert() {
    for path in networks("rounding rules") {
        let mut arrays = Arrays::open(&golden(&path, ""));
        let (inputs, tflm, reference) = (
            arrays.int8("input"),
            arrays.int8("out_tflm"),
            arrays.int8("out_ref"),
        );
        let run = |rounding| {
            Engine::new(&load(&path, rounding))
                .expect("the engine takes it")
                .run(&inputs)
        };
        let recorded = count_differing(&tflm, &reference);
        assert!(
            recorded > 0,
            "{}: the recorded outputs do not differ",
            path.display()
        );
        assert_eq!(
            count_differing(&run(Rounding::Tflm), &run(Rounding::LiteRtReference)),
            recorded,
            "{}",
            path.display()
        );
    }
}

#[test]
fn damaged_copies_of_real_networks_are_refused_or_run() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    for path in networks("damaged copies") {
        let bytes = std::fs::read(&path).expect("the network can be read");
        let mut accepted = 0;
        for _ in 0..500 {
            let mut copy = bytes.clone();
            for _ in 0..1 + next() % 4 {
                let at = next() % copy.len();
                copy[at] = next() as u8;
            }
            if let Ok(model) = import_tflite_int8(&copy, "damaged") {
                accepted += usize::from(Engine::new(&model).is_ok());
            }
        }
        for _ in 0..100 {
            let cut = next() % bytes.len();
            let _ = import_tflite_int8(&bytes[..cut], "cut");
        }
        println!(
            "{}: {accepted} of 500 damaged copies are still networks",
            path.display()
        );
    }
}
