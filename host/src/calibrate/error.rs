//! What can go wrong in calibration.

use crate::float::FloatError;

/// Why a network could not be calibrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CalibrateError {
    /// There is nothing to look at.
    #[error(
        "no calibration samples; give at least one, better a few hundred that look like real inputs"
    )]
    NoSamples,
    /// The samples do not fill a whole number of inputs.
    #[error("{got} calibration values are not a whole number of inputs of shape {shape:?}")]
    Length {
        /// Number of values.
        got: usize,
        /// The network's input.
        shape: [usize; 3],
    },
    /// A value became infinite or not a number.
    #[error(
        "value '{value}' holds {found} on a calibration sample; look for bad samples, wrong preprocessing or \
         damaged weights"
    )]
    NotFinite {
        /// The value's name.
        value: String,
        /// What was found.
        found: f32,
    },
    /// The method's name is not known.
    #[error(
        "unknown calibration method '{0}'; there are minmax, percentile, percentile:99.99 and mse"
    )]
    UnknownMethod(String),
    /// The float network failed.
    #[error("the float network failed on the calibration samples")]
    Float(#[from] FloatError),
}
