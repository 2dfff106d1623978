//! Loops written for AVX-512 with VNNI: the integers of the plain ones.
//!
//! - [`product`]: convolutions and fully connected layers.
//! - [`depthwise`]: a row of a depthwise convolution.
//! - [`add`]: element-wise sums.
//! - [`scale`]: from accumulators to int8.

pub(super) mod add;
pub(super) mod depthwise;
pub(super) mod product;
mod scale;

/// Accumulators of a vector.
pub(super) const LANES: usize = 16;

/// Bytes of a vector.
pub(super) const BLOCK: usize = 64;

/// Taps whose products one instruction sums.
pub(super) const GROUP: usize = 4;
