//! Kernels, one operator a file. Tensors are HWC int8, the batch is one.
//!
//! The functions here are portable and define every bit. Operators with weights have faster
//! implementations for some processors behind [`Kernels`]; [`Native`] names this processor's.
//!
//! A kernel trusts its arguments as far as shapes go: [`crate::engine`] calls it only for
//! operators of a checked image. Slices of another length than the shapes say lead to a panic or a
//! wrong result, never to anything unsafe. Sums wrap: the check has proved that they fit.

mod add;
mod average_pool;
mod backend;
mod concat;
mod conv2d;
#[cfg(any(
    qmend_kernels = "dsp",
    qmend_kernels = "thumb2",
    qmend_kernels = "thumb1"
))]
mod cortex_m;
mod depthwise_conv2d;
mod elementwise;
pub mod fixed_point;
mod fully_connected;
#[cfg(qmend_kernels = "helium")]
mod helium;
mod lut;
mod max_pool;
mod mean;
mod pad;
mod requantize;
mod reshape;
mod resize_nearest;
#[cfg(not(qmend_kernels = "portable"))]
mod runs;
mod scratch;
mod softmax;
mod transpose;
mod window;

pub use add::{AddParams, add};
pub use average_pool::average_pool;
pub use backend::{Kernels, Native, Portable};
pub use concat::{ConcatPart, concat_part};
pub use conv2d::{ConvParams, conv2d};
pub use depthwise_conv2d::depthwise_conv2d;
pub use elementwise::{Elements, MulParams, Source, SubParams, elementwise};
pub use fully_connected::{FullyConnectedParams, fully_connected};
pub use lut::{lut, lut_in_place};
pub use max_pool::max_pool;
pub use mean::{MeanParams, mean};
pub use pad::{PadParams, pad};
pub use requantize::RequantizeParams;
pub use reshape::reshape;
pub use resize_nearest::resize_nearest;
pub use scratch::{conv2d_scratch_bytes, depthwise_scratch_bytes, fully_connected_scratch_bytes};
pub use softmax::{SoftmaxParams, softmax};
pub use transpose::transpose;
pub use window::{Axis, PoolParams, Taps};

/// Height, width, channels.
pub type Shape = [usize; 3];

/// A tensor record's shape.
pub(crate) fn shape(s: [u16; 3]) -> Shape {
    s.map(|d| d as usize)
}
