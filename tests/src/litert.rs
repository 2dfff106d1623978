//! LiteRT's reference kernels, through a Python that has the package `ai-edge-litert`.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python with LiteRT: `QMEND_PYTHON`, that of `tests/python/setup.sh`, or the system's.
///
/// Where none has it, says that `test` is skipped.
pub fn python(test: &str) -> Option<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/.venv/bin/python");
    let found = std::env::var_os("QMEND_PYTHON")
        .map(PathBuf::from)
        .into_iter()
        .chain([own, "python3".into()])
        .find(|python| {
            Command::new(python)
                .args(["-c", "import ai_edge_litert, numpy"])
                .output()
                .is_ok_and(|o| o.status.success())
        });
    if found.is_none() {
        println!(
            "SKIPPED: {test}: no Python with ai-edge-litert, so nothing was compared; run tests/python/setup.sh"
        );
    }
    found
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
