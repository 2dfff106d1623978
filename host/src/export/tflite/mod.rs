//! TFLite files as results.
//!
//! - [`Patchable`]: an int8 .tflite from the field whose weights and biases are replaced in place;
//!   everything else in it, metadata included, stays byte for byte.

mod error;
mod patch;
#[cfg(test)]
mod tests;

pub use error::TfliteExportError;
pub use patch::{Patchable, Replaced};
