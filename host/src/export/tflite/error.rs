//! Why a model did not become a .tflite.

use crate::import::tflite::TfliteError;

/// Why a model did not become a .tflite.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TfliteExportError {
    /// The original file cannot be read.
    #[error(transparent)]
    Import(#[from] TfliteError),
    /// The model is not the one in the file with other weights and biases.
    #[error(
        "{file}: {what} differs from the file's, where only weights and biases may; write a .qmend instead, which holds every change"
    )]
    OtherModel {
        /// The file.
        file: String,
        /// What differs.
        what: String,
    },
    /// A constant cannot be replaced, because something else reads it or there is none.
    #[error(
        "{file}: the {what} of `{node}` cannot be replaced: {reason}; write a .qmend instead, or convert the network again without sharing constants"
    )]
    Fixed {
        /// The file.
        file: String,
        /// Weights or biases.
        what: &'static str,
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// The written bytes do not read back as the model.
    #[error(
        "{file}: after replacing its integers the file reads back as another network: its tables overlap"
    )]
    NotFaithful {
        /// The file.
        file: String,
    },
}
