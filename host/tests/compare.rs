//! `qmend compare` as a user calls it.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/fmnist_cnn.onnx");
const IMAGES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/assets/t10k-images-idx3-ubyte.gz"
);

fn qmend(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qmend"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The object of a command that ends with this code.
fn json(folder: &Path, args: &[&str], code: i32) -> Value {
    let out = qmend(folder, &[args, &["--json"]].concat());
    assert_eq!(out.status.code(), Some(code), "{}", text(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON object")
}

fn quantized(bits: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let cal = format!("{IMAGES}:0..64");
    let args = ["quantize", MODEL, "--data", &cal, "--scale", "1/255"];
    let out = qmend(
        dir.path(),
        &[&args[..], &["--weights", bits, "-o", "m.qmend"]].concat(),
    );
    assert!(out.status.success(), "{}", text(&out.stderr));
    dir
}

#[test]
fn fewer_bits_lower_the_ratio_and_the_first_layer_below_the_threshold_is_named() {
    let data = format!("{IMAGES}:100..200");
    let mut last = Vec::new();
    for bits in ["8", "2"] {
        let dir = quantized(bits);
        let args = ["compare", MODEL, "m.qmend", "--data", &data];
        let v = json(dir.path(), &args, 0);
        assert_eq!(
            (&v["schema"], &v["command"], &v["n"]),
            (&1.into(), &"compare".into(), &100.into())
        );
        let layers = v["layers"].as_array().expect("layers");
        assert!(layers.len() > 6, "{v}");
        // Bytes over 255 have integers of their own, so the input is all but exact.
        assert!(
            layers[0]["sqnr_db"].as_f64().is_none_or(|db| db > 80.0),
            "{v}"
        );
        last.push(
            layers[layers.len() - 1]["sqnr_db"]
                .as_f64()
                .expect("a ratio"),
        );
        if bits == "2" {
            let out = qmend(
                dir.path(),
                &[&args[..], &["--threshold-db", "10", "--plot", "p.svg"]].concat(),
            );
            let err = text(&out.stderr);
            assert_eq!(out.status.code(), Some(1), "{err}");
            let first = v["first_below"].as_str().expect("a layer is below 10 dB");
            assert!(
                err.contains(&format!("leaves the float network at layer `{first}`")),
                "{err}"
            );
            let svg = std::fs::read_to_string(dir.path().join("p.svg")).expect("a plot");
            assert!(svg.contains("dB") && svg.matches("<title>").count() == layers.len());
        }
    }
    assert!(last[0] > 20.0 && last[0] > last[1] + 10.0, "{last:?}");
}

#[test]
fn another_rounding_rule_differs_where_it_should() {
    let dir = quantized("8");
    let data = format!("{IMAGES}:100..200");
    let against = |rule| {
        json(
            dir.path(),
            &["compare", "m.qmend", "--against", rule, "--data", &data],
            0,
        )
    };
    let xnn = against("litert-xnnpack");
    assert!(xnn["layers"][0]["differing"].as_u64() > Some(0), "{xnn}");
    assert_eq!(xnn["verified"].as_array().map(Vec::len), Some(4));
    // Only fully connected layers round otherwise in the reference kernels.
    let reference = against("litert-reference");
    for l in reference["layers"].as_array().expect("layers") {
        assert!(l["own"] == 0 || l["kind"] == "FullyConnected", "{l}");
    }
    let own = against("tflm");
    assert_eq!(
        (&own["differing_outputs"], &own["first_layer"]),
        (&0.into(), &Value::Null)
    );
}

#[test]
fn what_cannot_be_compared_is_refused_with_a_way_out() {
    let dir = quantized("8");
    let data = format!("{IMAGES}:0..4");
    for (args, wanted) in [
        (
            vec!["compare", "m.qmend", "--data", &data],
            "--against RULE",
        ),
        (
            vec![
                "compare",
                MODEL,
                "m.qmend",
                "--against",
                "tflm",
                "--data",
                &data,
            ],
            "cannot be used",
        ),
        (
            vec!["compare", "m.qmend", "--against", "xnn", "--data", &data],
            "litert-xnnpack",
        ),
        (
            vec![
                "compare",
                MODEL,
                "m.qmend",
                "--threshold-db",
                "nan",
                "--data",
                &data,
            ],
            "decibels",
        ),
        (
            vec!["compare", MODEL, MODEL, "--data", &data],
            "not an integer model",
        ),
    ] {
        let out = qmend(dir.path(), &args);
        let err = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.contains(wanted), "{args:?}: {err}");
    }
}

#[test]
fn a_network_that_onnxruntime_quantized_is_compared_with_its_float_original() {
    let dir = tempfile::tempdir().expect("a folder");
    let qdq = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/qdq/fashion_int8.onnx"
    );
    // The file takes real values, and so does the model: pixels over 255 are its data.
    let pixels: Vec<u8> = (0..50 * 784u32)
        .flat_map(|i| ((i * 7919 % 256) as f32 / 255.0).to_le_bytes())
        .collect();
    let npy = qmend::data::npy_bytes("<f4", &[50, 28, 28, 1], &pixels);
    std::fs::write(dir.path().join("x.npy"), npy).expect("written");
    let args = ["compare", MODEL, qdq, "--data", "x.npy"];
    let v = json(
        dir.path(),
        &[&args[..], &["--threshold-db", "5"]].concat(),
        0,
    );
    let layers = v["layers"].as_array().expect("layers");
    assert_eq!(
        layers.len(),
        8,
        "input, five convolutions, mean, logits: {v}"
    );
    assert!(
        layers.iter().all(|l| l["cosine"].as_f64() > Some(0.9)),
        "{v}"
    );
    let same = qmend(
        dir.path(),
        &["eval", qdq, "--data", "x.npy", "--reference", MODEL],
    );
    assert!(same.status.success(), "{}", text(&same.stderr));
}
