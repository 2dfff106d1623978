//! The integer network on the host, many samples at once, bit for bit as the device computes it.
//!
//! The device's own engine (`qmend_shared::engine`) runs here as well, but repair evaluates
//! thousands of samples dozens of times, so this one is built for throughput: samples go through
//! in chunks that stay in cache, chunks go to all cores, and the multiply-accumulate loops use
//! whatever vector unit the machine has. Accumulation is written twice (a sum of integers below 2^31
//! has one value in any order), and where there is AVX-512 with VNNI, scaling and sums of two
//! tensors are as well; every other rounding, clamp and non-linear operator is `qmend_shared`'s code.
//!
//! - [`Engine`]: a network prepared for running; [`Engine::update_node`] follows an edit.
//! - [`Activations`]: every tensor of a batch, from which a run can be resumed at any node.
//! - [`accumulator_bound`]: the proof that a channel cannot overflow.
//! - [`Intervals`]: what tensors can be for all inputs in a box.

// What only the loops for x86-64 use is kept on other processors, where nothing calls it.
#![cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]

mod activations;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod bound;
mod check;
mod conv;
mod depthwise;
#[cfg(target_arch = "x86_64")]
mod depthwise_flat;
mod error;
mod interval;
mod isa;
mod net;
mod plane;
mod pool;
mod requant;
mod shared_op;
mod step;
mod tile;

pub use activations::{Activations, Rewind};
pub use bound::{accumulator_bound, check_channel};
pub use error::EngineError;
pub use interval::{Interval, Intervals};
pub use isa::Isa;
pub use net::{Engine, node_accumulators, run_node};

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
