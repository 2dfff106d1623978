//! Damaged and hostile files.

use onnx_rs::ast::{DataLocation, StringStringEntry, TensorProto};

use super::build::{Net, noise};
use super::real_models::data;
use crate::import::onnx::import_onnx;
use crate::import::{ImportError, load_graph};

fn small() -> Net {
    Net::new(&[1, 6, 6])
        .floats("w", &[2, 1, 3, 3], &noise(18, 1))
        .floats("m", &[32, 3], &noise(96, 2))
        .ints("s", &[-1, 32])
        .node("Conv", &["x", "w"], "c", vec![])
        .node("Relu", &["c"], "r", vec![])
        .node("Reshape", &["r", "s"], "f", vec![])
        .node("MatMul", &["f", "m"], "y", vec![])
}

/// Any result will do, as long as there is one.
fn survives(bytes: &[u8]) -> bool {
    import_onnx(bytes, "damaged.onnx").is_ok()
}

#[test]
fn every_truncation_of_a_small_file_is_an_error() {
    let bytes = small().bytes();
    assert!(survives(&bytes));
    for end in 0..bytes.len() {
        if survives(&bytes[..end]) {
            panic!("accepted {end} of {} bytes", bytes.len());
        }
    }
}

#[test]
fn single_byte_changes_of_a_small_file_never_panic() {
    let bytes = small().bytes();
    for i in 0..bytes.len() {
        for change in [0x01, 0x02, 0x08, 0x40, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[i] ^= change;
            survives(&damaged);
        }
    }
}

#[test]
fn a_real_network_cut_short_or_with_random_changes_never_panics() {
    let Some(path) = data("models/fmnist_cnn_bn_op13.onnx") else {
        return;
    };
    let bytes = std::fs::read(path).expect("readable");
    for i in 0..50 {
        assert!(
            !survives(&bytes[..bytes.len() * i / 50]),
            "accepted {i}/50 of the file"
        );
    }
    let mut state = 1u64;
    let mut random = |n: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    for round in 0..2_000 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + random(4) {
            // Most of a file is weights: every other change aims at the nodes in front of them.
            let at = if round % 2 == 0 {
                random(4_096)
            } else {
                random(bytes.len())
            };
            damaged[at] = random(256) as u8;
        }
        survives(&damaged);
    }
}

#[test]
fn files_that_are_not_onnx_are_called_damaged() {
    for bytes in [
        &b""[..],
        b"not a network",
        &[0xff; 64],
        b"\x89PNG\r\n\x1a\n0000",
    ] {
        assert!(matches!(
            import_onnx(bytes, "f"),
            Err(ImportError::Damaged { .. } | ImportError::Opset { .. })
        ));
    }
}

#[test]
fn claimed_dimensions_without_data_are_refused() {
    let net = Net::new(&[1, 6, 6])
        .floats("w", &[1 << 20, 1 << 20, 3, 3], &[0.0; 9])
        .node("Conv", &["x", "w"], "y", vec![]);
    let error = net.error();
    assert!(
        error.contains("initializer `w`") && error.contains("holds 9 elements"),
        "{error}"
    );
}

#[test]
fn huge_inputs_and_results_are_refused() {
    assert!(
        Net::new(&[1 << 30, 1 << 30, 1])
            .node("Relu", &["x"], "y", vec![])
            .error()
            .contains("exceeds")
    );
    let net = Net::new(&[1, 6, 6])
        .ints("p", &[0, 0, 1 << 40, 0, 0, 0, 0, 0])
        .node("Pad", &["x", "p"], "y", vec![]);
    assert!(net.error().contains("exceeds"));
    let net = Net::new(&[4])
        .ints("s", &[1 << 20, 1 << 20])
        .node("ConstantOfShape", &["s"], "c", vec![])
        .node("Add", &["x", "c"], "y", vec![]);
    assert!(net.error().contains("exceeds"));
}

#[test]
fn weights_that_are_not_finite_are_named() {
    for value in [f32::NAN, f32::INFINITY] {
        let mut w = noise(9, 1);
        w[4] = value;
        let net = Net::new(&[1, 6, 6])
            .floats("conv.w", &[1, 1, 3, 3], &w)
            .node("Conv", &["x", "conv.w"], "y", vec![]);
        let error = net.error();
        assert!(
            error.contains("`conv.w`") && error.contains("index 4"),
            "{error}"
        );
    }
}

#[test]
fn weights_that_leave_the_float_range_when_folded_are_an_error() {
    let net = Net::new(&[2])
        .floats("w", &[2, 2], &[1e38; 4])
        .floats("k", &[1], &[1e38])
        .node("MatMul", &["x", "w"], "m", vec![])
        .node("Mul", &["m", "k"], "y", vec![]);
    assert!(
        net.error().contains("left the float range"),
        "{}",
        net.error()
    );
}

#[test]
fn external_data_is_explained() {
    let t = TensorProto::from_f32("w", vec![1, 1, 3, 3], vec![])
        .with_data_location(DataLocation::External)
        .with_external_data(vec![StringStringEntry {
            key: "location",
            value: "weights.bin",
        }]);
    let error = Net::new(&[1, 6, 6])
        .tensor(t)
        .node("Conv", &["x", "w"], "y", vec![])
        .error();
    assert!(
        error.contains("weights.bin") && error.contains("save_as_external_data=False"),
        "{error}"
    );
}

#[test]
fn reading_what_nothing_makes_and_making_a_name_twice_are_damage() {
    let net = Net::new(&[4]).node("Relu", &["nowhere"], "y", vec![]);
    assert!(
        net.error()
            .contains("`nowhere` is read before anything makes it")
    );
    let net = Net::new(&[4])
        .node("Relu", &["x"], "y", vec![])
        .node("Tanh", &["x"], "y", vec![]);
    assert!(net.error().contains("`y` is made twice"));
}

#[test]
fn files_are_chosen_by_content_and_extension_and_named_in_errors() {
    let folder = tempfile::tempdir().expect("a folder");
    let error = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).expect("written");
        load_graph(&path).expect_err("it is no network").to_string()
    };
    let damaged = "damaged or not a .tflite file";
    assert!(error("net.tflite", b"nothing").contains(damaged));
    assert!(error("net.bin", b"\x08\0\0\0TFL3").contains(damaged));
    assert!(error("net.h5", b"nothing").contains("net.h5: neither .onnx nor .tflite"));
    let absent = load_graph("/nonexistent/net.onnx").expect_err("absent");
    assert!(
        absent
            .to_string()
            .contains("/nonexistent/net.onnx: cannot be read")
    );
    let path = folder.path().join("Small.ONNX");
    std::fs::write(&path, small().bytes()).expect("written");
    assert_eq!(load_graph(&path).expect("imports").nodes.len(), 2);
}
