//! Every operator that is imported from TFLite files, against TFLM and LiteRT.
//!
//! `fixtures/tflite_operators/operators.npz` holds small networks and what both runtimes computed
//! with them; `generate.py` beside it says how it was made. TFLM's outputs are to be met under
//! [`Rounding::Tflm`], those of LiteRT's reference kernels under [`Rounding::LiteRtReference`].

use std::path::Path;

use qmend::engine::Engine;
use qmend::import::tflite::{import_tflite_int8, import_tflite_int8_as, supported_operators};
use qmend::model::Rounding;
use qmend_tests::golden::{Arrays, on_device_engine, same};

const OPERATORS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/fixtures/tflite_operators/operators.npz"
);

fn names(arrays: &Arrays) -> Vec<String> {
    let names: Vec<String> = arrays
        .names()
        .iter()
        .filter_map(|n| n.strip_suffix(".network").map(String::from))
        .collect();
    assert!(names.len() > 60, "{} networks", names.len());
    names
}

#[test]
fn each_operator_gives_the_bits_of_both_runtimes_on_both_engines() {
    let mut arrays = Arrays::open(Path::new(OPERATORS));
    let all = arrays.names();
    let mut totals = [0; 2];
    for name in names(&arrays) {
        let network = arrays.bytes(&format!("{name}.network"));
        let inputs = arrays.int8(&format!("{name}.input"));
        let rules = [
            ("out_tflm", Rounding::Tflm),
            ("out_ref", Rounding::LiteRtReference),
        ];
        for (total, (key, rounding)) in totals.iter_mut().zip(rules) {
            let key = format!("{name}.{key}");
            if !all.contains(&key) {
                continue;
            }
            let model =
                import_tflite_int8_as(&network, &name, rounding).unwrap_or_else(|e| panic!("{e}"));
            let want = arrays.int8(&key);
            let host = Engine::new(&model)
                .unwrap_or_else(|e| panic!("{name}: {e}"))
                .run(&inputs);
            *total += same(&format!("{key}, host"), &host, &want);
            let (device, _) = on_device_engine(&model, &inputs);
            same(&format!("{key}, device's engine"), &device, &want);
        }
    }
    println!(
        "0 of {} elements differ from TFLM, 0 of {} from LiteRT's reference kernels",
        totals[0], totals[1]
    );
}

#[test]
fn the_networks_cover_every_operator_that_can_be_imported() {
    let arrays = Arrays::open(Path::new(OPERATORS));
    let names = names(&arrays);
    // DEQUANTIZE only ends a network in floats, EXPAND_DIMS is RESHAPE by another name.
    for operator in supported_operators()
        .iter()
        .filter(|o| !["DEQUANTIZE", "EXPAND_DIMS"].contains(&o.as_str()))
    {
        let stem = operator
            .to_lowercase()
            .replace("_2d", "")
            .replace("depthwise_conv", "depthwise");
        assert!(
            names.iter().any(|n| n.starts_with(&stem)),
            "no network for {operator}: none is called {stem}…"
        );
    }
}

#[test]
fn damaged_networks_are_refused_or_run() {
    let mut arrays = Arrays::open(Path::new(OPERATORS));
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    let (mut refused, mut run) = (0, 0);
    for name in names(&arrays) {
        let network = arrays.bytes(&format!("{name}.network"));
        let input = arrays.int8(&format!("{name}.input"));
        for round in 0..300 {
            let mut copy = network.clone();
            if round % 10 == 0 {
                copy.truncate(next() % network.len());
            } else {
                for _ in 0..1 + next() % 3 {
                    let at = next() % copy.len();
                    // Small numbers and ends of ranges hit counts, offsets and shapes best.
                    copy[at] = [0, 1, 4, 0x7f, 0x80, 0xff, next() as u8][next() % 7];
                }
            }
            match import_tflite_int8(&copy, "damaged").map(|m| Engine::new(&m)) {
                Ok(Ok(engine)) if input.len().is_multiple_of(engine.input_elements()) => {
                    engine.run(&input[..engine.input_elements().min(input.len())]);
                    run += 1;
                }
                _ => refused += 1,
            }
        }
    }
    println!("{refused} damaged networks were refused, {run} ran");
    assert!(refused > 1000 && run > 1000, "{refused} refused, {run} run");
}
