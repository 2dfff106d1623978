//! The range of every value of a float network, seen on calibration samples.
//!
//! Eight bits have to cover what a tensor really holds. [`calibrate`] runs the float network over
//! samples in batches (twice, for methods that need a histogram; memory does not grow with the
//! number of samples) and chooses a range per value by one of the [`Method`]s:
//!
//! - [`Method::MinMax`]: everything seen. Nothing is clipped; one outlier coarsens the rest.
//! - [`Method::Percentile`]: all but a small share at either end.
//! - [`Method::Mse`]: the range whose 256 levels have the least squared error.
//!
//! It also notes the mean of the inputs of every linear operator, which bias correction needs.

mod collect;
mod error;
mod histogram;
mod method;
mod mse;
mod percentile;

pub(crate) use collect::mean_samples;
pub use collect::{Calibration, MEAN_SAMPLES, Range, calibrate};
pub use error::CalibrateError;
pub use histogram::Histogram;
pub use method::Method;
