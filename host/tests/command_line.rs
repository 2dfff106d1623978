//! The command line as a user calls it: the example's own files through every command, and what
//! happens when something is wrong.

use std::path::{Path, PathBuf};
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

/// Runs a command that must succeed, with `--json`, and reads its object.
fn json(folder: &Path, args: &[&str]) -> Value {
    let out = qmend(folder, &[args, &["--json"]].concat());
    assert!(out.status.success(), "{args:?}: {}", text(&out.stderr));
    let v: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    assert_eq!(v["schema"], 1, "{v}");
    assert_eq!(v["command"], args[0], "{v}");
    v
}

/// Runs a command that must fail with code 2 and says why on the error stream alone.
fn refused(folder: &Path, args: &[&str], wanted: &[&str]) {
    let out = qmend(folder, args);
    let err = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{args:?}: {err}");
    assert!(out.stdout.is_empty(), "{args:?}: {}", text(&out.stdout));
    for w in wanted {
        assert!(err.contains(w), "{args:?}: {w:?} is not in: {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

fn images(range: &str) -> String {
    format!("{IMAGES}:{range}")
}

/// A folder with a quantized model `m.qmend`.
fn quantized(bits: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let cal = images("0..64");
    json(
        dir.path(),
        &[
            "quantize",
            MODEL,
            "--data",
            &cal,
            "--scale",
            "1/255",
            "--weights",
            bits,
            "-o",
            "m.qmend",
        ],
    );
    dir
}

#[test]
fn a_users_own_files_go_from_float_to_repaired_and_certified() {
    let dir = quantized("3");
    let at = dir.path();
    let (repair, holdout, test) = (
        images("256..756"),
        images("756..1256"),
        images("5000..6000"),
    );

    let before = json(
        at,
        &["eval", "m.qmend", "--data", &test, "--reference", MODEL],
    );
    assert_eq!(before["n"], 1000);
    let share = |v: &Value| v.as_f64().expect("a number");
    assert!(share(&before["reference"]["accuracy"]) > 0.85, "{before}");
    assert!(
        share(&before["accuracy"]) < share(&before["reference"]["accuracy"]),
        "{before}"
    );

    let found = json(
        at,
        &[
            "localize", MODEL, "m.qmend", "--data", &repair, "--top", "3", "--metric", "dstar",
        ],
    );
    assert_eq!(found["neurons"].as_array().map(Vec::len), Some(3));
    assert!(found["failing"].as_u64() > Some(0), "{found}");

    let mended = json(
        at,
        &[
            "repair",
            MODEL,
            "m.qmend",
            "--data",
            &repair,
            "--holdout",
            &holdout,
            "-o",
            "r.qmend",
            "--certificate",
            "c.json",
            "--time-budget",
            "5",
        ],
    );
    let (r, h) = (&mended["repair"], &mended["holdout"]);
    assert!(
        share(&r["agreement_after"]) > share(&r["agreement_before"]),
        "{mended}"
    );
    assert!(
        share(&h["agreement_after"]) >= share(&h["agreement_before"]),
        "{mended}"
    );

    let proof = json(
        at,
        &[
            "verify",
            "r.qmend",
            "--certificate",
            "c.json",
            "--data",
            &repair,
            "--inputs",
            "20",
        ],
    );
    assert_eq!(
        (&proof["certificate"]["holds"], &proof["identical"]),
        (&Value::Bool(true), &Value::Bool(true))
    );
    assert_eq!(proof["device"]["differing"], 0);

    // The certificate is of the repaired image, and of this data.
    for (model, data) in [("m.qmend", &repair), ("r.qmend", &holdout)] {
        let out = qmend(
            at,
            &[
                "verify",
                model,
                "--certificate",
                "c.json",
                "--data",
                data,
                "--inputs",
                "1",
            ],
        );
        assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
        assert!(
            text(&out.stderr).contains("does not hold"),
            "{}",
            text(&out.stderr)
        );
    }
    let shown = json(at, &["inspect", "c.json"]);
    assert_eq!(shown["certificate"]["tests"], 500);
}

#[test]
fn words_go_to_the_error_stream_and_the_output_stays_empty() {
    let dir = quantized("8");
    let out = qmend(dir.path(), &["inspect", "m.qmend"]);
    assert!(out.status.success() && out.stdout.is_empty());
    let words = text(&out.stderr);
    assert!(
        words.contains("m.qmend") || words.contains("fmnist_cnn"),
        "{words}"
    );
    assert!(
        words.contains("/fc/Gemm") && words.contains("preprocessing: real = raw * 0.003921569"),
        "{words}"
    );
}

#[test]
fn outputs_are_written_one_row_a_sample() {
    let dir = quantized("8");
    let data = images("0..7");
    json(
        dir.path(),
        &["eval", "m.qmend", "--data", &data, "--outputs", "o.npy"],
    );
    let bytes = std::fs::read(dir.path().join("o.npy")).expect("the file");
    assert_eq!(bytes.len(), 128 + 70);
    assert!(
        text(&bytes[..128]).contains("'descr': '|i1', 'fortran_order': False, 'shape': (7, 10, )")
    );
    json(
        dir.path(),
        &[
            "eval",
            MODEL,
            "--scale",
            "1/255",
            "--data",
            &data,
            "--outputs",
            "f.npy",
        ],
    );
    assert_eq!(
        std::fs::read(dir.path().join("f.npy"))
            .expect("the file")
            .len(),
        128 + 280
    );
}

#[test]
fn what_is_wrong_is_named_with_a_remedy() {
    let dir = quantized("8");
    let at = dir.path();
    let cal = images("0..8");
    let model = std::fs::read(MODEL).expect("the model");
    std::fs::write(at.join("cut.onnx"), &model[..3000]).expect("a file");
    std::fs::write(at.join("empty.csv"), "").expect("a file");
    std::fs::write(at.join("nan.csv"), "1,nan,0\n").expect("a file");
    let quantize = |data: &str, extra: &[&str], wanted: &[&str]| {
        let args = [&["quantize", MODEL, "--data", data, "-o", "x.qmend"], extra].concat();
        refused(at, &args, wanted);
        assert!(!at.join("x.qmend").exists());
    };
    quantize("none.npz", &[], &["none.npz", "cannot be read"]);
    quantize("empty.csv", &[], &["empty.csv: holds no samples", "help: "]);
    quantize("nan.csv", &[], &["sample 0, element 1 is NaN", "help: "]);
    quantize("cut.onnx", &[], &["not a data format", "help: "]);
    quantize(
        &images("9999..10001"),
        &[],
        &["range 9999..10001 of 10000 samples", "help: "],
    );
    quantize(
        &cal,
        &["--mean", "1,2,3"],
        &["--mean has 3 numbers", "1 channels"],
    );
    quantize(&cal, &["--weights", "5"], &["8, 4, 3 or 2 bits"]);
    quantize(&cal, &["--layer", "no=4"], &["'no'", "/fc/Gemm"]);
    quantize(&cal, &["--labels", "empty.csv"], &["empty.csv"]);
    refused(
        at,
        &["quantize", "cut.onnx", "--data", &cal, "-o", "x.qmend"],
        &["cut.onnx", "damaged"],
    );
    refused(
        at,
        &["quantize", MODEL, "--data", &cal, "-o", "m.qmend"],
        &["m.qmend: exists already", "--force"],
    );
    refused(
        at,
        &["quantize", MODEL, "--data", &cal, "-o", "no/x.qmend"],
        &["its folder no is not there", "mkdir"],
    );
    refused(
        at,
        &["eval", "m.qmend", "--data", &cal, "--scale", "1/255"],
        &["stored in the model"],
    );
    refused(
        at,
        &["eval", "m.qmend", "--data", &cal, "--labels", "none"],
        &["has no labels", "--labels FILE"],
    );
    refused(
        at,
        &["localize", "m.qmend", "m.qmend", "--data", &cal],
        &["MODEL is the float .onnx"],
    );
    refused(
        at,
        &["verify", MODEL, "--data", &cal],
        &["not an integer model", "qmend quantize"],
    );
    refused(
        at,
        &[
            "repair",
            MODEL,
            "m.qmend",
            "--data",
            &images("0..100"),
            "--holdout",
            &images("50..150"),
            "-o",
            "x.qmend",
        ],
        &[
            "50 of the 100 holdout samples are in the repair set",
            "--allow-overlap",
        ],
    );
    refused(at, &["nonsense"], &["nonsense"]);
    refused(at, &["inspect", "m.qmend", "--nonsense"], &["--nonsense"]);
}

#[test]
fn labels_outside_the_models_outputs_are_refused_by_index() {
    let dir = quantized("8");
    std::fs::write(dir.path().join("labels.txt"), "1\n2\n10\n").expect("a file");
    let data = images("0..3");
    refused(
        dir.path(),
        &["eval", "m.qmend", "--data", &data, "--labels", "labels.txt"],
        &["labels.txt", "10000 samples"],
    );
    // As many labels as samples: a file of three samples.
    let mut idx = vec![0u8, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 28, 0, 0, 0, 28];
    idx.extend(vec![7u8; 3 * 28 * 28]);
    std::fs::write(dir.path().join("three"), idx).expect("a file");
    refused(
        dir.path(),
        &[
            "eval",
            "m.qmend",
            "--data",
            "three",
            "--labels",
            "labels.txt",
        ],
        &[
            "label of sample 2 is 10",
            "10 outputs (labels 0 to 9)",
            "help: ",
        ],
    );
}

#[test]
fn an_image_with_a_flipped_bit_is_refused() {
    let dir = quantized("4");
    let path: PathBuf = dir.path().join("m.qmend");
    let good = std::fs::read(&path).expect("the image");
    for bit in (0..8 * good.len()).step_by(8 * good.len() / 40 + 3) {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(&path, bad).expect("a file");
        refused(
            dir.path(),
            &["eval", "m.qmend", "--data", &images("0..1")],
            &["m.qmend"],
        );
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_and_a_reader_that_leaves_are_no_surprise() {
    let dir = quantized("8");
    let cal = images("0..8");
    refused(
        dir.path(),
        &["quantize", MODEL, "--data", &cal, "-o", "/dev/full"],
        &["/dev/full: no space left", "help: "],
    );
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .expect("the device");
    let out = Command::new(env!("CARGO_BIN_EXE_qmend"))
        .args(["inspect", "m.qmend", "--json"])
        .current_dir(dir.path())
        .stdout(full)
        .output()
        .expect("the program starts");
    assert_eq!(out.status.code(), Some(2), "{}", text(&out.stderr));

    let mut child = Command::new(env!("CARGO_BIN_EXE_qmend"))
        .args(["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let out = child.wait_with_output().expect("it ends");
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(out.stderr.is_empty(), "{}", text(&out.stderr));
}

#[test]
fn every_command_explains_shapes_and_preprocessing() {
    let here = Path::new(".");
    for command in [
        "demo",
        "quantize",
        "localize",
        "repair",
        "eval",
        "inspect",
        "verify",
        "completions",
    ] {
        let out = qmend(here, &[command, "--help"]);
        assert!(out.status.success(), "{command}");
        // Without the line breaks, and whatever stands first in a sentence.
        let help = text(&out.stdout)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .to_lowercase();
        assert!(help.len() > 300, "{command}: {help}");
        if ["quantize", "eval"].contains(&command) {
            assert!(help.contains("real = (raw * scale - mean) / std"), "{help}");
        }
        if ["quantize", "localize", "repair", "eval", "verify"].contains(&command) {
            assert!(
                help.contains("[n, height, width, channels]") && help.contains("raw values"),
                "{command}: {help}"
            );
        }
    }
}

#[test]
fn the_demo_walks_the_road_and_leaves_its_files() {
    let dir = tempfile::tempdir().expect("a folder");
    let args = [
        "demo",
        "--out",
        "d",
        "--device",
        "host",
        "--inputs",
        "5",
        "--time-budget",
        "20",
    ];
    let d = json(dir.path(), &args);
    let share = |key: &str| d[key].as_f64().unwrap_or_else(|| panic!("{key} in {d}"));
    assert_eq!(d["test_size"], 4744);
    assert!(share("float_accuracy") > 0.88, "{d}");
    let widths = d["widths"].as_array().expect("one object a width");
    assert_eq!(widths.len(), 4);
    let gain = |w: &Value| {
        let share = |key: &str| w[key].as_f64().unwrap_or_else(|| panic!("{key} in {w}"));
        share("repaired_accuracy") - share("quantized_accuracy")
    };
    // How far a repair gets depends on the machine's speed; that it never harms does not.
    assert!(widths.iter().all(|w| gain(w) > -0.005), "{d}");
    assert!(widths.iter().any(|w| gain(w) > 0.02), "{d}");
    assert_eq!(
        (&d["device"]["differing"], &d["device"]["inputs"]),
        (&Value::from(0), &Value::from(5))
    );
    assert_eq!(d["certificate"]["holds"], true);
    for file in d["files"].as_array().expect("files") {
        let path = dir.path().join(file.as_str().expect("a path"));
        assert!(
            path.metadata().is_ok_and(|m| m.len() > 0),
            "{}",
            path.display()
        );
    }
}
