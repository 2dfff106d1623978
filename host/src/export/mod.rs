//! From the integer network to what is flashed, and back.
//!
//! - [`plan`]: where every tensor lies in the arena,
//! - [`image`]: the bytes of `shared/FORMAT.md`,
//! - [`notes`]: what an image carries for the host alone,
//! - [`tflite`]: TFLite files as results,
//! - [`elf`]: flash contents as programmers take them,
//! - [`self_test`]: inputs that travel with their outputs,
//! - [`patch`]: from one image to another,
//! - [`signature`]: who made it.

pub mod elf;
mod error;
pub mod image;
pub mod notes;
pub mod patch;
mod place;
pub mod plan;
pub mod self_test;
pub mod signature;
pub mod tflite;

#[cfg(test)]
mod test_models;

pub use error::ExportError;
pub use image::{read_image, write_image};
pub use plan::{Plan, plan};
