//! Emulated boards whose firmware holds a public key: built by
//! `QMEND_PUBLIC_KEY=tests/keys/rfc8410.pub firmware/build.sh`.

use std::path::Path;
use std::time::Instant;

use qmend::device::qemu::{MICROBIT, Machine, NETDUINOPLUS2};
use qmend::device::{DeviceError, QemuOptions, verify};
use qmend::export::patch::write_patch;
use qmend::export::signature::SigningKey;
use qmend::export::write_image;
use qmend_tests::emulator::start_with_or_skip;
use qmend_tests::random_model::{mended, random_inputs, random_network};

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
    let firmware = format!(
        "{}/../target-firmware/agent-{}-signed.elf",
        env!("CARGO_MANIFEST_DIR"),
        machine.name
    );
    if !Path::new(&firmware).is_file() {
        println!(
            "SKIPPED {test}: {firmware} is not there; QMEND_PUBLIC_KEY=tests/keys/rfc8410.pub firmware/build.sh builds it"
        );
        return;
    }
    let options = QemuOptions {
        machine,
        firmware: Some(firmware.into()),
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
