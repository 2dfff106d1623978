//! Reads a trained float network from a file into a [`Graph`](crate::graph::Graph).
//!
//! [`load_graph`] reads a file; [`onnx::import_onnx`] and [`tflite::import_tflite_float`] read bytes.
//! [`tflite`] and [`onnx::qdq`] read integer networks too, which need no quantization.

mod error;
pub mod onnx;
pub mod tflite;

use std::io::Read;
use std::path::Path;

use crate::graph::Graph;
use crate::model::QuantizedModel;

pub use error::{ImportError, Issue};

/// Reads the float network in a file: TFLite by its content, ONNX by its extension (`.onnx`).
///
/// # Errors
/// [`ImportError`], naming the file, the node or initializer, and what to do.
pub fn load_graph(path: impl AsRef<Path>) -> Result<Graph, ImportError> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let read = |source| ImportError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(read)?;
    check_file_size(file.metadata().map_err(read)?.len(), &name)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(read)?;
    let is = |extension: &str| {
        path.extension()
            .is_some_and(|e| e.eq_ignore_ascii_case(extension))
    };
    if tflite::is_tflite(&bytes) || is("tflite") {
        Ok(tflite::import_tflite_float(&bytes, &name)?)
    } else if is("onnx") {
        onnx::import_onnx(&bytes, &name)
    } else {
        Err(ImportError::UnknownFormat {
            path: path.to_owned(),
        })
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
    check_file_size(std::fs::metadata(path).map_err(read)?.len(), &shown)?;
    let bytes = std::fs::read(path).map_err(read)?;
    if !onnx::qdq::is_qdq(&bytes) {
        return Ok(None);
    }
    onnx::qdq::import_qdq(&bytes, &shown).map(Some)
}

const MAX_FILE: u64 = 128 << 20;

/// Refuses files larger than networks for microcontrollers are.
fn check_file_size(bytes: u64, file: &str) -> Result<(), ImportError> {
    if bytes <= MAX_FILE {
        return Ok(());
    }
    Err(ImportError::TooLarge {
        file: file.into(),
        what: format!("its size of {bytes} bytes"),
        limit: format!("{} MiB", MAX_FILE >> 20),
    })
}
