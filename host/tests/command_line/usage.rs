//! Arguments that are wrong, missing, or name the wrong kind of file.

use super::support::*;

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
fn a_file_of_the_wrong_kind_is_refused_wherever_it_is_given() {
    let dir = quantized("8");
    let at = dir.path();
    put(at, "empty", "");
    put(
        at,
        "noise",
        [0x9c, 0x01, 0xff, 0xfe, 0x80, 0x07].repeat(500),
    );
    put(at, "c.json", r#"{"schema": 1}"#);
    std::fs::create_dir(at.join("folder")).expect("a folder");
    let before = files(at);
    let data = images("0..4");
    let holdout = images("4..8");
    let holdout = holdout.as_str();
    let commands: [&[&str]; 13] = [
        &["quantize", "?", "--data", &data, "-o", "x"],
        &["quantize", MODEL, "--data", "?", "-o", "x"],
        &["localize", "?", "m.qmend", "--data", &data],
        &["localize", MODEL, "?", "--data", &data],
        &["localize", MODEL, "m.qmend", "--data", "?"],
        &[
            "repair",
            "?",
            "m.qmend",
            "--data",
            &data,
            "--holdout",
            holdout,
            "-o",
            "x",
        ],
        &[
            "repair",
            MODEL,
            "?",
            "--data",
            &data,
            "--holdout",
            holdout,
            "-o",
            "x",
        ],
        &[
            "repair",
            MODEL,
            "m.qmend",
            "--data",
            "?",
            "--holdout",
            holdout,
            "-o",
            "x",
        ],
        &[
            "repair",
            MODEL,
            "m.qmend",
            "--data",
            &data,
            "--holdout",
            "?",
            "-o",
            "x",
        ],
        &["eval", "?", "--data", &data],
        &["eval", "m.qmend", "--data", "?"],
        &["verify", "?", "--data", &data],
        &["verify", "m.qmend", "--data", &data, "--certificate", "?"],
    ];
    for command in commands {
        for wrong in ["absent", "empty", "noise", "folder", "c.json"] {
            let args: Vec<&str> = command
                .iter()
                .map(|&a| if a == "?" { wrong } else { a })
                .collect();
            refused(at, &args, &[wrong]);
        }
    }
    assert_eq!(files(at), before);
}

#[test]
fn missing_and_senseless_arguments_are_named() {
    let dir = quantized("8");
    let at = dir.path();
    let data = images("0..8");
    let few = images("0..3");
    let cases: [(&[&str], &str); 12] = [
        (&["quantize", MODEL, "-o", "x"], "--data"),
        (&["quantize", MODEL, "--data", &data], "--output"),
        (
            &[
                "quantize", MODEL, "--data", &data, "-o", "x", "--scale", "0",
            ],
            "cannot be 0",
        ),
        (
            &[
                "quantize",
                MODEL,
                "--data",
                &data,
                "-o",
                "x",
                "--rounding",
                "up",
            ],
            "gptq",
        ),
        (
            &[
                "quantize",
                MODEL,
                "--data",
                &data,
                "-o",
                "x",
                "--calibration",
                "percentile:7",
            ],
            "percentile",
        ),
        (
            &[
                "quantize", MODEL, "--data", &data, "-o", "x", "--layer", "/fc/Gemm",
            ],
            "NAME=BITS",
        ),
        (
            &["repair", MODEL, "m.qmend", "--data", &few, "-o", "x"],
            "cannot be cut into repair and holdout data",
        ),
        (
            &[
                "localize", MODEL, "m.qmend", "--data", &data, "--metric", "best",
            ],
            "tarantula",
        ),
        (
            &[
                "localize", MODEL, "m.qmend", "--data", &data, "--layer", "best",
            ],
            "/fc/Gemm",
        ),
        (
            &["eval", "m.qmend", "--data", &images("8..8")],
            "empty range",
        ),
        (
            &["verify", "m.qmend", "--data", &data, "--device", "toaster"],
            "qemu",
        ),
        (&["demo", "--bits", "5"], "8, 4, 3 or 2 bits"),
    ];
    for (args, wanted) in cases {
        refused(at, args, &[wanted]);
    }
    let repair = [
        "repair",
        MODEL,
        "m.qmend",
        "--data",
        &data,
        "--holdout",
        &images("8..16"),
    ];
    for (more, wanted) in [
        (
            ["-o", "x", "--time-budget", "nan"],
            "positive number of seconds",
        ),
        (["-o", "x", "--strategy", "hope"], "margin"),
        (["-o", "x", "--top", "0"], "above 0"),
        (["-o", "x", "--certificate", "x"], "two results"),
        (["-o", MODEL, "--metric", "ochiai"], "is read here"),
    ] {
        refused(at, &[&repair[..], &more, &["--force"]].concat(), &[wanted]);
    }
    assert_eq!(files(at), ["m.qmend"]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_takes_no_file_is_refused_before_the_work() {
    let dir = quantized("8");
    let (data, holdout) = (images("0..8"), images("8..16"));
    let args = [
        "repair",
        MODEL,
        "m.qmend",
        "--data",
        &data,
        "--holdout",
        &holdout,
    ];
    let out = qmend(dir.path(), &[&args[..], &["-o", "/proc/x.qmend"]].concat());
    let words = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{words}");
    assert!(
        words.contains("/proc/x.qmend: cannot be written"),
        "{words}"
    );
    assert!(
        !words.contains("proposals"),
        "the repair ran first: {words}"
    );
}
