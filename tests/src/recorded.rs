//! The int8 networks of `../shared/data`, in TFLite's format, with inputs and outputs that other
//! people's kernels computed: `out_tflm` of TFLM, `out_ref` of LiteRT's reference kernels, and in
//! `_layers` files every operator's output under the latter.
//!
//! The folder is no part of the repository; where it is absent, tests say so and check nothing.

use std::path::{Path, PathBuf};

use qmend::import::tflite::import_tflite_int8_as;
use qmend::model::{QuantizedModel, Rounding};

use crate::golden::Arrays;

/// The folder.
pub const DATA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data");

/// An int8 network with recorded outputs.
#[derive(Clone, Debug)]
pub struct Network {
    /// The file.
    pub path: PathBuf,
    /// Its name without the extension.
    pub name: String,
}

/// All of them; where the folder is absent, none, after printing that `test` is skipped.
///
/// # Panics
/// Where the folder is there and holds none.
pub fn networks(test: &str) -> Vec<Network> {
    let folder = Path::new(DATA).join("models");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        println!(
            "SKIPPED: {test}: {} is absent, so nothing was compared",
            folder.display()
        );
        return Vec::new();
    };
    let mut found: Vec<Network> = entries
        .map(|e| e.expect("the folder can be listed").path())
        .filter(|p| p.to_string_lossy().ends_with("_int8.tflite"))
        .map(|path| Network {
            name: path
                .file_stem()
                .and_then(|s| s.to_str())
                .expect("a name")
                .into(),
            path,
        })
        .filter(|n| n.golden("").exists())
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(
        !found.is_empty(),
        "{} holds no network with golden outputs",
        folder.display()
    );
    found
}

impl Network {
    fn golden(&self, suffix: &str) -> PathBuf {
        Path::new(DATA)
            .join("golden")
            .join(format!("{}{suffix}.npz", self.name))
    }

    /// Inputs and final outputs.
    ///
    /// # Panics
    /// As [`Arrays::open`].
    pub fn outputs(&self) -> Arrays {
        Arrays::open(&self.golden(""))
    }

    /// Inputs and outputs of every operator under LiteRT's reference kernels, by its index; `None`
    /// where they were not recorded.
    ///
    /// # Panics
    /// As [`Arrays::open`].
    pub fn layers(&self) -> Option<(Vec<i8>, Vec<Vec<i8>>)> {
        let path = self.golden("_layers");
        if !path.exists() {
            return None;
        }
        let mut arrays = Arrays::open(&path);
        let inputs = arrays.int8("input");
        // Sorted by name, which starts with the operator's two-digit index.
        let names = arrays.names().into_iter().filter(|n| n.starts_with("op"));
        let outputs = names.map(|n| arrays.int8(&n)).collect();
        Some((inputs, outputs))
    }

    /// The network under a rounding rule.
    ///
    /// # Panics
    /// Where it cannot be imported.
    pub fn load(&self, rounding: Rounding) -> QuantizedModel {
        let bytes = std::fs::read(&self.path).expect("the network can be read");
        import_tflite_int8_as(&bytes, &self.name, rounding).expect("the network can be imported")
    }
}
