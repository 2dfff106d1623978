//! Host against emulated Cortex-M4, bit for bit: every operator, every width of weights, and whole
//! networks.

use qmend::device::{Device, verify};
use qmend::engine::Engine;
use qmend::export::image::write_image;
use qmend::model::QuantizedModel;
use qmend_tests::emulator::start_or_skip;
use qmend_tests::random_model::{Focus, random_inputs, random_model, random_network};

fn check(
    model: &QuantizedModel,
    samples: usize,
    seed: u64,
    device: &mut dyn Device,
    what: &str,
) -> usize {
    let image = write_image(model).unwrap_or_else(|e| panic!("{what}: {e}"));
    let inputs = random_inputs(model, samples, seed);
    let report =
        verify(model, &image, &inputs, device, |_| ()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(report.identical(), "{what}: {report:#?}");
    // Three engines, one result: the batch engine of the host as well.
    let batch = Engine::new(model)
        .unwrap_or_else(|e| panic!("{what}: {e}"))
        .run(&inputs);
    let len = batch.len() / samples;
    for (i, input) in inputs
        .chunks_exact(inputs.len() / samples)
        .enumerate()
        .take(2)
    {
        assert_eq!(
            device.infer(input).unwrap().output,
            batch[i * len..][..len],
            "{what}: batch engine"
        );
    }
    let counts = report.instructions.expect("the emulator counts");
    assert!(counts.min > 0 && counts.min <= counts.median && counts.median <= counts.max);
    batch.len()
}

#[test]
fn every_operator_at_every_width_gives_identical_bits() {
    let Some(mut device) = start_or_skip("every_operator_at_every_width_gives_identical_bits")
    else {
        return;
    };
    let (mut models, mut elements) = (0, 0);
    for focus in Focus::ALL {
        let widths: &[u8] = if focus.is_linear() {
            &[2, 3, 4, 8]
        } else {
            &[8]
        };
        for &bits in widths {
            let seeds = if focus.is_linear() { 8 } else { 20 };
            for seed in 0..seeds {
                let model = random_model(focus, bits, seed);
                let what = format!("{focus:?}, {bits} bits, seed {seed}");
                elements += check(&model, 8, seed, &mut device, &what);
                models += 1;
            }
        }
    }
    println!("{models} models, {elements} output elements, 0 differing");
}

#[test]
fn whole_networks_give_identical_bits() {
    let Some(mut device) = start_or_skip("whole_networks_give_identical_bits") else {
        return;
    };
    for seed in 0..60 {
        let bits = [2, 3, 4, 8][seed as usize % 4];
        let model = random_network(4 + seed as usize % 20, bits, 1000 + seed);
        check(
            &model,
            6,
            seed,
            &mut device,
            &format!("network, {bits} bits, seed {seed}"),
        );
    }
}
