//! Samples and labels, as they were in the files: no preprocessing has touched them.
//!
//! [`load`] reads whatever the path holds - NumPy (`.npz`, `.npy`), IDX, CSV, a folder of images -
//! and yields a [`Dataset`] in NHWC order or a [`DataError`] that says what to change.
//! A [`DataSpec`] is a path with an optional range of samples, so that one file can be cut into
//! disjoint calibration, repair, holdout and test sets.

mod array;
mod bytes;
mod csv;
mod dataset;
mod error;
mod folder;
mod identity;
mod idx;
mod inputs;
mod layout;
mod load;
mod npy;
mod npz;
mod options;

pub use dataset::{Dataset, Values};
pub use error::DataError;
pub use identity::{Overlap, overlap};
pub use idx::from_idx_bytes;
pub use load::{load, load_spec};
pub use npy::npy_bytes;
pub use options::{DataSpec, Labels, Layout, LoadOptions, Take};
