//! What can go wrong in the surrogate.

use crate::float::FloatError;

/// Why the integer network has no gradient.
#[derive(Debug, thiserror::Error)]
#[error("cannot differentiate the integer network: {0}")]
pub struct SurrogateError(#[from] pub FloatError);
