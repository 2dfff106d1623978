//! The model image.

mod manifest;
mod op;

pub use manifest::{Manifest, TensorDesc};
pub use op::*;
