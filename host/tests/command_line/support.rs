//! How the tests call the program.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/fmnist_cnn.onnx");
pub const IMAGES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/assets/t10k-images-idx3-ubyte.gz"
);

pub fn qmend(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_qmend"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("the program starts")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed, with `--json`, and reads its object.
pub fn json(folder: &Path, args: &[&str]) -> Value {
    let out = qmend(folder, &[args, &["--json"]].concat());
    assert!(
        out.status.success(),
        "{args:?}: {}{}",
        text(&out.stderr),
        text(&out.stdout)
    );
    let v: Value = serde_json::from_slice(&out.stdout).expect("one JSON object");
    assert_eq!(v["schema"], 1, "{v}");
    assert_eq!(v["command"], args[0], "{v}");
    v
}

/// Runs a command that must fail with code 2 and says why on the error stream alone.
pub fn refused(folder: &Path, args: &[&str], wanted: &[&str]) {
    let out = qmend(folder, args);
    let err = text(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{args:?}: {err}");
    assert!(out.stdout.is_empty(), "{args:?}: {}", text(&out.stdout));
    for w in wanted {
        assert!(err.contains(w), "{args:?}: {w:?} is not in: {err}");
    }
    assert!(!err.contains("panicked"), "{err}");
}

pub fn images(range: &str) -> String {
    format!("{IMAGES}:{range}")
}

/// A folder with a quantized model `m.qmend`.
pub fn quantized(bits: &str) -> tempfile::TempDir {
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

/// A share, an accuracy or a count.
pub fn number(v: &Value) -> f64 {
    v.as_f64()
        .unwrap_or_else(|| panic!("a number in place of {v}"))
}

/// Writes a file into the folder.
pub fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    std::fs::write(folder.join(name), bytes).expect("a file");
}

/// The first samples of the example, `[n][28][28]`, and their labels.
pub fn samples(n: usize) -> (Vec<u8>, Vec<u8>) {
    let read = |path: &str, header: usize, length: usize| {
        let file = std::fs::File::open(path).expect("the asset");
        let mut bytes = vec![0; header + length];
        std::io::Read::read_exact(&mut flate2::read::GzDecoder::new(file), &mut bytes)
            .expect("the asset's bytes");
        bytes.split_off(header)
    };
    let labels = IMAGES.replace("images-idx3", "labels-idx1");
    (read(IMAGES, 16, n * 784), read(&labels, 8, n))
}

/// The bytes of an IDX file of unsigned bytes.
pub fn idx(dims: &[u32], data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|d| d.to_be_bytes()));
    bytes.extend(data);
    bytes
}

/// Names of all files in a folder, the hidden ones too.
pub fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|e| {
            e.expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort();
    names
}
