//! Integer model format, fixed-point arithmetic, kernels and engine: the code that decides every
//! bit, on the host and on the microcontroller. No float, no heap, and no
//! unsafe but in the assembly kernels of `kernels/cortex_m`.
//!
//! Bytes become a [`image::Model`] by passing every check; [`engine::run`] executes it in an arena
//! that the caller owns:
//!
//! - [`arith`]: how a scaled accumulator is rounded,
//! - [`weights`]: numbers of 2, 3, 4 and 8 bits,
//! - `crc`: the check sum of everything,
//! - [`image`]: header, manifest, operators, the check (`FORMAT.md` is its book),
//! - [`kernels`]: one operator a file,
//! - [`engine`]: operators in turn,
//! - [`patch`]: what changed between two images,
//! - [`slot`]: two places for an image in flash, and which of them counts,
//! - [`signature`]: who may write,
//! - [`link`]: the messages between a host and a device.
#![no_std]
#![deny(unsafe_code)]

pub mod arith;
mod crc;
pub mod engine;
pub mod image;
pub mod kernels;
pub mod link;
pub mod patch;
pub mod signature;
pub mod slot;
pub mod weights;

#[cfg(test)]
mod test_random;
