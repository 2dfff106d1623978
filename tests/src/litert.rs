//! LiteRT's reference kernels and TFLM, through a Python that has the packages `ai-edge-litert` and
//! `tflite-micro`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python with LiteRT: `QMEND_PYTHON`, that of `tests/python/setup.sh`, or the system's.
///
/// Where none has it, says that `test` is skipped.
pub fn python(test: &str) -> Option<PathBuf> {
    let found = python_with("ai_edge_litert, numpy");
    if found.is_none() {
        println!(
            "SKIPPED: {test}: no Python with ai-edge-litert, so nothing was compared; run tests/python/setup.sh"
        );
    }
    found
}

/// A Python that has these modules: `QMEND_PYTHON`, that of `tests/python/setup.sh`, or the system's.
pub fn python_with(modules: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/.venv/bin/python");
    std::env::var_os("QMEND_PYTHON")
        .map(PathBuf::from)
        .into_iter()
        .chain([own, "python3".into()])
        .find(|python| {
            Command::new(python)
                .args(["-c", &format!("import {modules}")])
                .output()
                .is_ok_and(|o| o.status.success())
        })
}

/// Outputs of a .tflite for int8 inputs, one sample after the other.
///
/// # Panics
/// Where LiteRT does not take the file.
pub fn run(python: &Path, file: &[u8], inputs: &[i8]) -> Vec<i8> {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("net.tflite"), file).expect("written");
    let bytes: Vec<u8> = inputs.iter().map(|q| *q as u8).collect();
    std::fs::write(at("inputs"), bytes).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/litert_bits.py");
    let out = Command::new(python)
        .arg(script)
        .args([at("net.tflite"), at("inputs"), at("outputs")])
        .output()
        .expect("Python starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "LiteRT: {said}");
    let outputs = std::fs::read(at("outputs")).expect("outputs");
    outputs.into_iter().map(|b| b as i8).collect()
}

/// A file and what to run it on.
#[derive(Clone, Debug)]
pub struct Job {
    /// An int8 .tflite.
    pub file: Vec<u8>,
    /// Samples, one after the other.
    pub inputs: Vec<i8>,
}

/// What a runtime gives for a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outputs {
    /// Outputs of all samples.
    Given(Vec<i8>),
    /// Why it does not take the file.
    Refused(String),
    /// The runtime is not installed.
    Absent,
}

/// What both runtimes give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Both {
    /// LiteRT's reference kernels.
    pub reference: Outputs,
    /// TFLM.
    pub tflm: Outputs,
}

/// Runs every file in both runtimes, in one process. Says that `test` is half skipped where TFLM is
/// not installed.
///
/// # Panics
/// Where Python fails.
pub fn run_all(python: &Path, test: &str, jobs: &[Job]) -> Vec<Both> {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |i: usize, kind: &str| folder.path().join(format!("{i:05}.{kind}"));
    for (i, job) in jobs.iter().enumerate() {
        std::fs::write(at(i, "tflite"), &job.file).expect("written");
        let bytes: Vec<u8> = job.inputs.iter().map(|q| *q as u8).collect();
        std::fs::write(at(i, "in"), bytes).expect("written");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/tflite_bits.py");
    let out = Command::new(python)
        .arg(script)
        .arg(folder.path())
        .output()
        .expect("Python starts");
    match out.status.code() {
        Some(0) => {}
        Some(4) => println!(
            "SKIPPED: {test}: TFLM: no Python with tflite-micro; run tests/python/setup.sh"
        ),
        _ => panic!("{}", String::from_utf8_lossy(&out.stderr)),
    }
    let outputs = |i: usize, kind: &str| match std::fs::read(at(i, kind)) {
        Ok(bytes) => Outputs::Given(bytes.into_iter().map(|b| b as i8).collect()),
        Err(_) => match std::fs::read_to_string(at(i, &format!("{kind}.error"))) {
            Ok(why) => Outputs::Refused(why),
            Err(_) => Outputs::Absent,
        },
    };
    (0..jobs.len())
        .map(|i| Both {
            reference: outputs(i, "ref"),
            tflm: outputs(i, "tflm"),
        })
        .collect()
}
