//! Patches: what changed between two images, small enough for a slow link.
//!
//! A repair changes a few biases, multipliers or weights; a [`Patch`] holds those and the lengths
//! and CRCs of both images, so that it applies to exactly one base and gives exactly one target.
//! [`Reader`] gives the target's bytes in order, from the base and the patch, without memory for
//! either image. `FORMAT.md` is the book; the host writes patches (`qmend diff`).
//!
//! - [`Header`]: lengths and CRCs,
//! - [`Op`]: copy, replace, add to words, move,
//! - [`PatchError`]: why bytes are no patch.

mod error;
mod header;
mod op;
mod reader;

pub use error::PatchError;
pub use header::{HEADER_BYTES, Header, MAGIC, VERSION};
pub use op::{KIND_ADD, KIND_COPY, KIND_MOVE, KIND_REPLACE, MAX_COUNT, Op, zigzag};
pub use reader::{Patch, Reader};
