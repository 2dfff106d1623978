//! The agent's own code, on a thread: every request and every refusal.

use qmend::device::{Device, DeviceError, HostDevice, verify};
use qmend::export::image::write_image;
use qmend_tests::in_process::{Noise, quiet, start};
use qmend_tests::random_model::{Focus, random_inputs, random_model, random_network};
use rand::prelude::*;

const SLOT: usize = 1 << 16;
const POOL: usize = 1 << 16;

#[test]
fn the_agent_gives_the_host_s_bits_for_whole_networks() {
    let mut device = start(SLOT, POOL, quiet()).unwrap();
    for seed in 0..20 {
        let model = random_network(12, 4, seed);
        let image = write_image(&model).unwrap();
        let inputs = random_inputs(&model, 6, seed);
        let report = verify(&model, &image, &inputs, &mut device, |_| ()).unwrap();
        assert!(report.identical(), "seed {seed}: {report:?}");
        assert_eq!(report.inputs, 6);
        // The meter of this agent always says 7 ticks, of 3 instructions each.
        assert_eq!(report.instructions.unwrap().median, 21);
    }
}

#[test]
fn every_operator_s_output_can_be_read() {
    let model = random_network(80, 8, 5);
    let image = write_image(&model).unwrap();
    let input = random_inputs(&model, 1, 5);
    let mut host = HostDevice::new();
    let mut device = start(SLOT, POOL, quiet()).unwrap();
    assert_eq!(host.load(&image).unwrap(), device.load(&image).unwrap());
    // More operators than one message holds digests.
    let digests = device.operator_digests(&input).unwrap();
    assert!(digests.len() > 64);
    assert_eq!(digests, host.operator_digests(&input).unwrap());
    for operator in 0..digests.len() {
        let (ours, theirs) = (
            host.operator_output(&input, operator),
            device.operator_output(&input, operator),
        );
        assert_eq!(ours.unwrap(), theirs.unwrap(), "operator {operator}");
    }
    let beyond = device.operator_output(&input, digests.len());
    assert!(matches!(beyond, Err(DeviceError::NoSuchOperator { .. })));
}

#[test]
fn without_an_image_nothing_runs() {
    let mut device = start(SLOT, POOL, quiet()).unwrap();
    assert!(matches!(device.infer(&[0]), Err(DeviceError::NoImage)));
    assert!(matches!(device.stats(), Err(DeviceError::NoImage)));
}

#[test]
fn an_image_with_a_flipped_bit_is_refused_and_the_next_one_is_taken() {
    let model = random_model(Focus::Conv, 4, 1);
    let image = write_image(&model).unwrap();
    let mut device = start(SLOT, POOL, quiet()).unwrap();
    let mut rng = StdRng::seed_from_u64(6);
    for _ in 0..200 {
        let mut bad = image.clone();
        let at = rng.random_range(0..bad.len());
        bad[at] ^= 1 << rng.random_range(0..8);
        let error = device.load(&bad).expect_err("a damaged image");
        assert!(
            matches!(error, DeviceError::BadImage { .. }),
            "byte {at}: {error}"
        );
        assert!(matches!(device.infer(&[0]), Err(DeviceError::NoImage)));
    }
    device.load(&image).unwrap();
}

#[test]
fn what_does_not_fit_is_refused_with_its_size() {
    let model = random_network(20, 8, 2);
    let image = write_image(&model).unwrap();
    // Whole sectors, and at least a byte too few.
    let room = (image.len() - 1) / 1024 * 1024;
    assert!(room > 0, "{} bytes are too short an image", image.len());
    let mut small_slot = start(room, POOL, quiet()).unwrap();
    let error = small_slot.load(&image).unwrap_err();
    assert!(
        matches!(error, DeviceError::TooLarge { what: "image slot", needed, .. } if needed == image.len() as u64)
    );
    let loaded = start(SLOT, POOL, quiet()).unwrap().load(&image).unwrap();
    let needed = loaded.arena_bytes + loaded.input_len + loaded.output_len;
    start(SLOT, needed, quiet())
        .unwrap()
        .load(&image)
        .expect("just enough");
    let error = start(SLOT, needed - 1, quiet())
        .unwrap()
        .load(&image)
        .unwrap_err();
    let expected = format!(
        "the image needs {needed} bytes of memory for tensors and the device has {}; use a board with more, or a smaller model (`qmend inspect` says what it needs; fewer bits of weights save flash)",
        needed - 1
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn an_input_of_the_wrong_length_is_refused() {
    let model = random_model(Focus::FullyConnected, 3, 3);
    let mut device = start(SLOT, POOL, quiet()).unwrap();
    let loaded = device.load(&write_image(&model).unwrap()).unwrap();
    let error = device.infer(&vec![0; loaded.input_len + 1]).unwrap_err();
    assert!(matches!(error, DeviceError::InputLength { given, expected } if given == expected + 1));
}

/// Damages one byte in `every`, never a zero and never into one, so that frames keep their ends:
/// lost ends are what time limits are for.
fn damage(every: u32, seed: u64) -> Noise {
    let mut rng = StdRng::seed_from_u64(seed);
    Box::new(move |byte| match byte {
        0 => 0,
        b if rng.random_ratio(1, every) => [b ^ 0x40, b ^ 0x08]
            .into_iter()
            .find(|&b| b != 0)
            .unwrap_or(1),
        b => b,
    })
}

#[test]
fn over_a_noisy_line_results_stay_right() {
    let model = random_network(8, 4, 9);
    let image = write_image(&model).unwrap();
    let inputs = random_inputs(&model, 30, 9);
    let mut device = start(SLOT, POOL, [damage(2000, 1), damage(800, 2)]).unwrap();
    let report = verify(&model, &image, &inputs, &mut device, |_| ()).unwrap();
    assert!(report.identical());
}
