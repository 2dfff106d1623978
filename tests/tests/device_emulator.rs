//! The emulated device as a device: limits, refusals, counts, and what happens when it is not
//! there or ends.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use qmend::device::{Device, DeviceError, HostDevice, Qemu, QemuOptions};
use qmend::export::image::write_image;
use qmend::model::{QuantizedModel, TensorId};
use qmend_tests::emulator::start_or_skip;
use qmend_tests::random_model::{Focus, random_inputs, random_model, random_network};

#[test]
fn it_says_who_it_is() {
    let Some(device) = start_or_skip("it_says_who_it_is") else {
        return;
    };
    let who = device.identity();
    assert_eq!(
        (who.name.as_str(), who.core.as_str()),
        ("mps2-an386", "Cortex-M4")
    );
    assert_eq!(who.firmware, env!("CARGO_PKG_VERSION"));
    assert!(
        who.slot_bytes >= 1 << 20 && who.memory_bytes >= 1 << 20,
        "{who:?}"
    );
    assert!((10_000..200_000).contains(&who.code_bytes), "{who:?}");
}

#[test]
fn instruction_counts_repeat_and_follow_the_work() {
    let Some(mut device) = start_or_skip("instruction_counts_repeat_and_follow_the_work") else {
        return;
    };
    let mut count = |seed: u64| {
        let model = random_model(Focus::Conv, 8, seed);
        device.load(&write_image(&model).unwrap()).unwrap();
        let input = random_inputs(&model, 1, 1);
        let counts: Vec<u64> = (0..3)
            .map(|_| device.infer(&input).unwrap().instructions.unwrap())
            .collect();
        // A tick is 40 instructions.
        assert!(
            counts
                .iter()
                .all(|c| c.abs_diff(counts[0]) <= 40 && c % 40 == 0),
            "{counts:?}"
        );
        (least_macs(&model), counts[0])
    };
    let mut pairs: Vec<(u64, u64)> = (0..30).map(&mut count).filter(|p| p.0 > 0).collect();
    pairs.sort_unstable();
    let (small, large) = (pairs[0], pairs[pairs.len() - 1]);
    assert!(large.0 > 4 * small.0, "the models are too alike: {pairs:?}");
    assert!(
        large.1 > small.1,
        "more work cost no more instructions: {small:?} {large:?}"
    );
    for (macs, instructions) in pairs {
        assert!(
            instructions > macs,
            "{instructions} instructions for {macs} multiply-accumulates"
        );
    }
}

/// A quarter of the linear operators' taps: fewer than the multiply-accumulates that are left where
/// windows hang over the input.
fn least_macs(model: &QuantizedModel) -> u64 {
    let of = |(node, l): (usize, &qmend::model::Linear)| {
        let [h, w, c] = model.tensor(model.nodes[node].output).shape;
        (h * w * c * l.taps()) as u64
    };
    model.linears().map(of).sum::<u64>() / 4
}

#[test]
fn memory_use_is_reported_and_bounded() {
    let Some(mut device) = start_or_skip("memory_use_is_reported_and_bounded") else {
        return;
    };
    let model = random_network(20, 4, 3);
    let loaded = device.load(&write_image(&model).unwrap()).unwrap();
    let before = device.stats().unwrap().stack_high_water.unwrap();
    device.infer(&random_inputs(&model, 1, 3)).unwrap();
    let stats = device.stats().unwrap();
    assert_eq!(stats.arena_bytes, loaded.arena_bytes as u64);
    assert_eq!(
        stats.tensor_bytes,
        (loaded.arena_bytes + loaded.input_len + loaded.output_len) as u64
    );
    let stack = stats.stack_high_water.unwrap();
    assert!(
        stack > before && (500..16_000).contains(&stack),
        "stack {before} before, {stack} after a run"
    );
}

#[test]
fn an_image_with_a_flipped_bit_is_refused_for_the_host_s_reason() {
    let Some(mut device) =
        start_or_skip("an_image_with_a_flipped_bit_is_refused_for_the_host_s_reason")
    else {
        return;
    };
    let model = random_network(6, 3, 8);
    let image = write_image(&model).unwrap();
    for i in 0..300 {
        let mut bad = image.clone();
        // Every byte of the header, then spread over the rest.
        let at = if i < 16 { i } else { i * 7919 % image.len() };
        bad[at] ^= 1 << (i % 8);
        let host = HostDevice::new().load(&bad).expect_err("a damaged image");
        let there = device.load(&bad).expect_err("a damaged image");
        assert!(
            matches!(there, DeviceError::BadImage { .. }),
            "byte {at}: {there}"
        );
        let length_byte = (8..12).contains(&at);
        // The host knows the file's length, the device only its slot's.
        assert!(
            length_byte || host.to_string() == there.to_string(),
            "byte {at}: {host} | {there}"
        );
    }
    device.load(&image).unwrap();
}

#[test]
fn an_image_that_does_not_fit_is_refused_with_its_size() {
    let Some(mut device) = start_or_skip("an_image_that_does_not_fit_is_refused_with_its_size")
    else {
        return;
    };
    let slot = device.identity().slot_bytes;
    let error = device.load(&vec![0; slot as usize + 1]).unwrap_err();
    assert!(
        matches!(error, DeviceError::TooLarge { what: "image slot", capacity, .. } if capacity == slot),
        "{error}"
    );

    // A table of one operator over tensors that fill more than the device's memory.
    let mut model = random_model(Focus::Lut, 8, 0);
    model.nodes.truncate(1);
    model.nodes[0].op = qmend::model::Op::Lut {
        table: Box::new([3; 256]),
    };
    model.nodes[0].inputs = vec![TensorId(0)];
    model.nodes[0].output = TensorId(1);
    model.tensors.truncate(2);
    for t in &mut model.tensors {
        t.shape = [1000, 1000, 2];
    }
    model.output = TensorId(1);
    let image = write_image(&model).unwrap();
    let error = device.load(&image).unwrap_err();
    let memory = device.identity().memory_bytes;
    assert!(
        matches!(error, DeviceError::TooLarge { what: "memory for tensors", needed, capacity }
            if capacity == memory && needed > capacity),
        "{error}"
    );
    // And it still works afterwards.
    device
        .load(&write_image(&random_model(Focus::Conv, 4, 1)).unwrap())
        .unwrap();
}

#[test]
fn an_emulator_that_ends_is_an_error_and_not_a_wait() {
    let Some(mut device) = start_or_skip("an_emulator_that_ends_is_an_error_and_not_a_wait") else {
        return;
    };
    device.transport_mut().kill();
    let begin = Instant::now();
    let error = device.load(&[0; 64]).unwrap_err();
    assert!(matches!(error, DeviceError::Gone { .. }), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn an_answer_that_takes_too_long_is_an_error() {
    let options = QemuOptions {
        limit: Duration::from_millis(1500),
        ..QemuOptions::default()
    };
    let Some(mut device) = qmend_tests::emulator::start_with_or_skip(
        "an_answer_that_takes_too_long_is_an_error",
        &options,
    ) else {
        return;
    };
    // Some 10^10 instructions.
    let mut model = random_model(Focus::MaxPool, 8, 0);
    model.nodes.truncate(1);
    model.tensors.truncate(2);
    model.tensors[0].shape = [900, 900, 1];
    model.tensors[1].shape = [775, 775, 1];
    model.nodes[0].op = qmend::model::Op::MaxPool(qmend::model::Pool {
        kernel: [126, 126],
        stride: [1, 1],
        dilation: [1, 1],
        pads: qmend::graph::Pads::default(),
        act_min: -128,
        act_max: 127,
    });
    model.nodes[0].inputs = vec![TensorId(0)];
    model.nodes[0].output = TensorId(1);
    model.output = TensorId(1);
    let zero_point = model.tensors[0].zero_point;
    model.tensors[1].zero_point = zero_point;
    model.tensors[1].scale = model.tensors[0].scale;
    device.load(&write_image(&model).unwrap()).unwrap();
    let error = device.infer(&random_inputs(&model, 1, 0)).unwrap_err();
    assert!(
        matches!(error, DeviceError::Timeout { request: "run", .. }),
        "{error}"
    );
}

#[test]
fn what_is_missing_is_said_in_one_line_with_its_remedy() {
    let nowhere = PathBuf::from("/nowhere/at-all");
    let no_qemu = QemuOptions {
        program: Some(nowhere.clone()),
        ..QemuOptions::default()
    };
    let error = no_qemu.find().unwrap_err().to_string();
    assert!(
        error.contains("apt-get install qemu-system-arm") && error.contains("QMEND_QEMU"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
    let error = DeviceError::FirmwareMissing {
        searched: vec![nowhere.clone()],
    }
    .to_string();
    assert!(
        error.contains("firmware/build.sh") && error.contains("QMEND_FIRMWARE"),
        "{error}"
    );
    assert_eq!(error.lines().count(), 1);
    if start_or_skip("what_is_missing_is_said_in_one_line_with_its_remedy").is_none() {
        return;
    }
    let no_firmware = QemuOptions {
        firmware: Some(nowhere),
        ..QemuOptions::default()
    };
    assert!(matches!(
        no_firmware.find(),
        Err(DeviceError::FirmwareMissing { .. })
    ));
    // A program that is no agent ends the emulator, or says nothing.
    let stranger = QemuOptions {
        firmware: Some(minimal_firmware()),
        limit: Duration::from_secs(10),
        ..QemuOptions::default()
    };
    assert!(Qemu::start(&stranger).is_err());
}

fn minimal_firmware() -> PathBuf {
    PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target-firmware/minimal_mps2_an386.elf"
    ))
}

/// The example in `firmware/examples`: the runtime in someone's own firmware.
#[test]
fn the_minimal_firmware_prints_the_class_that_the_host_computes() {
    if start_or_skip("the_minimal_firmware_prints_the_class_that_the_host_computes").is_none() {
        return;
    }
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../firmware/examples/data");
    let image = std::fs::read(format!("{data}/fashion.qmend")).unwrap();
    let input: Vec<i8> = std::fs::read(format!("{data}/ankle_boot.bin"))
        .unwrap()
        .iter()
        .map(|&b| b as i8)
        .collect();
    let mut host = HostDevice::new();
    host.load(&image).unwrap();
    let scores = host.infer(&input).unwrap().output;
    let class = (0..10).max_by_key(|&c| scores[c]).unwrap();
    let (qemu, _) = QemuOptions::default().find().unwrap();
    let run = Command::new(qemu)
        .args([
            "-M",
            "mps2-an386",
            "-nodefaults",
            "-display",
            "none",
            "-monitor",
            "none",
            "-serial",
            "none",
        ])
        .args(["-semihosting-config", "enable=on,target=native", "-kernel"])
        .arg(minimal_firmware())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    let said =
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    assert!(
        said.lines().any(|line| line == class.to_string()),
        "expected {class}: {said:?}"
    );
    assert_eq!(class, 9, "the image shows an ankle boot");
}
