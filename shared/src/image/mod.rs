//! The model image: what `FORMAT.md` describes.
//!
//! [`Header`] (16 bytes) and a postcard [`Manifest`] behind it. [`Model`] is the view of an image
//! that has passed [`check`]; [`Op`] is one operator's message. [`BUILT_IN`] says which operators
//! this build has.

mod aligned;
pub mod check;
mod check_elementwise;
mod check_ops;
mod elementwise;
mod error;
mod header;
mod manifest;
mod memory;
mod model;
mod op;
mod operators;
mod read;
mod self_test;

pub use aligned::Aligned;
pub use check::{MAX_CONCAT_INPUTS, MAX_OPS};
pub use elementwise::{Constant, Operand, Product, ResizeNearest, Sum};
pub(crate) use error::stated;
pub use error::{ImageError, OpFault, TensorFault};
pub use header::{HEADER_BYTES, Header, MAGIC, VERSION};
pub use manifest::{Manifest, TensorDesc};
pub use memory::{Memory, Scratch};
pub use model::finish;
pub use model::{Channels, Model, Ops};
pub use op::*;
pub use operators::{BUILT_IN, OPERATORS, is_built_in};
pub use self_test::{SelfTests, self_test_footer};
