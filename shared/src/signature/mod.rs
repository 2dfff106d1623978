//! Who may write: Ed25519 signatures of images.
//!
//! A [`Signed`] block says which image its signer means (length, CRC-32, SHA-512) and which version
//! of the model that is; it lies behind an image or a patch in a file and is sent before either.
//! A device that holds a public key takes nothing else. `FORMAT.md` is the book.
//!
//! - [`Signed`]: the block's fields and bytes, and [`split`], which finds it behind a file,
//! - `verify` (feature `signed`): signature and hashes, with the crate `ed25519-compact`: of the
//!   crates that fit a microcontroller it brings its own SHA-512, so that no second hash is linked,
//!   and its verification takes about as much flash as that of `ed25519-dalek`.

mod block;
#[cfg(feature = "signed")]
mod verify;

pub use block::{BLOCK_BYTES, HASH_BYTES, MAGIC, SIGNED_BYTES, Signed, VERSION, split};
#[cfg(feature = "signed")]
pub use verify::{Hasher, KEY_BYTES, key_id, sha512};
