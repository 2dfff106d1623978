//! Reads a trained float network from a file into a [`Graph`](crate::graph::Graph).
//!
//! [`load_graph`] chooses by extension; [`onnx::import_onnx`] reads bytes. [`tflite`] and
//! [`onnx::qdq`] read integer networks, which need no quantization.

mod error;
pub mod onnx;
pub mod tflite;

use std::path::Path;

use crate::graph::Graph;
use crate::model::QuantizedModel;

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

/// Reads a file as a QDQ network ([`onnx::qdq`]); `None` for one that is not an `.onnx` file with
/// quantized tensors.
///
/// # Errors
/// As [`load_graph`].
pub fn load_qdq(path: impl AsRef<Path>) -> Result<Option<QuantizedModel>, ImportError> {
    let path = path.as_ref();
    if !path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("onnx"))
    {
        return Ok(None);
    }
    let read = |source| ImportError::Read {
        path: path.to_owned(),
        source,
    };
    let shown = path.display().to_string();
    onnx::check_file_size(std::fs::metadata(path).map_err(read)?.len(), &shown)?;
    let bytes = std::fs::read(path).map_err(read)?;
    if !onnx::qdq::is_qdq(&bytes) {
        return Ok(None);
    }
    onnx::qdq::import_qdq(&bytes, &shown).map(Some)
}
