//! Emulated boards whose firmware holds a public key: built by
//! `QMEND_PUBLIC_KEY=tests/keys/rfc8410.pub firmware/build.sh`.

use std::path::Path;
use std::time::Instant;

use qmend::device::port::Port;
use qmend::device::qemu::{MICROBIT, Machine, NETDUINOPLUS2};
use qmend::device::{DeviceError, LinkDevice, QemuOptions, Transport, verify};
use qmend::export::elf::{read_elf, write_elf};
use qmend::export::patch::write_patch;
use qmend::export::signature::SigningKey;
use qmend::export::write_image;
use qmend_shared::link::frame::crc32;
use qmend_shared::slot::boards;
use qmend_tests::chip::{Chip, agent_or_skip, python_or_skip};
use qmend_tests::committed::Committed;
use qmend_tests::emulator::start_with_or_skip;
use qmend_tests::random_model::{mended, random_inputs, random_network};

/// What builds their agents.
const BUILD: &str = "QMEND_PUBLIC_KEY=tests/keys/rfc8410.pub firmware/build.sh";

/// The private key of RFC 8410, section 10.3: everybody has it.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";

#[test]
fn the_emulated_stm32f405_takes_what_its_key_signed_and_nothing_else() {
    signed_alone(
        "the_emulated_stm32f405_takes_what_its_key_signed_and_nothing_else",
        NETDUINOPLUS2,
    );
}

#[test]
fn the_emulated_microbit_takes_what_its_key_signed_and_nothing_else() {
    signed_alone(
        "the_emulated_microbit_takes_what_its_key_signed_and_nothing_else",
        MICROBIT,
    );
}

fn signed_alone(test: &str, machine: Machine) {
    let Some(firmware) = agent_or_skip(test, &format!("{}-signed", machine.name), BUILD) else {
        return;
    };
    let options = QemuOptions {
        machine,
        firmware: Some(firmware),
        ..QemuOptions::default()
    };
    let Some(mut device) = start_with_or_skip(test, &options) else {
        return;
    };
    let key = SigningKey::from_pem(KEY).unwrap();
    let model = random_network(8, 4, 4);
    let images = [0, 1, 2].map(|n| match n {
        0 => write_image(&model).unwrap(),
        n => write_image(&mended(&model, n)).unwrap(),
    });
    let signed = |n: usize, version| {
        let block = key.sign(&images[n], version).unwrap();
        [&images[n][..], &block.to_bytes()].concat()
    };
    let trust = device.trust().unwrap();
    assert_eq!(
        trust.key_id.map(|id| qmend::export::signature::hex(&id)),
        Some(key.public().id())
    );
    let mut flash = |bytes: &[u8]| device.flash(bytes, &mut |_, _| ()).map(|r| r.sequence);
    assert!(matches!(flash(&images[0]), Err(DeviceError::Unsigned)));
    let stranger = SigningKey::generate().unwrap();
    let mut block = stranger.sign(&images[0], 9).unwrap();
    let strange = [&images[0][..], &block.to_bytes()].concat();
    assert!(matches!(flash(&strange), Err(DeviceError::OtherKey { .. })));
    // A signature that only claims to be the right key's.
    block.key_id.copy_from_slice(&trust.key_id.unwrap());
    let claims = [&images[0][..], &block.to_bytes()].concat();
    let begin = Instant::now();
    let refused = flash(&claims).unwrap_err();
    assert!(matches!(refused, DeviceError::BadSignature), "{refused}");
    println!("a refusal took {:.2} s", begin.elapsed().as_secs_f64());
    assert_eq!(flash(&signed(0, 2)).unwrap(), 1);
    let patch = write_patch(&images[0], &images[1]).unwrap();
    assert!(matches!(
        device.flash_patch(&patch, &mut |_, _| ()),
        Err(DeviceError::Unsigned)
    ));
    let block = key.sign(&images[1], 3).unwrap().to_bytes();
    let patch = [&patch[..], &block].concat();
    device.flash_patch(&patch, &mut |_, _| ()).unwrap();
    assert!(matches!(
        device.flash(&signed(2, 2), &mut |_, _| ()),
        Err(DeviceError::OldVersion {
            version: 2,
            lowest: 3
        })
    ));
    assert!(matches!(
        device.roll_back(),
        Err(DeviceError::OldVersion { .. })
    ));
    let model = mended(&model, 1);
    let inputs = random_inputs(&model, 10, 1);
    let report = verify(&model, &signed(1, 3), &inputs, &mut device, |_| ()).unwrap();
    assert!(report.identical(), "{report:?}");
    println!(
        "{}: firmware {} bytes, stack {:?}",
        machine.name, report.device.code_bytes, report.memory.stack_high_water
    );
}

/// Firmware and slots as a programmer would write them, past the agent: what the key's owner signed runs,
/// what nobody or somebody else did does not.
#[test]
fn a_microbit_does_not_run_what_a_programmer_wrote_and_nobody_signed() {
    const NAME: &str = "a_microbit_does_not_run_what_a_programmer_wrote_and_nobody_signed";
    let Some(firmware) = agent_or_skip(NAME, "microbit-signed", BUILD) else {
        return;
    };
    programmed(NAME, &boards::MICROBIT, &firmware, |program, check| {
        let options = QemuOptions {
            machine: MICROBIT,
            firmware: Some(program.into()),
            ..QemuOptions::default()
        };
        if let Some(mut device) = start_with_or_skip(NAME, &options) {
            check.done(&mut device);
        }
    });
}

/// The same on the model of an STM32F405, and what the agent wrote itself is signed after a reset too.
#[test]
fn an_stm32f405_does_not_run_what_a_programmer_wrote_and_nobody_signed() {
    const NAME: &str = "an_stm32f405_does_not_run_what_a_programmer_wrote_and_nobody_signed";
    let Some(firmware) = agent_or_skip(NAME, "stm32f405-signed", BUILD) else {
        return;
    };
    let Some(python) = python_or_skip(NAME) else {
        return;
    };
    programmed(NAME, &boards::STM32F405, &firmware, |program, check| {
        let chip = Chip::start(&python, "stm32f405", program);
        check.done(&mut chip.connect());
    });

    let key = SigningKey::from_pem(KEY).unwrap();
    let model = random_network(8, 4, 4);
    let images = [0, 1].map(|n| write_image(&mended(&model, n)).unwrap());
    let block = |n: usize, version| key.sign(&images[n], version).unwrap().to_bytes();
    let mut chip = Chip::start(&python, "stm32f405", &firmware);
    let reset = |chip: &mut Chip| -> LinkDevice<Port> {
        let counts = chip.press("reset");
        assert_eq!(counts["violations"].as_array().map(Vec::len), Some(0));
        chip.connect()
    };
    let runs = |device: &mut LinkDevice<Port>, n: usize| {
        assert_eq!(device.open().unwrap().2, crc32(&images[n]));
    };
    let mut device = chip.connect();
    let signed = [&images[0][..], &block(0, 1)].concat();
    device.flash(&signed, &mut |_, _| ()).unwrap();
    let mut device = reset(&mut chip);
    runs(&mut device, 0);
    let patch = write_patch(&images[0], &images[1]).unwrap();
    let patch = [&patch[..], &block(1, 1)].concat();
    device.flash_patch(&patch, &mut |_, _| ()).unwrap();
    let mut device = reset(&mut chip);
    runs(&mut device, 1);
    device.roll_back().unwrap();
    let mut device = reset(&mut chip);
    runs(&mut device, 0);
}

struct Check<'a> {
    name: &'a str,
    /// CRC of what has to run, where something has to.
    runs: Option<u32>,
}

impl Check<'_> {
    fn done<T: Transport>(&self, device: &mut LinkDevice<T>) {
        match (device.open(), self.runs) {
            (Ok((_, _, crc)), Some(wanted)) => assert_eq!(crc, wanted, "{}", self.name),
            (Err(DeviceError::NoImage), None) => {}
            (found, wanted) => panic!("{}: {found:?}, wanted {wanted:?}", self.name),
        }
    }
}

fn programmed(
    test: &str,
    board: &boards::Board,
    firmware: &Path,
    start: impl Fn(&Path, Check<'_>),
) {
    let key = SigningKey::from_pem(KEY).unwrap();
    let stranger = SigningKey::generate().unwrap();
    let model = random_network(8, 4, 4);
    let [good, other] = [0, 1].map(|n| write_image(&mended(&model, n)).unwrap());
    let right = key.sign(&good, 3).unwrap().to_bytes();
    let strange = stranger.sign(&other, 9).unwrap().to_bytes();
    let signed = Committed {
        version: 3,
        block: &right,
        ..Committed::unsigned(&good)
    };
    let newer = Committed {
        slot: 1,
        sequence: 2,
        ..Committed::unsigned(&other)
    };
    let strangers = Committed {
        version: 9,
        block: &strange,
        ..newer
    };
    let cases = [
        ("signed", vec![signed], Some(&good)),
        ("nobody's", vec![Committed::unsigned(&good)], None),
        ("a stranger's", vec![strangers], None),
        (
            "signed, and nobody's newer",
            vec![signed, newer],
            Some(&good),
        ),
        (
            "signed, and a stranger's newer",
            vec![signed, strangers],
            Some(&good),
        ),
    ];
    let (program, entry) = read_elf(&std::fs::read(firmware).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (name, contents, runs) in cases {
        let mut parts = program.clone();
        for (at, bytes) in contents.iter().flat_map(|c| c.parts(&board.layout)) {
            parts.push((board.address + at, bytes));
        }
        parts.sort_by_key(|p| p.0);
        let file = folder.path().join("all.elf");
        std::fs::write(&file, write_elf(&parts, entry)).unwrap();
        let runs = runs.map(|image| crc32(image));
        let begin = Instant::now();
        start(&file, Check { name, runs });
        println!(
            "{test}: {name}: started and asked in {:.2} s",
            begin.elapsed().as_secs_f64()
        );
    }
}
