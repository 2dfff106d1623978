//! ONNX files that are damaged or beyond what is supported. Patched copies of the example's network.

use super::support::*;

fn network() -> Vec<u8> {
    std::fs::read(MODEL).expect("the network")
}

/// Where a pattern of bytes stands for the first time.
fn find(bytes: &[u8], what: &[u8]) -> usize {
    let at = bytes.windows(what.len()).position(|w| w == what);
    at.unwrap_or_else(|| panic!("{what:?} is in the file"))
}

fn quantize_refuses(network: &[u8], wanted: &[&str]) {
    let dir = tempfile::tempdir().expect("a folder");
    put(dir.path(), "net.onnx", network);
    let data = images("0..4");
    let args = [
        "quantize", "net.onnx", "--data", &data, "--scale", "1/255", "-o", "x.qmend",
    ];
    refused(dir.path(), &args, &[&["net.onnx"], wanted].concat());
    assert_eq!(files(dir.path()), ["net.onnx"]);
}

#[test]
fn unknown_operators_are_listed_all_at_once_with_node_shape_and_remedy() {
    let mut net = network();
    // Field 4 of a node is its operator: a tag, a length, the name.
    while let Some(at) = net.windows(6).position(|w| w == b"\x22\x04Relu") {
        net[at + 2..at + 6].copy_from_slice(b"Selu");
    }
    let at = find(&net, b"\x22\x04Gemm");
    net[at + 2..at + 6].copy_from_slice(b"Gemn");
    let wanted = [
        "6 of its nodes",
        "/f/f.0/f.0.2/Relu",
        "Selu",
        "[N,8,28,28]",
        "use ReLU",
        "/fc/Gemm",
        "Gemn",
    ];
    quantize_refuses(&net, &wanted);
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name_and_index() {
    // Field 9 of a tensor is its raw data: a tag, the length 1280 as a varint, 320 floats.
    let at = find(&network(), b"\x4a\x80\x0a") + 3;
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut net = network();
        net[at + 40..at + 44].copy_from_slice(&value.to_le_bytes());
        quantize_refuses(&net, &["fc.weight", shown, "index 10", "must be finite"]);
    }
    // Finite, and yet beyond what float32 can compute with.
    let mut net = network();
    net[at..at + 4].copy_from_slice(&3e38f32.to_le_bytes());
    quantize_refuses(&net, &["logits", "calibration sample"]);
}

#[test]
fn shapes_that_do_not_fit_the_weights_are_refused() {
    let weights = find(&network(), b"\x08\x08\x08\x01\x08\x03\x08\x03");
    for dim in [0, 2, 6] {
        for size in [0, 5, 127] {
            let mut net = network();
            net[weights + dim + 1] = size;
            quantize_refuses(&net, &[]);
        }
    }
    // The input's: [batch, 1, 28, 28].
    let input = find(&network(), b"\x0a\x02\x08\x01\x0a\x02\x08\x1c");
    let mut net = network();
    net[input + 3] = 3;
    quantize_refuses(&net, &["Conv"]);
    net[input + 3] = 0;
    quantize_refuses(&net, &[]);
}

#[test]
fn a_network_cut_short_anywhere_is_refused() {
    let net = network();
    for part in 0..24 {
        quantize_refuses(&net[..net.len() * part / 24], &["damaged"]);
    }
}

#[test]
fn data_of_another_shape_than_the_network_takes_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    put(dir.path(), "small", idx(&[3, 14, 28], &[7; 3 * 14 * 28]));
    refused(
        dir.path(),
        &["quantize", MODEL, "--data", "small", "-o", "x.qmend"],
        &[
            "small",
            "[14, 28, 1]",
            "fmnist_cnn",
            "[28, 28, 1]",
            "--resize",
        ],
    );
}
