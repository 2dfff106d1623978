//! The float reference and the gradients through the integer network, both in Burn.
//!
//! Nothing outside this folder names a Burn type: samples go in and come out as `f32` slices in
//! NHWC order. Inside, activations are NCHW, which is what Burn's convolutions take.
//!
//! - [`FloatNet`] runs a [`crate::graph::Graph`] and gives any of its values.
//! - [`Surrogate`] gives, per sample, the straight-through gradient of a tensor of a
//!   [`crate::model::QuantizedModel`] with respect to every pre-activation.

mod backend;
mod check;
mod error;
mod kernel;
mod layout;
mod net;
mod ops;
mod surrogate;

#[cfg(test)]
mod golden_tests;
#[cfg(test)]
mod naive;
#[cfg(test)]
mod net_tests;

pub use backend::Backend;
pub use error::FloatError;
pub use net::FloatNet;
pub use surrogate::{Seeds, Surrogate};
