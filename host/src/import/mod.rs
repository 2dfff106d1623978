//! Reads a trained float network from a file into a [`Graph`](crate::graph::Graph).
//!
//! [`load_graph`] chooses by extension; [`onnx::import_onnx`] reads bytes. [`tflite`] reads integer
//! networks, which need no quantization.

mod error;
pub mod onnx;
pub mod tflite;

use std::path::Path;

use crate::graph::Graph;

pub use error::{ImportError, Issue};

/// Reads the float network in a file, by its extension (`.onnx`).
///
/// # Errors
/// [`ImportError`], naming the file, the node or initializer, and what to do.
pub fn load_graph(path: impl AsRef<Path>) -> Result<Graph, ImportError> {
    let path = path.as_ref();
    let extension = path
        .extension()
        .and_then(|e| e.to_str())
        .unwrap_or_default()
        .to_ascii_lowercase();
    match extension.as_str() {
        "onnx" => {
            let read = |source| ImportError::Read {
                path: path.to_owned(),
                source,
            };
            let size = std::fs::metadata(path).map_err(read)?.len();
            onnx::check_file_size(size, &path.display().to_string())?;
            let bytes = std::fs::read(path).map_err(read)?;
            onnx::import_onnx(&bytes, &path.display().to_string())
        }
        "tflite" => Err(ImportError::TfliteNotSupported {
            path: path.to_owned(),
        }),
        _ => Err(ImportError::UnknownFormat {
            path: path.to_owned(),
        }),
    }
}
