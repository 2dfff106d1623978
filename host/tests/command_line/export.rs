//! What `export` writes, and what it refuses.

use super::support::*;

/// Outputs of a model for some images, with preprocessing where the file holds none.
fn outputs(at: &std::path::Path, model: &str, scale: &[&str]) -> Vec<u8> {
    let data = images("100..160");
    let args = [
        &[
            "eval",
            model,
            "--data",
            &data,
            "--outputs",
            "o.npy",
            "--force",
        ],
        scale,
    ]
    .concat();
    json(at, &args);
    std::fs::read(at.join("o.npy")).expect("the outputs")
}

#[test]
fn every_form_holds_the_model_that_was_exported() {
    let dir = quantized("8");
    let at = dir.path();
    let image = std::fs::read(at.join("m.qmend")).expect("the image");
    let wanted = outputs(at, "m.qmend", &[]);

    let written = json(at, &["export", "m.qmend", "-o", "m.tflite"]);
    let bytes = std::fs::read(at.join("m.tflite")).expect("the file");
    assert_eq!(&bytes[4..8], b"TFL3");
    assert_eq!(
        (&written["bytes"], &written["rounded_multipliers"]),
        (&bytes.len().into(), &0.into()),
        "an ordinary export rounds nothing: {written}"
    );
    assert_eq!(outputs(at, "m.tflite", &["--scale", "1/255"]), wanted);

    for name in ["m.bin", "again.qmend"] {
        json(at, &["export", "m.qmend", "-o", name]);
        assert_eq!(std::fs::read(at.join(name)).expect("the file"), image);
    }

    json(at, &["export", "m.qmend", "-o", "m.h"]);
    let header = std::fs::read_to_string(at.join("m.h")).expect("text");
    let body = header.split_once('{').expect("a body").1;
    let listed: Vec<u8> = body
        .split(',')
        .filter_map(|n| n.trim().strip_prefix("0x"))
        .map(|n| u8::from_str_radix(&n[..2], 16).expect("hexadecimal"))
        .collect();
    assert_eq!(listed, image);
    assert!(header.contains(&format!("static const uint8_t m[{}]", image.len())));

    json(
        at,
        &[
            "export",
            "m.qmend",
            "-o",
            "m.hex",
            "--address",
            "0x0803FFF0",
        ],
    );
    let hex = std::fs::read_to_string(at.join("m.hex")).expect("text");
    assert_eq!(flashed(&hex), (0x0803_FFF0, image));
}

/// Where Intel HEX begins and what it writes there, checked record by record.
fn flashed(hex: &str) -> (u32, Vec<u8>) {
    let (mut upper, mut start, mut bytes) = (0u32, None, Vec::new());
    for line in hex.lines() {
        let record: Vec<u8> = (1..line.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&line[i..i + 2], 16).expect("hexadecimal"))
            .collect();
        let sum = record.iter().fold(0u8, |a, b| a.wrapping_add(*b));
        assert_eq!((sum, record.len()), (0, usize::from(record[0]) + 5));
        let data = &record[4..record.len() - 1];
        let here = upper + u32::from(u16::from_be_bytes([record[1], record[2]]));
        match record[3] {
            0 => {
                let start = *start.get_or_insert(here);
                assert_eq!(here, start + bytes.len() as u32, "no gap");
                bytes.extend(data);
            }
            4 => upper = u32::from(u16::from_be_bytes([data[0], data[1]])) << 16,
            1 => break,
            kind => panic!("record of kind {kind}"),
        }
    }
    (start.expect("data"), bytes)
}

#[test]
fn narrow_weights_become_int8_in_a_tflite_and_that_is_said() {
    let dir = quantized("4");
    let at = dir.path();
    let out = qmend(at, &["export", "m.qmend", "-o", "m.tflite"]);
    let said = text(&out.stderr);
    assert!(out.status.success(), "{said}");
    for words in ["4 bits", "int8", ".bin"] {
        assert!(said.contains(words), "{words:?} is not in: {said}");
    }
    let wanted = outputs(at, "m.qmend", &[]);
    assert_eq!(outputs(at, "m.tflite", &["--scale", "1/255"]), wanted);
    let shown = json(at, &["inspect", "m.tflite"]);
    let kinds = shown["layers"].as_array().expect("layers");
    let bits: Vec<_> = kinds.iter().filter(|l| !l["bits"].is_null()).collect();
    assert!(!bits.is_empty() && bits.iter().all(|l| l["bits"] == 8));
}

#[test]
fn nothing_is_overwritten_and_mistakes_are_refused_with_a_way_out() {
    let dir = quantized("8");
    let at = dir.path();
    for name in ["m.tflite", "m.bin", "m.h"] {
        put(at, name, "mine");
        refused(at, &["export", "m.qmend", "-o", name], &[name, "--force"]);
        let kept = std::fs::read(at.join(name)).expect("the file");
        assert_eq!(kept, b"mine", "{name}");
        json(at, &["export", "m.qmend", "-o", name, "--force"]);
        assert_ne!(std::fs::read(at.join(name)).expect("the file"), b"mine");
    }
    refused(at, &["export", "m.qmend", "-o", "m.hex"], &["--address 0x"]);
    refused(
        at,
        &[
            "export",
            "m.qmend",
            "-o",
            "m.bin",
            "--address",
            "0",
            "--force",
        ],
        &["--address belongs to .hex"],
    );
    refused(
        at,
        &["export", "m.qmend", "-o", "m.onnx"],
        &["m.onnx", ".tflite, .bin, .h, .hex or .qmend"],
    );
    refused(
        at,
        &["export", "m.qmend", "-o", "m.qmend", "--force"],
        &["is read here"],
    );
    refused(
        at,
        &["export", MODEL, "-o", "x.bin"],
        &["fmnist_cnn.onnx", "qmend quantize"],
    );
}
