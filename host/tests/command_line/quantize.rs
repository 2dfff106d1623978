//! Every way to quantize.

use std::collections::HashSet;

use serde_json::Value;

use super::support::*;

#[test]
fn every_method_makes_a_model_of_its_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = images("0..48");
    let run = |more: &[&str]| {
        let args = [
            "quantize", MODEL, "--data", &data, "--scale", "1/255", "-o", "m.qmend", "--force",
        ];
        let v = json(dir.path(), &[&args[..], more].concat());
        (
            v,
            std::fs::read(dir.path().join("m.qmend")).expect("the image"),
        )
    };
    let methods: [&[&str]; 10] = [
        &["--weights", "3"],
        &["--weights", "3", "--scales", "max"],
        &["--weights", "3", "--per-tensor"],
        &["--weights", "3", "--rounding", "squant"],
        &["--weights", "3", "--rounding", "gptq"],
        &["--weights", "3", "--rounding", "adaround"],
        &["--weights", "3", "--bias-correction"],
        &["--weights", "3", "--keep-ends-8bit"],
        &["--weights", "3", "--calibration", "percentile:99"],
        &["--weights", "3", "--calibration", "mse"],
    ];
    let mut images = HashSet::new();
    for method in methods {
        let (v, image) = run(method);
        assert!(
            number(&v["calibration"]["agreement"]) > 0.2,
            "{method:?}: {v}"
        );
        assert!(images.insert(image), "{method:?} changes nothing");
    }
}

#[test]
fn layers_may_have_widths_of_their_own() {
    let dir = tempfile::tempdir().expect("a folder");
    let data = images("0..16");
    let args = [
        "quantize",
        MODEL,
        "--data",
        &data,
        "--scale",
        "1/255",
        "-o",
        "m.qmend",
        "--weights",
        "2",
        "--keep-ends-8bit",
        "--layer",
        "/f/f.2/f.2.0/Conv=4",
        "--layer",
        "/fc/Gemm=3",
    ];
    json(dir.path(), &args);
    let seen = json(dir.path(), &["inspect", "m.qmend"]);
    let bits: Vec<&Value> = seen["layers"]
        .as_array()
        .expect("layers")
        .iter()
        .map(|l| &l["bits"])
        .collect();
    let wanted: [Value; 7] = [
        8.into(),
        2.into(),
        4.into(),
        2.into(),
        2.into(),
        Value::Null,
        3.into(),
    ];
    assert_eq!(bits, wanted.iter().collect::<Vec<_>>());
}
