//! Depthwise convolution.
//!
//! `y[oy][ox][oc] = clamp(zy + M[oc] * (bias[oc] + sum w[ky][kx][oc] * (x[iy][ix][oc / m] - zx)))`
//! with `m = out_c / in_c` outputs per input channel and positions as in [`super::conv2d`].
//!
//! Input, output: HWC int8. Weights: one row per filter position, `[kh * kw][out_c]`, 2 to 8 bits.
//! Integer widths, accumulator bound, rounding and source are those of [`super::conv2d`].

use super::conv2d::ConvParams;
use super::window::{Axis, Taps};

/// Output channels that are computed together; a multiple of eight starts at a whole byte at every
/// width.
const LANES: usize = 8;

/// Filters of at most this many taps are unpacked once per group of [`LANES`] channels, on the
/// stack; larger ones at each position.
#[cfg(feature = "fast")]
const TAP_BUFFER: usize = 64;

/// A depthwise convolution: see the module's head for formula and layout.
pub fn depthwise_conv2d(p: &ConvParams, input: &[i8], output: &mut [i8]) {
    channels_from(p, 0, input, output);
}

/// Output channels from `start` on.
pub(super) fn channels_from(p: &ConvParams, start: usize, input: &[i8], output: &mut [i8]) {
    let out_c = p.output[2];
    #[cfg(feature = "fast")]
    let taps = p.window.kernel[0] as usize * p.window.kernel[1] as usize;
    #[cfg(feature = "fast")]
    let mut buffer = [[0i8; LANES]; TAP_BUFFER];
    for first in (start..out_c).step_by(LANES) {
        let lanes = LANES.min(out_c - first);
        let unpack = |tap: usize| {
            let mut w = [0i8; LANES];
            p.weights.decode(tap, first, &mut w[..lanes]);
            w
        };
        // Unpacked at each position, always or where there are too many.
        #[cfg(not(feature = "fast"))]
        channels(p, first..first + lanes, unpack, input, output);
        #[cfg(feature = "fast")]
        match buffer.get_mut(..taps) {
            Some(buffer) => {
                for (tap, w) in buffer.iter_mut().enumerate() {
                    *w = unpack(tap);
                }
                channels(p, first..first + lanes, |tap| buffer[tap], input, output);
            }
            None => channels(p, first..first + lanes, unpack, input, output),
        }
    }
}

/// At most [`LANES`] output channels over all positions.
fn channels(
    p: &ConvParams,
    range: core::ops::Range<usize>,
    weights: impl Fn(usize) -> [i8; LANES],
    input: &[i8],
    output: &mut [i8],
) {
    let [_, in_w, in_c] = p.input;
    let [out_h, out_w, out_c] = p.output;
    let [y, x] = Axis::of(&p.window, p.input);
    let zero_point = p.input_zero_point as i32;
    let lanes = range.len();
    let per_input = out_c / in_c;
    let mut bias = [0i32; LANES];
    let mut source = [0usize; LANES];
    for (lane, oc) in range.clone().enumerate() {
        bias[lane] = p.channels.bias(oc);
        source[lane] = oc / per_input;
    }
    for oy in 0..out_h {
        let ys: Taps = y.taps(oy);
        for ox in 0..out_w {
            let xs = x.taps(ox);
            let mut acc = bias;
            for ky in 0..ys.count() {
                let row = (ys.first + ky * y.dilation) * in_w + xs.first;
                let tap = (ys.from + ky) * x.kernel + xs.from;
                for kx in 0..xs.count() {
                    let w = weights(tap + kx);
                    let from = (row + kx * x.dilation) * in_c;
                    let pixel = &input[from..from + in_c];
                    for lane in 0..lanes {
                        let x = pixel[source[lane]] as i32 - zero_point;
                        acc[lane] = acc[lane].wrapping_add(w[lane] as i32 * x);
                    }
                }
            }
            let at = (oy * out_w + ox) * out_c + range.start;
            for (lane, out) in output[at..at + lanes].iter_mut().enumerate() {
                let multiplier = p.channels.multiplier(range.start + lane);
                *out = p.channels.finish(multiplier.apply(acc[lane]));
            }
        }
    }
}
