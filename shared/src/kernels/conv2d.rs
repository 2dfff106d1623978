//! Convolution.
//!
//! `y[oy][ox][oc] = clamp(zy + M[oc] * (bias[oc] + sum w[oc][ky][kx][ic] * (x[iy][ix][g + ic] - zx)))`
//! with `iy = oy * stride - pad + ky * dilation`, likewise `ix`, and `g` the first input channel of
//! `oc`'s group; positions outside the input contribute nothing, which is padding by the zero point.
//!
//! Input, output: HWC int8. Weights: one row per output channel, `[kh][kw][in_c / groups]`, 2 to 8
//! bits. Products are at most 128 * 255 in magnitude and are summed in 32 bits; the check proves
//! `|bias| + sum |w| * max |x - zx| < 2^31`. Scaling rounds twice ([`Multiplier::apply`]).
//! Source: the TFLite 8-bit quantization specification; Jacob et al., CVPR 2018.
//!
//! [`Multiplier::apply`]: crate::arith::Multiplier::apply

use super::Shape;
use super::window::Axis;
use crate::image::{Channels, Window};
#[cfg(feature = "fast")]
use crate::weights::Row;
use crate::weights::Rows;

/// Rows of at most this many weights are unpacked once per output channel, on the stack; longer
/// ones are unpacked on the fly at each position.
#[cfg(feature = "fast")]
const ROW_BUFFER: usize = 576;

/// A convolution, grouped or depthwise.
#[derive(Clone, Copy, Debug)]
pub struct ConvParams<'a> {
    /// Shape of the input.
    pub input: Shape,
    /// Shape of the output.
    pub output: Shape,
    /// The input's zero point.
    pub input_zero_point: i8,
    /// The window.
    pub window: Window,
    /// Groups of channels (a depthwise convolution ignores it).
    pub groups: usize,
    /// Packed weights.
    pub weights: Rows<'a>,
    /// Bias, multipliers, range.
    pub channels: Channels<'a>,
}

/// A convolution: see the module's head for formula and layout.
pub fn conv2d(p: &ConvParams, input: &[i8], output: &mut [i8]) {
    #[cfg(not(feature = "fast"))]
    for oc in 0..p.output[2] {
        channel(p, oc, &AnyRow(&p.weights, oc), input, output);
    }
    #[cfg(feature = "fast")]
    match p.weights.bits {
        2 => convolve::<2>(p, input, output),
        3 => convolve::<3>(p, input, output),
        4 => convolve::<4>(p, input, output),
        _ => convolve::<8>(p, input, output),
    }
}

#[cfg(feature = "fast")]
fn convolve<const BITS: u32>(p: &ConvParams, input: &[i8], output: &mut [i8]) {
    let mut buffer = [0i8; ROW_BUFFER];
    for oc in 0..p.output[2] {
        let row = p.weights.row::<BITS>(oc);
        match buffer.get_mut(..p.weights.columns) {
            Some(unpacked) => {
                row.decode(0, unpacked);
                channel(p, oc, &Unpacked(unpacked), input, output);
            }
            None => channel(p, oc, &row, input, output),
        }
    }
}

/// Something that can be multiplied with a run of inputs.
trait Weights {
    /// `sum of w[start + i] * (x[i] - zero_point)`
    fn dot(&self, start: usize, x: &[i8], zero_point: i32) -> i32;
}

/// A row of any width, unpacked at each position.
#[cfg(not(feature = "fast"))]
struct AnyRow<'a>(&'a Rows<'a>, usize);

#[cfg(not(feature = "fast"))]
impl Weights for AnyRow<'_> {
    #[inline(always)]
    fn dot(&self, start: usize, x: &[i8], zero_point: i32) -> i32 {
        self.0.dot(self.1, start, x, zero_point)
    }
}

#[cfg(feature = "fast")]
struct Unpacked<'a>(&'a [i8]);

#[cfg(feature = "fast")]
impl Weights for Unpacked<'_> {
    #[inline(always)]
    fn dot(&self, start: usize, x: &[i8], zero_point: i32) -> i32 {
        let w = &self.0[start..start + x.len()];
        w.iter().zip(x).fold(0i32, |acc, (&w, &x)| {
            acc.wrapping_add(w as i32 * (x as i32 - zero_point))
        })
    }
}

#[cfg(feature = "fast")]
impl<const BITS: u32> Weights for Row<'_, BITS> {
    #[inline(always)]
    fn dot(&self, start: usize, x: &[i8], zero_point: i32) -> i32 {
        Row::dot(self, start, x, zero_point)
    }
}

/// One output channel over all positions.
fn channel(p: &ConvParams, oc: usize, w: &impl Weights, input: &[i8], output: &mut [i8]) {
    let [in_h, in_w, in_c] = p.input;
    let [out_h, out_w, out_c] = p.output;
    debug_assert_eq!(input.len(), in_h * in_w * in_c);
    let per_group = in_c / p.groups;
    let first_channel = oc / (out_c / p.groups) * per_group;
    let [y, x] = Axis::of(&p.window, p.input);
    // With one group and no gaps between taps, the taps of a filter's row read one run of bytes.
    let runs = p.groups == 1 && x.dilation == 1;
    let zero_point = p.input_zero_point as i32;
    let bias = p.channels.bias(oc);
    let multiplier = p.channels.multiplier(oc);
    let mut at = oc;
    for oy in 0..out_h {
        let ys = y.taps(oy);
        for ox in 0..out_w {
            let xs = x.taps(ox);
            let mut acc = bias;
            for ky in 0..ys.count() {
                let position = (ys.first + ky * y.dilation) * in_w + xs.first;
                let mut tap = ((ys.from + ky) * x.kernel + xs.from) * per_group;
                if runs {
                    let run = &input[position * in_c..(position + xs.count()) * in_c];
                    acc = acc.wrapping_add(w.dot(tap, run, zero_point));
                    continue;
                }
                for kx in 0..xs.count() {
                    let from = (position + kx * x.dilation) * in_c + first_channel;
                    let run = &input[from..from + per_group];
                    acc = acc.wrapping_add(w.dot(tap, run, zero_point));
                    tap += per_group;
                }
            }
            output[at] = p.channels.finish(multiplier.apply(acc));
            at += out_c;
        }
    }
}
