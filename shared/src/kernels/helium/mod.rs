//! Kernels for Cortex-M processors with the vector extension (Helium: M55, M85), which give the bits of
//! the portable ones in fewer instructions. Integer instructions of the extension only.
//!
//! - [`conv`]: convolution as a matrix product of rows of weights and three columns of activations;
//! - [`blocks`]: convolution with little memory, a block of the inputs at a time;
//! - [`depthwise`]: eight channels at a time;
//! - [`fully_connected`]: three or four rows at a time;
//! - [`rows`]: weights as the loops read them, and how columns go with them;
//! - [`scale`]: sums to outputs, four channels at a time;
//! - [`isa`]: the assembly, `helium.s`, and its arguments.
//!
//! With `cortex_m` the one place in this crate with `unsafe`, and sound for the same reason: the assembly
//! reads and writes only the ranges that its callers' comments name, and these are derived from slices
//! whose lengths are asserted against the shapes first.
#![allow(unsafe_code)]

mod blocks;
mod conv;
mod depthwise;
mod fully_connected;
mod isa;
mod rows;
mod scale;

use super::backend::{Kernels, Portable};
use super::conv2d::ConvParams;
use super::fully_connected::FullyConnectedParams;

/// Kernels for a Cortex-M with Helium.
#[derive(Clone, Copy, Debug)]
pub struct Helium;

impl Kernels for Helium {
    const NAME: &'static str = "Cortex-M with Helium";

    fn conv2d(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]) {
        conv::conv2d(p, scratch, input, output);
    }

    fn depthwise_conv2d(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]) {
        let done = depthwise::depthwise_conv2d(p, scratch, input, output)
            || depthwise::on_stack(p, input, output);
        if !done {
            Portable::depthwise_conv2d(p, scratch, input, output);
        }
    }

    fn fully_connected(
        p: &FullyConnectedParams,
        scratch: &mut [i8],
        input: &[i8],
        output: &mut [i8],
    ) {
        if !fully_connected::fully_connected(p, scratch, input, output) {
            Portable::fully_connected(p, scratch, input, output);
        }
    }
}
