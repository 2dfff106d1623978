//! Our arithmetic against outputs that other people's kernels computed (see `recorded`). Not one
//! element may differ, neither on the host's engine nor on the device's portable one, which runs the
//! image. `golden_device` does the same on the emulated core.

use qmend::engine::Engine;
use qmend::import::tflite::import_tflite_int8;
use qmend::model::{Rounding, TensorId};
use qmend_tests::golden::{count_differing, on_device_engine, same};
use qmend_tests::recorded::networks;

fn outputs_agree(test: &str, rounding: Rounding, key: &str) {
    for network in networks(test) {
        let (name, model) = (&network.name, network.load(rounding));
        let mut arrays = network.outputs();
        let (inputs, want) = (arrays.int8("input"), arrays.int8(key));
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
    let (mut all, mut compared) = (0, 0);
    for network in networks("operators of LiteRT's reference kernels") {
        all += 1;
        let Some((inputs, want)) = network.layers() else {
            continue;
        };
        compared += 1;
        let (name, model) = (&network.name, network.load(Rounding::LiteRtReference));
        let keep: Vec<TensorId> = model.nodes.iter().map(|n| n.output).collect();
        let host = Engine::new(&model)
            .expect("the host's engine takes it")
            .run_keep(&inputs, &keep);
        let (_, device) = on_device_engine(&model, &inputs);
        assert_eq!(
            want.len(),
            model.nodes.len(),
            "{name}: a node for every operator"
        );
        let mut elements = 0;
        for (index, want) in want.iter().enumerate() {
            let what = format!("{name}, operator {index}");
            elements += same(&format!("{what}, host"), &host[index], want);
            same(&format!("{what}, device's engine"), &device[index], want);
        }
        println!(
            "{name}: {} operators: 0 of {elements} elements differ on the host's engine, nor on the device's",
            model.nodes.len()
        );
    }
    assert!(compared > 0 || all == 0, "no network has a _layers file");
}

/// The recorded outputs of the two rules differ, so a test that passed under either would show
/// nothing.
#[test]
fn the_rounding_rule_is_what_tells_tflm_from_litert() {
    for network in networks("rounding rules") {
        let mut arrays = network.outputs();
        let (inputs, tflm, reference) = (
            arrays.int8("input"),
            arrays.int8("out_tflm"),
            arrays.int8("out_ref"),
        );
        let run = |rounding| {
            Engine::new(&network.load(rounding))
                .expect("the engine takes it")
                .run(&inputs)
        };
        let recorded = count_differing(&tflm, &reference);
        assert!(
            recorded > 0,
            "{}: the recorded outputs do not differ",
            network.name
        );
        assert_eq!(
            count_differing(&run(Rounding::Tflm), &run(Rounding::LiteRtReference)),
            recorded,
            "{}",
            network.name
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
    for network in networks("damaged copies") {
        let bytes = std::fs::read(&network.path).expect("the network can be read");
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
            network.name
        );
    }
}
