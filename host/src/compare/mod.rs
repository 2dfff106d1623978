//! Where an integer model leaves its float original, and where two ways to compute it part.
//!
//! - [`LayerComparison`]: every tensor that both networks have, by signal-to-quantization-noise
//!   ratio, cosine similarity, saturation, sign and largest error; [`plot`] draws it.
//! - [`RuleComparison`]: one integer model under two rounding rules, the engine's own and one of
//!   [`Against`]. [`xnnpack`] is the model of what a desktop computes.

mod against;
mod layers;
mod metrics;
mod plot;
mod tensors;
pub mod xnnpack;

pub use against::{Against, RuleComparison, RuleReport, TensorDifference};
pub use layers::{CompareError, LayerComparison, LayerReport, Layers};
pub use metrics::{Decibels, Metrics};
pub use plot::plot;
pub use tensors::{Matched, matched_tensors};
