//! Ctrl-C.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::support::*;

/// A repair that takes much longer than the test waits.
fn start(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_qmend"))
        .args([
            "repair",
            MODEL,
            "m.qmend",
            "--data",
            &images("0..1500"),
            "--holdout",
            &images("1500..3000"),
        ])
        .args([
            "-o",
            "r.qmend",
            "--certificate",
            "c.json",
            "--force",
            "--json",
            "--time-budget",
            "100",
        ])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts")
}

fn interrupt(child: &Child) {
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(
        sent.expect("kill").success(),
        "the program ended before it was interrupted"
    );
}

fn after(seconds: f64) {
    std::thread::sleep(Duration::from_secs_f64(seconds));
}

fn end(child: Child) -> Output {
    child.wait_with_output().expect("it ends")
}

#[test]
fn the_first_ctrl_c_keeps_the_best_so_far() {
    let dir = quantized("3");
    let child = start(dir.path());
    after(3.0);
    interrupt(&child);
    let out = end(child);
    let words = text(&out.stderr);
    assert!(
        out.status.success() && words.contains("Ctrl-C again"),
        "{words}"
    );
    let v: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    assert_eq!(v["stopped"], "interrupted", "{v}");
    let holdout = &v["holdout"];
    assert!(
        number(&holdout["agreement_after"]) >= number(&holdout["agreement_before"]),
        "{v}"
    );
    assert_eq!(files(dir.path()), ["c.json", "m.qmend", "r.qmend"]);
    let data = images("0..1500");
    let proof = json(
        dir.path(),
        &[
            "verify",
            "r.qmend",
            "--certificate",
            "c.json",
            "--data",
            &data,
            "--inputs",
            "3",
        ],
    );
    assert_eq!(proof["certificate"]["holds"], true);
}

#[test]
fn the_second_ctrl_c_ends_the_program_and_leaves_no_file() {
    let dir = quantized("3");
    // The program may come to its safe point before the second: then it ended well, and once more.
    for _ in 0..5 {
        let mut child = start(dir.path());
        after(2.0);
        interrupt(&child);
        after(0.03);
        if child.try_wait().expect("its state").is_none() {
            interrupt(&child);
        }
        let out = end(child);
        if out.status.success() {
            std::fs::remove_file(dir.path().join("r.qmend")).expect("what it kept");
            std::fs::remove_file(dir.path().join("c.json")).expect("what it kept");
            continue;
        }
        assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
        assert!(out.stdout.is_empty());
        assert_eq!(files(dir.path()), ["m.qmend"]);
        return;
    }
    panic!("five repairs stopped within 30 ms of the first Ctrl-C");
}
