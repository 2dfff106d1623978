//! Fully connected layer.
//!
//! `y[o] = clamp(zy + M[o] * (bias[o] + sum w[o][i] * (x[i] - zx)))` over the input in HWC order.
//!
//! Weights: one row per output, 2 to 8 bits. Products and sums as in [`super::conv2d`]. This is the
//! one operator in which the rounding rules differ: TFLM rounds twice, LiteRT's reference kernel
//! once in 64 bits. Source: the TFLite 8-bit quantization specification and both kernels.

use crate::arith::Rounding;
use crate::image::Channels;
use crate::weights::Rows;

/// A fully connected layer.
#[derive(Clone, Copy, Debug)]
pub struct FullyConnectedParams<'a> {
    /// The input's zero point.
    pub input_zero_point: i8,
    /// Which rounding rule.
    pub rounding: Rounding,
    /// Packed weights.
    pub weights: Rows<'a>,
    /// Bias, multipliers, range.
    pub channels: Channels<'a>,
}

/// A fully connected layer: see the module's head for the formula.
pub fn fully_connected(p: &FullyConnectedParams, input: &[i8], output: &mut [i8]) {
    let zero_point = p.input_zero_point as i32;
    #[cfg(not(feature = "fast"))]
    connect(p, |o| p.weights.dot(o, 0, input, zero_point), output);
    #[cfg(feature = "fast")]
    match p.weights.bits {
        2 => connect(p, dot::<2>(p, input, zero_point), output),
        3 => connect(p, dot::<3>(p, input, zero_point), output),
        4 => connect(p, dot::<4>(p, input, zero_point), output),
        _ => connect(p, dot::<8>(p, input, zero_point), output),
    }
}

#[cfg(feature = "fast")]
fn dot<const BITS: u32>(
    p: &FullyConnectedParams,
    input: &[i8],
    zero_point: i32,
) -> impl Fn(usize) -> i32 {
    move |o| p.weights.row::<BITS>(o).dot(0, input, zero_point)
}

fn connect(p: &FullyConnectedParams, dot: impl Fn(usize) -> i32, output: &mut [i8]) {
    for (o, out) in output.iter_mut().enumerate() {
        let dot = dot(o);
        let acc = p.channels.bias(o).wrapping_add(dot);
        let multiplier = p.channels.multiplier(o);
        let scaled = match p.rounding {
            Rounding::Tflm => multiplier.apply(acc),
            Rounding::LiteRtReference => multiplier.apply_single_rounding(acc),
        };
        *out = p.channels.finish(scaled);
    }
}
