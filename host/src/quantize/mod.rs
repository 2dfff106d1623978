//! From the float network and its calibration to the integer network.
//!
//! Nodes are taken in execution order. Each tensor has got its scale from the calibration; a
//! linear node's weights get scales per output channel ([`Scales`]), are rounded
//! ([`WeightRounding`]) and, on request, its biases corrected, with the *integer* network's own
//! inputs, so that what earlier layers lost is seen by later ones. The result is checked by
//! [`crate::engine::Engine::new`]: no accumulator of it can overflow.
//!
//! - [`quantize_multiplier`], [`TensorScale`]: real numbers to the fixed-point ones of the model.

mod config;
mod error;
mod multiplier;
mod scales;
mod tensors;

pub use config::{QuantizeConfig, Scales, WeightRounding};
pub use error::QuantizeError;
pub use multiplier::quantize_multiplier;
pub use tensors::TensorScale;
