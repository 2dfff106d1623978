//! Every core that QEMU emulates gives the host's bits: each Cortex-M has kernels of its own, and the
//! micro:bit's agent small portable ones beside them.

use qmend::device::qemu::{MICROBIT, MPS2_AN385, MPS2_AN386, MPS2_AN500, MPS2_AN505, MPS3_AN547};
use qmend::device::{Device, DeviceError, QemuOptions, verify};
use qmend::export::image::write_image;
use qmend_tests::emulator::start_with_or_skip;
use qmend_tests::random_model::{Focus, random_inputs, random_model, random_network};

#[test]
fn every_emulated_mps_core_gives_identical_outputs() {
    const NAME: &str = "every_emulated_mps_core_gives_identical_outputs";
    let boards = [
        (MPS2_AN385, "Cortex-M3"),
        (MPS2_AN386, "Cortex-M4"),
        (MPS2_AN500, "Cortex-M7"),
        (MPS2_AN505, "Cortex-M33"),
        (MPS3_AN547, "Cortex-M55"),
    ];
    for (machine, core) in boards {
        let options = QemuOptions {
            machine,
            ..QemuOptions::default()
        };
        let Some(mut device) = start_with_or_skip(NAME, &options) else {
            continue;
        };
        let who = device.identity();
        assert_eq!((who.name.as_str(), who.core.as_str()), (machine.name, core));
        for (seed, bits) in [(1, 8), (2, 4), (3, 2), (4, 3)] {
            let model = random_network(12, bits, seed);
            let image = write_image(&model).unwrap();
            let inputs = random_inputs(&model, 5, seed);
            let report = verify(&model, &image, &inputs, &mut device, |_| ()).unwrap();
            assert!(report.identical(), "{core}, {bits} bits: {report:#?}");
            let counts = report.instructions.expect("the emulator counts");
            println!("{core}, {bits} bits: {} instructions", counts.median);
            assert!(counts.min > 1000);
        }
    }
}

/// Every operator, at every width: what the processor's own kernels leave to the portable ones is left
/// to others here than on larger boards.
#[test]
fn every_operator_on_the_emulated_microbit_gives_identical_outputs() {
    const NAME: &str = "every_operator_on_the_emulated_microbit_gives_identical_outputs";
    let options = QemuOptions {
        machine: MICROBIT,
        ..QemuOptions::default()
    };
    let Some(mut device) = start_with_or_skip(NAME, &options) else {
        return;
    };
    let who = device.identity().clone();
    assert!(who.code_bytes < 48 * 1024, "{who:?}");
    let (mut checked, mut too_large) = (0, 0);
    for focus in Focus::ALL {
        let widths: &[u8] = if focus.is_linear() {
            &[2, 3, 4, 8]
        } else {
            &[8]
        };
        for (&bits, seed) in widths.iter().flat_map(|b| (0..3).map(move |s| (b, s))) {
            let model = random_model(focus, bits, seed);
            let image = write_image(&model).unwrap();
            let inputs = random_inputs(&model, 2, seed);
            let report = match verify(&model, &image, &inputs, &mut device, |_| ()) {
                Err(DeviceError::TooLarge { .. }) => {
                    too_large += 1;
                    continue;
                }
                report => report.unwrap(),
            };
            assert!(report.identical(), "{focus:?}, {bits} bits: {report:#?}");
            checked += 1;
        }
    }
    let stack = device.stats().unwrap().stack_high_water;
    println!("{checked} models identical, {too_large} too large; stack {stack:?}");
    assert!(checked > 3 * too_large);
}
