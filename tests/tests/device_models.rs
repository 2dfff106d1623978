//! Real networks on the emulated Cortex-M4: imported, quantized, and run there with the host's
//! bits.

use std::path::Path;

use qmend::calibrate::{Method, calibrate};
use qmend::data::{LoadOptions, load};
use qmend::device::verify;
use qmend::export::image::write_image;
use qmend::float::{Backend, FloatNet};
use qmend::import::load_graph;
use qmend::model::Preprocess;
use qmend::quantize::{QuantizeConfig, quantize};
use qmend_tests::emulator::start_or_skip;

const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");

/// What the product carries: no checkout lacks it.
const ASSETS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../host/assets");

struct Case {
    root: &'static str,
    model: &'static str,
    calibration: &'static str,
    samples: &'static str,
    preprocess: Preprocess,
    bits: &'static [u8],
    inputs: usize,
}

fn run(test: &str, case: Case) {
    let path = |file: &str| Path::new(case.root).join(file);
    for file in [case.model, case.calibration, case.samples] {
        if !path(file).is_file() {
            println!("SKIPPED {test}: {} is not there", path(file).display());
            return;
        }
    }
    let Some(mut device) = start_or_skip(test) else {
        return;
    };
    let graph = load_graph(path(case.model)).unwrap();
    let shape = graph.shape(graph.input);
    let data = |file: &str| {
        load(&path(file), &LoadOptions::default())
            .unwrap()
            .check_shape(shape, case.model)
            .unwrap()
    };
    let real = data(case.calibration).real(0..64, &case.preprocess);
    let net = FloatNet::new(&graph, Backend::default()).unwrap();
    let calibration = calibrate(&graph, &net, &real, Method::MinMax).unwrap();
    let samples = data(case.samples);
    for &bits in case.bits {
        let config = QuantizeConfig {
            bits,
            ..QuantizeConfig::default()
        };
        let model = quantize(&graph, &calibration, &config, &[], case.preprocess.clone()).unwrap();
        let inputs = samples.integers(0..case.inputs, &model.preprocess, model.tensor(model.input));
        let image = write_image(&model).unwrap();
        let report = verify(&model, &image, &inputs, &mut device, |_| ()).unwrap();
        assert!(report.identical(), "{bits} bits: {report:#?}");
        assert_eq!(report.inputs, case.inputs);
        let counts = report.instructions.unwrap();
        println!(
            "{}, {bits} bits: {} inputs identical; instructions {}..{}, median {}; flash {} + {}; arena {}, stack {}",
            case.model,
            report.inputs,
            counts.min,
            counts.max,
            counts.median,
            report.device.code_bytes,
            report.image_bytes,
            report.memory.arena_bytes,
            report.memory.stack_high_water.unwrap(),
        );
    }
}

#[test]
fn the_demo_network_gives_identical_bits_at_every_width() {
    run(
        "the_demo_network_gives_identical_bits_at_every_width",
        Case {
            root: ASSETS,
            model: "fmnist_cnn.onnx",
            calibration: "t10k-images-idx3-ubyte.gz",
            samples: "t10k-images-idx3-ubyte.gz",
            preprocess: Preprocess {
                scale: 1.0 / 255.0,
                ..Preprocess::default()
            },
            bits: &[8, 4, 3, 2],
            inputs: 200,
        },
    );
}

#[test]
fn resnet_8_gives_identical_bits() {
    run(
        "resnet_8_gives_identical_bits",
        Case {
            root: DATA,
            model: "models/resnet8_cifar10_folded.onnx",
            calibration: "cifar10_train_2000.npz",
            samples: "cifar10_test_even.npz",
            preprocess: Preprocess::default(),
            bits: &[8, 4],
            inputs: 5,
        },
    );
}

#[test]
fn the_keyword_spotting_network_gives_identical_bits() {
    run(
        "the_keyword_spotting_network_gives_identical_bits",
        Case {
            root: DATA,
            model: "models/kws_dscnn_folded.onnx",
            calibration: "kws_mfcc_500.npz",
            samples: "kws_mfcc_500.npz",
            // The stored integers are real = (q - 83) * 0.5847029.
            preprocess: Preprocess {
                scale: 0.5847029,
                mean: vec![83.0 * 0.5847029],
                std: Vec::new(),
            },
            bits: &[8, 3],
            inputs: 10,
        },
    );
}
