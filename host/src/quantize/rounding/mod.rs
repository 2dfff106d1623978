//! How real weights become levels, one method a file.
//!
//! All methods get the same problem: rows of weights in units of their scale, and the smallest and
//! largest level. Methods that look at data also get the second moments of the integer inputs.

mod adaround;
mod coordinate;
mod gptq;
mod hessian;
mod nearest;
mod squant;

pub(super) use hessian::Samples;

use super::WeightRounding;
use super::patches::Filter;

/// One layer's weights to round.
pub(super) struct Problem<'a> {
    pub filter: &'a Filter,
    /// `[out_c][taps]`, divided by their channel's scale.
    pub weights: &'a [f64],
    /// Smallest and largest level.
    pub lattice: (i8, i8),
    /// The layer's integer inputs, where the method needs them.
    pub samples: Option<&'a Samples<'a>>,
    /// Whether the bias will be chosen to take back the mean error.
    pub free_bias: bool,
    /// Real value of a unit of each channel's accumulator.
    pub units: &'a [f64],
    /// Real biases.
    pub bias: &'a [f64],
    /// Least and greatest real output (the fused activation).
    pub clamp: (f32, f32),
}

impl Problem<'_> {
    fn level(&self, w: f64) -> f64 {
        w.round()
            .clamp(self.lattice.0 as f64, self.lattice.1 as f64)
    }
}

/// Levels, `[out_c][taps]`.
pub(super) fn round(method: WeightRounding, problem: &Problem) -> Vec<i8> {
    match method {
        WeightRounding::Nearest => nearest::round(problem),
        WeightRounding::Squant => squant::round(problem),
        WeightRounding::Gptq => gptq::round(problem),
        WeightRounding::AdaRound => adaround::round(problem),
        WeightRounding::Coordinate => coordinate::round(problem),
    }
}

/// Whether a method looks at samples.
pub(super) fn needs_samples(method: WeightRounding) -> bool {
    matches!(
        method,
        WeightRounding::Gptq | WeightRounding::AdaRound | WeightRounding::Coordinate
    )
}
