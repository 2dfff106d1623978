//! TFLite files as results.
//!
//! - [`Patchable`]: an int8 .tflite from the field whose weights and biases are replaced in place;
//!   everything else in it, metadata included, stays byte for byte.
//! - [`write_tflite`]: a new file of any integer network that TFLite's operators express exactly.

mod elementwise;
mod error;
mod file;
mod lower;
mod patch;
mod ranks;
mod scales;
mod tables;
#[cfg(test)]
mod tests;
mod write;

pub use error::TfliteExportError;
pub use patch::{Patchable, Replaced};
pub use write::{Written, write_tflite};
