//! From the float network and its calibration to the integer network.
//!
//! Nodes are taken in execution order. Each tensor has got its scale from the calibration; a
//! linear node's weights get scales per output channel ([`Scales`]), are rounded
//! ([`WeightRounding`]) and, on request, its biases corrected, with the *integer* network's own
//! inputs, so that what earlier layers lost is seen by later ones. The result is checked by
//! [`crate::engine::Engine::new`]: no accumulator of it can overflow.
//!
//! - [`quantize`]: the whole road, settings in [`QuantizeConfig`].
//! - [`quantize_multiplier`], [`TensorScale`]: real numbers to the fixed-point ones of the model.

mod bias_correction;
mod build;
mod config;
mod error;
mod linear;
mod multiplier;
pub(crate) mod ops;
mod patches;
mod rounding;
mod scales;
mod tensors;

pub use build::quantize;
pub use config::{QuantizeConfig, Scales, WeightRounding};
pub use error::QuantizeError;
pub use multiplier::{mean_multiplier, quantize_multiplier, scaled_multiplier};
pub use tensors::TensorScale;

#[cfg(test)]
mod tests;
