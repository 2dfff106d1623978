//! Why a model was not written or an image not read.

use qmend_shared::image::ImageError;

/// Why a model was not written or an image not read.
#[derive(Debug, thiserror::Error, PartialEq)]
#[non_exhaustive]
pub enum ExportError {
    /// A tensor that an image cannot hold.
    #[error("tensor '{name}' (number {index}, shape {shape:?}): {problem}")]
    Tensor {
        /// Index in the model.
        index: usize,
        /// Its name.
        name: String,
        /// Height, width, channels.
        shape: [usize; 3],
        /// What is wrong and what would help.
        problem: String,
    },
    /// A node that an image cannot hold.
    #[error("node '{name}' (number {index}, {kind}): {problem}")]
    Node {
        /// Index in the model.
        index: usize,
        /// Its name.
        name: String,
        /// Its operator.
        kind: &'static str,
        /// What is wrong and what would help.
        problem: String,
    },
    /// The model as a whole does not fit in the format.
    #[error("the model '{name}' does not fit in an image: {problem}")]
    Model {
        /// Its name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The image that was made of a model did not pass the check that the device would make.
    #[error("node '{node}' ({kind}) cannot be run on the device: {source}")]
    Refused {
        /// The node's name.
        node: String,
        /// Its operator.
        kind: &'static str,
        /// What the check said.
        source: ImageError,
    },
    /// Bytes that are not an image, or an image that must not be run.
    #[error("not a usable image: {0}")]
    Image(#[from] ImageError),
    /// The image is sound but the notes in it are not.
    #[error(
        "the image's notes (names, preprocessing, labels) {problem}; write the image again with this version"
    )]
    Notes {
        /// What is wrong with them.
        problem: String,
    },
    /// Bytes that are no ELF file that can be put into flash.
    #[error("not usable as firmware: {problem}")]
    Elf {
        /// What is wrong.
        problem: String,
    },
}
