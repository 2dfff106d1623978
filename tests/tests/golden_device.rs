//! The emulated Cortex-M4 against outputs that other people's kernels computed: every int8 network
//! of `../shared/data` (see `recorded`), as the image that a device holds, on all recorded inputs.
//! Not one element may differ.
//!
//! A network has an emulator of its own, and all run at once.

use std::time::Instant;

use qmend::device::Device;
use qmend::export::write_image;
use qmend::model::Rounding;
use qmend_shared::link::frame::crc32;
use qmend_tests::emulator::start_or_skip;
use qmend_tests::golden::{count_differing, same};
use qmend_tests::recorded::{Network, networks};

/// Runs `job` for every network on an emulator of its own.
fn on_emulators(test: &str, job: impl Fn(&Network, &mut dyn Device) + Sync) {
    let job = &job;
    std::thread::scope(|scope| {
        let runs: Vec<_> = networks(test)
            .into_iter()
            .filter_map(|network| Some((start_or_skip(test)?, network)))
            .map(|(mut device, network)| scope.spawn(move || job(&network, &mut device)))
            .collect();
        for run in runs {
            run.join()
                .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
        }
    });
}

/// Outputs of all inputs.
fn infer(device: &mut dyn Device, name: &str, inputs: &[i8], size: usize) -> Vec<i8> {
    let one = |input| {
        let inference = device.infer(input);
        inference.unwrap_or_else(|e| panic!("{name}: {e}")).output
    };
    inputs.chunks_exact(size).flat_map(one).collect()
}

#[test]
fn int8_networks_give_tflms_outputs_on_the_emulated_m4_for_all_recorded_inputs() {
    on_emulators("outputs of TFLM on the device", |network, device| {
        let begin = Instant::now();
        let image = write_image(&network.load(Rounding::Tflm)).expect("an image can be written");
        let loaded = device.load(&image).expect("the device takes it");
        let mut arrays = network.outputs();
        let (inputs, want) = (arrays.int8("input"), arrays.int8("out_tflm"));
        let got = infer(device, &network.name, &inputs, loaded.input_len);
        let n = same(
            &format!("{}, out_tflm, emulated M4", network.name),
            &got,
            &want,
        );
        println!(
            "{}: {} inputs, {n} output elements of TFLM, 0 differing on the emulated M4 ({:.1} s)",
            network.name,
            inputs.len() / loaded.input_len,
            begin.elapsed().as_secs_f64()
        );
    });
}

/// Inputs that are run under LiteRT's rule beside those for which the two rules' outputs differ.
const UNDER_THE_OTHER_RULE: usize = 25;

#[test]
fn int8_networks_give_litert_reference_outputs_on_the_emulated_m4_under_its_rounding() {
    on_emulators("outputs of LiteRT on the device", |network, device| {
        let begin = Instant::now();
        let model = network.load(Rounding::LiteRtReference);
        let image = write_image(&model).expect("an image can be written");
        let loaded = device.load(&image).expect("the device takes it");
        let mut arrays = network.outputs();
        let all = arrays.int8("input");
        let (reference, tflm) = (arrays.int8("out_ref"), arrays.int8("out_tflm"));
        let samples = all.chunks_exact(loaded.input_len);
        let outputs = reference.chunks_exact(loaded.output_len);
        let (mut inputs, mut want, mut telling) = (Vec::new(), Vec::new(), 0);
        for (i, ((input, output), other)) in samples
            .zip(outputs)
            .zip(tflm.chunks_exact(loaded.output_len))
            .enumerate()
        {
            telling += usize::from(output != other);
            if i < UNDER_THE_OTHER_RULE || output != other {
                inputs.extend_from_slice(input);
                want.extend_from_slice(output);
            }
        }
        assert!(
            telling > 0,
            "{}: no input tells the rules apart",
            network.name
        );
        let got = infer(device, &network.name, &inputs, loaded.input_len);
        let n = same(
            &format!("{}, out_ref, emulated M4", network.name),
            &got,
            &want,
        );
        println!(
            "{}: {} inputs, {telling} of which tell the rules apart, {n} output elements of LiteRT's reference kernels, 0 differing on the emulated M4 ({:.1} s)",
            network.name,
            inputs.len() / loaded.input_len,
            begin.elapsed().as_secs_f64()
        );
    });
}

#[test]
fn every_operator_gives_litert_reference_outputs_on_the_emulated_m4() {
    on_emulators("operators of LiteRT on the device", |network, device| {
        let begin = Instant::now();
        let Some((inputs, want)) = network.layers() else {
            println!(
                "SKIPPED: {}: no outputs of its operators were recorded",
                network.name
            );
            return;
        };
        let model = network.load(Rounding::LiteRtReference);
        let image = write_image(&model).expect("an image can be written");
        let loaded = device.load(&image).expect("the device takes it");
        assert_eq!(
            want.len(),
            loaded.operators,
            "{}: a node for every operator",
            network.name
        );
        let samples = inputs.len() / loaded.input_len;
        let mut elements = 0;
        for (i, input) in inputs.chunks_exact(loaded.input_len).enumerate() {
            let digests = device.operator_digests(input).expect("it runs");
            for (operator, (digest, all)) in digests.iter().zip(&want).enumerate() {
                let len = all.len() / samples;
                let want = &all[i * len..][..len];
                elements += len;
                let bytes: Vec<u8> = want.iter().map(|x| *x as u8).collect();
                if *digest == crc32(&bytes) {
                    continue;
                }
                let got = device.operator_output(input, operator).expect("it runs");
                panic!(
                    "{}, input {i}, operator {operator} ({}): {} of {len} elements differ",
                    network.name,
                    model.nodes[operator].name,
                    count_differing(&got, want)
                );
            }
        }
        println!(
            "{}: {} operators, {samples} inputs, {elements} elements of LiteRT's reference kernels, 0 differing on the emulated M4 (by CRC-32; {:.1} s)",
            network.name,
            want.len(),
            begin.elapsed().as_secs_f64()
        );
    });
}
