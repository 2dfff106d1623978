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
        "{file}: {what} differs from the file's, where only weights and biases may (and multipliers with --repair-multipliers); write a .qmend instead, which holds every change"
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
    /// TFLite has no operator with the same bits.
    #[error("{model}: `{node}` ({kind}) has no counterpart in TFLite: {reason}; {remedy}")]
    Inexpressible {
        /// The model.
        model: String,
        /// The node.
        node: String,
        /// Its operator.
        kind: &'static str,
        /// What TFLite cannot do.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// Multipliers that no float32 scale gives.
    #[error(
        "{model}: {count} multipliers of channels and means are ones that no float32 scale gives there, so a .tflite would give other bits; write a .qmend instead, or take the nearest scales with --round-multipliers"
    )]
    Multipliers {
        /// The model.
        model: String,
        /// Their number.
        count: usize,
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
