//! The flash drivers of chips that no emulator has, executed: the real agents' machine code, with
//! models of the flash controllers after the chips' manuals. A model notes what its manual forbids.

use std::process::Command;

use qmend::device::{Device, HostDevice, LinkDevice, Port, verify};
use qmend::export::image::write_image;
use qmend::export::patch::write_patch;
use qmend::export::self_test::with_self_tests;
use qmend::model::QuantizedModel;
use qmend_shared::link::frame::crc32;
use qmend_tests::chip::{Chip, agent_or_skip, folder, python_or_skip};
use qmend_tests::random_model::{mended, random_inputs, random_network};
use serde_json::Value;

/// What builds the agents: with an argument those of boards that no emulator has.
const BUILD: &str = "firmware/build.sh [--boards]";

#[test]
fn what_a_manual_forbids_is_noticed_by_the_models() {
    let Some(python) = python_or_skip("what_a_manual_forbids_is_noticed_by_the_models") else {
        return;
    };
    let out = Command::new(python)
        .args(["-m", "unittest", "-v", "test_models"])
        .current_dir(folder())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    print!("{said}");
    assert!(out.status.success() && said.contains("Ran "), "{said}");
}

#[test]
fn the_stm32f405_s_flash_driver_does_what_its_manual_asks() {
    drives(
        "the_stm32f405_s_flash_driver_does_what_its_manual_asks",
        "stm32f405",
    );
}

#[test]
fn the_stm32f411_s_flash_driver_does_what_its_manual_asks() {
    drives(
        "the_stm32f411_s_flash_driver_does_what_its_manual_asks",
        "nucleo-f411re",
    );
}

#[test]
fn the_nrf52840_s_flash_driver_does_what_its_manual_asks() {
    drives(
        "the_nrf52840_s_flash_driver_does_what_its_manual_asks",
        "nrf52840-dk",
    );
}

#[test]
fn the_rp2040_s_flash_driver_does_what_its_manual_asks() {
    drives(
        "the_rp2040_s_flash_driver_does_what_its_manual_asks",
        "pico",
    );
}

fn image(model: &QuantizedModel) -> Vec<u8> {
    write_image(model).unwrap()
}

fn running(device: &mut LinkDevice<Port>) -> u32 {
    device.open().expect("an image runs").2
}

fn lawful(counts: &Value) {
    assert_eq!(counts["violations"], Value::Array(vec![]), "{counts}");
}

fn drives(test: &str, board: &str) {
    let Some(python) = python_or_skip(test) else {
        return;
    };
    let Some(firmware) = agent_or_skip(test, board, BUILD) else {
        return;
    };
    let mut chip = Chip::start(&python, board, &firmware);
    let mut device = chip.connect();
    assert_eq!(device.identity().name, board);
    let model = random_network(8, 8, 4);
    let models = [model.clone(), mended(&model, 1), mended(&model, 2)];
    let images = models.each_ref().map(image);
    let inputs = random_inputs(&model, 10, 1);
    let same = |device: &mut LinkDevice<Port>, n: usize| {
        let report = verify(&models[n], &images[n], &inputs, device, |_| ()).unwrap();
        assert!(report.identical(), "{report:?}");
        report
    };

    // Flashed, it gives the host's bits; so does what a patch makes of it.
    let time = same(&mut device, 0).time.expect("it has a clock");
    let counter = if board == "pico" {
        "timer"
    } else {
        "DWT CYCCNT"
    };
    assert_eq!((time.clock.counter, time.clock.cycles), (counter, true));
    assert!(0 < time.min && time.min <= time.median && time.median <= time.max);
    let patch = write_patch(&images[0], &images[1]).unwrap();
    device.flash_patch(&patch, &mut |_, _| ()).unwrap();
    same(&mut device, 1);
    let before = chip.press("reset");
    lawful(&before);
    assert!(before["erased"].as_u64() > Some(0) && before["programmed"].as_u64() > Some(2));

    // After a reset it is there still, and nothing is written to run it.
    let mut device = chip.connect();
    assert_eq!(running(&mut device), crc32(&images[1]));
    same(&mut device, 1);
    let after = chip.press("report");
    assert_eq!(
        (&after["starts"], &after["erased"], &after["programmed"]),
        (&2.into(), &before["erased"], &before["programmed"])
    );
    device.roll_back().unwrap();
    assert_eq!(running(&mut device), crc32(&images[0]));

    // The power is cut inside operations on flash of an update: the old or the new model runs.
    let count = |counts: &Value| {
        counts["erased"].as_u64().unwrap() + counts["programmed"].as_u64().unwrap()
    };
    let begin = count(&chip.press("report"));
    device.flash(&images[2], &mut |_, _| ()).unwrap();
    let operations = count(&chip.press("report")) - begin;
    device.roll_back().unwrap();
    // The other slot is made to differ, so that the same has to be written again.
    let mut spots: Vec<u64> = (0..16).map(|i| 1 + i * operations / 16).collect();
    spots.extend([2, 3, operations - 1, operations]);
    let (mut old, mut new) = (0, 0);
    for &cut in &spots {
        let now = running(&mut device);
        let (current, other, target) = if now == crc32(&images[0]) {
            (0, 1, 2)
        } else {
            (2, 1, 0)
        };
        device.flash(&images[other], &mut |_, _| ()).unwrap();
        device.roll_back().unwrap();
        assert_eq!(running(&mut device), crc32(&images[current]));
        let starts = chip.press(&format!("cut {cut}"))["starts"]
            .as_u64()
            .unwrap();
        assert!(device.flash(&images[target], &mut |_, _| ()).is_err());
        device = chip.connect();
        let starts_now = chip.press("report")["starts"].as_u64().unwrap();
        assert_eq!(starts_now, starts + 1, "the cut at operation {cut}");
        let runs = running(&mut device);
        match runs {
            _ if runs == crc32(&images[current]) => {
                old += 1;
                same(&mut device, current);
            }
            _ => {
                new += 1;
                assert_eq!(runs, crc32(&images[target]));
                same(&mut device, target);
            }
        }
        same(&mut device, target);
    }
    // Of a core without cycle counter, SysTick times.
    lawful(&chip.press("cyccnt off"));
    let mut device = chip.connect();
    let n = images
        .iter()
        .position(|i| crc32(i) == running(&mut device))
        .unwrap();
    let time = same(&mut device, n).time.expect("it has a clock");
    assert_eq!((time.clock.counter, time.min > 0), ("timer", true));

    let counts = chip.press("report");
    lawful(&counts);
    assert!(old > 0, "a cut before the commit leaves the old model");
    println!(
        "{board}: {operations} operations an update; {} cuts: {old} times the old, {new} times the new model; {counts}",
        spots.len()
    );
}

/// Firmware that was built to (`firmware/build.sh --self-test`) runs the self-tests of the model in its flash
/// after each reset, before it serves.
#[test]
fn self_tests_run_at_the_start_of_a_chip_and_the_host_can_ask_for_their_result() {
    const NAME: &str =
        "self_tests_run_at_the_start_of_a_chip_and_the_host_can_ask_for_their_result";
    let Some(python) = python_or_skip(NAME) else {
        return;
    };
    let Some(firmware) =
        agent_or_skip(NAME, "stm32f405-self-test", "firmware/build.sh --self-test")
    else {
        return;
    };
    let model = random_network(8, 8, 4);
    let plain = image(&model);
    let inputs = random_inputs(&model, 3, 1);
    let mut host = HostDevice::new();
    let size = host.load(&plain).unwrap().input_len;
    let outputs: Vec<i8> = inputs
        .chunks(size)
        .flat_map(|input| host.infer(input).unwrap().output)
        .collect();
    let mut wrong = outputs.clone();
    // The first element that the second test expects.
    wrong[outputs.len() / 3] ^= 1;
    let mut chip = Chip::start(&python, "stm32f405", &firmware);
    let mut device = chip.connect();
    assert_eq!(device.boot_test().unwrap(), None);
    for (expected, passed, failing) in [(&outputs, 3, None), (&wrong, 2, Some(1))] {
        let tested = with_self_tests(&plain, &inputs, expected).unwrap();
        device.flash(&tested, &mut |_, _| ()).unwrap();
        lawful(&chip.press("reset"));
        device = chip.connect();
        let done = device.boot_test().unwrap().expect("they ran");
        assert_eq!((done.passed, done.failed), (passed, 3 - passed));
        assert_eq!(done.first_failing, failing);
    }
    lawful(&chip.press("report"));
}

/// A driver that is wrong: the second key has another bit.
#[test]
fn a_driver_with_a_wrong_key_cannot_flash_and_is_found_out() {
    const NAME: &str = "a_driver_with_a_wrong_key_cannot_flash_and_is_found_out";
    let Some(python) = python_or_skip(NAME) else {
        return;
    };
    let Some(firmware) = agent_or_skip(NAME, "stm32f405", BUILD) else {
        return;
    };
    let mut program = std::fs::read(firmware).unwrap();
    let key = 0xCDEF_89AB_u32.to_le_bytes();
    let mut found = 0;
    for at in 0..program.len() - 4 {
        if program[at..at + 4] == key {
            program[at] ^= 1;
            found += 1;
        }
    }
    assert!(found > 0, "the key is a literal");
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.elf");
    std::fs::write(&wrong, program).unwrap();
    let mut chip = Chip::start(&python, "stm32f405", &wrong);
    let mut device = chip.connect();
    let model = random_network(8, 8, 4);
    assert!(device.flash(&image(&model), &mut |_, _| ()).is_err());
    let counts = chip.press("report");
    let violations = counts["violations"].as_array().unwrap();
    assert!(
        violations[0]
            .as_str()
            .unwrap()
            .contains("out of its sequence"),
        "{counts}"
    );
    assert_eq!(
        (&counts["erased"], &counts["programmed"]),
        (&0.into(), &0.into())
    );
}
