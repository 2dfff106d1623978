//! Every core that QEMU emulates gives the host's bits: each Cortex-M has kernels of its own.

use qmend::device::qemu::{MPS2_AN385, MPS2_AN386, MPS2_AN500, MPS2_AN505};
use qmend::device::{Device, QemuOptions, verify};
use qmend::export::image::write_image;
use qmend_tests::emulator::start_with_or_skip;
use qmend_tests::random_model::{random_inputs, random_network};

#[test]
fn every_emulated_mps2_core_gives_identical_outputs() {
    const NAME: &str = "every_emulated_mps2_core_gives_identical_outputs";
    let boards = [
        (MPS2_AN385, "Cortex-M3"),
        (MPS2_AN386, "Cortex-M4"),
        (MPS2_AN500, "Cortex-M7"),
        (MPS2_AN505, "Cortex-M33"),
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
