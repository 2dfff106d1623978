//! What goes to which stream, and what happens when nobody takes it.

use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::*;

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
fn a_failure_is_one_json_object_too() {
    let dir = quantized("8");
    let cases: [(&[&str], &str, &str); 4] = [
        (
            &["inspect", "none.npz"],
            "inspect",
            "none.npz: cannot be read",
        ),
        (&["eval", "m.qmend", "--data", "none"], "eval", "none"),
        (&["repair", "--strict"], "repair", "--holdout"),
        (&["nonsense"], "", "nonsense"),
    ];
    for (args, command, wanted) in cases {
        let out = qmend(dir.path(), &[args, &["--json"]].concat());
        assert_eq!(out.status.code(), Some(2), "{args:?}");
        let v: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
        assert_eq!(
            (&v["schema"], &v["command"]),
            (&1.into(), &command.into()),
            "{v}"
        );
        let message = v["error"]["message"].as_str().expect("a message");
        assert!(message.contains(wanted), "{v}");
        assert!(text(&out.stderr).contains(wanted), "{}", text(&out.stderr));
    }
    let v = json(dir.path(), &["completions", "bash"]);
    assert!(v["script"].as_str().is_some_and(|s| s.contains("qmend")));
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_leaves_the_old_file_and_no_rest() {
    let dir = quantized("8");
    let old = std::fs::read(dir.path().join("m.qmend")).expect("the image");
    let before = files(dir.path());
    // A limit on the size of files ends a write as a full disk does.
    let limited = format!(
        "trap '' XFSZ; ulimit -f 4; exec {} quantize {MODEL} --data {} --scale 1/255 --weights 4 -o m.qmend --force",
        env!("CARGO_BIN_EXE_qmend"),
        images("0..8")
    );
    let out = Command::new("sh")
        .args(["-c", &limited])
        .current_dir(dir.path())
        .output()
        .expect("a shell");
    let words = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{words}");
    assert!(words.contains("m.qmend: no space left"), "{words}");
    assert_eq!(
        std::fs::read(dir.path().join("m.qmend")).expect("the image"),
        old
    );
    assert_eq!(files(dir.path()), before);
}
