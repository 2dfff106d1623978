//! Which kernels run the operators with weights.
//!
//! [`Portable`] is the definition of every bit; [`Native`] is the fastest that there is for the
//! processor that the program is compiled for, and gives the same bits.

use super::conv2d::ConvParams;
use super::fully_connected::FullyConnectedParams;

/// The operators of which there is more than one implementation.
pub trait Kernels {
    /// The implementation's name, for people.
    const NAME: &'static str;

    /// A convolution. `scratch` is working memory of any length and content; with at least
    /// [`super::conv2d_scratch_bytes`] an implementation may be faster.
    fn conv2d(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]);

    /// A depthwise convolution; `scratch` as in [`Self::conv2d`], see
    /// [`super::depthwise_scratch_bytes`].
    fn depthwise_conv2d(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]);

    /// A fully connected layer; `scratch` as in [`Self::conv2d`], see
    /// [`super::fully_connected_scratch_bytes`].
    fn fully_connected(
        p: &FullyConnectedParams,
        scratch: &mut [i8],
        input: &[i8],
        output: &mut [i8],
    );
}

/// The portable kernels.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

impl Kernels for Portable {
    const NAME: &'static str = "portable";

    fn conv2d(p: &ConvParams, _: &mut [i8], input: &[i8], output: &mut [i8]) {
        super::conv2d(p, input, output);
    }

    fn depthwise_conv2d(p: &ConvParams, _: &mut [i8], input: &[i8], output: &mut [i8]) {
        super::depthwise_conv2d(p, input, output);
    }

    fn fully_connected(p: &FullyConnectedParams, _: &mut [i8], input: &[i8], output: &mut [i8]) {
        super::fully_connected(p, input, output);
    }
}

/// The kernels for this processor.
#[cfg(qmend_kernels = "portable")]
pub type Native = Portable;
#[cfg(any(
    qmend_kernels = "dsp",
    qmend_kernels = "thumb2",
    qmend_kernels = "thumb1"
))]
pub use super::cortex_m::CortexM as Native;
#[cfg(qmend_kernels = "helium")]
pub use super::helium::Helium as Native;
