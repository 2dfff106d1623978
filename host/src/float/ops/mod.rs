//! Operators on `[n, c, h, w]` tensors, for the float network and for the surrogate alike.

mod activation;
mod conv;
mod fully_connected;
mod pool;
mod shape;

pub(super) use activation::{activate, softmax};
pub(super) use conv::{ConvGeometry, conv2d};
pub(super) use fully_connected::{flatten_weights, fully_connected};
pub(super) use pool::{PoolGeometry, average_pool, average_pool_factor, global_average, max_pool};
pub(super) use shape::{concat, pad, reshape, transpose};
