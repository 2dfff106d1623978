//! Kernels for Cortex-M processors, which give the bits of the portable ones in fewer instructions.
//!
//! - [`conv`]: convolution as a matrix product of weights and four columns of activations at a
//!   time, whose loops are in assembly: `dsp.s`, `thumb2.s`, `thumb1.s` and their neighbours for the instruction sets
//!   that `build.rs` names;
//! - [`columns`]: those columns;
//! - [`blocks`]: convolution with little memory, a block of the inputs at a time;
//! - [`depthwise`]: four channels at a time;
//! - [`fully_connected`]: a row at a time;
//! - [`record`]: an output channel's constants as those loops read them;
//! - [`unpack`]: rows that those loops do not read as they are.
//!
//! With `helium` the one place in this crate with `unsafe`. What makes it sound: the assembly reads and writes
//! only the ranges that its callers' comments name, and these are derived from slices whose lengths
//! are asserted against the shapes first.
#![allow(unsafe_code)]

mod blocks;
mod columns;
mod conv;
mod depthwise;
mod fully_connected;
mod record;
mod unpack;

#[cfg(qmend_kernels = "dsp")]
#[path = "dsp.rs"]
mod isa;
#[cfg(any(qmend_kernels = "thumb2", qmend_kernels = "thumb1"))]
#[path = "thumb.rs"]
mod isa;

use super::backend::{Kernels, Portable};
use super::conv2d::ConvParams;
use super::fully_connected::FullyConnectedParams;

/// Whether there is flash for more than convolutions of rows that the assembly reads as they lie. Else
/// other rows, and fully connected layers, are left to the portable kernels.
const ROOMY: bool = cfg!(feature = "fast");

/// Kernels for this Cortex-M.
#[derive(Clone, Copy, Debug)]
pub struct CortexM;

impl Kernels for CortexM {
    const NAME: &'static str = isa::NAME;

    fn conv2d(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]) {
        if !conv::conv2d(p, scratch, input, output) {
            Portable::conv2d(p, scratch, input, output);
        }
    }

    fn depthwise_conv2d(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]) {
        let done = depthwise::depthwise_conv2d(p, scratch, input, output)
            || ROOMY && depthwise::on_stack(p, input, output);
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
        // Its code is as large as a convolution's and saves less, so it is left out too.
        let done = ROOMY
            && (fully_connected::fully_connected(p, scratch, input, output)
                || fully_connected::on_stack(p, input, output));
        if !done {
            Portable::fully_connected(p, scratch, input, output);
        }
    }
}
