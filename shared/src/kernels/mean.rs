//! Mean over height and width, rescaled.
//!
//! `y[c] = clamp8(zy + M * sum over all positions of (x[.][.][c] - zx))` with
//! `M = sx / (sy * positions)`. The sum is at most positions * 255 in magnitude (the check proves
//! that it fits after a shift by M's exponent); one multiplication with two roundings.
//! Source: TFLite's int8 MEAN over space, with the division folded into the multiplier.

use crate::arith::Multiplier;
use crate::image::finish;

/// A mean over height and width.
#[derive(Clone, Copy, Debug)]
pub struct MeanParams {
    /// The input's zero point.
    pub input_zero_point: i8,
    /// The output's zero point.
    pub output_zero_point: i8,
    /// Input scale / (output scale * positions).
    pub multiplier: Multiplier,
}

impl MeanParams {
    /// The output for a channel whose inputs' distances from the zero point sum up to `sum`.
    #[inline(always)]
    pub fn output(&self, sum: i32) -> i8 {
        let scaled = self.multiplier.apply(sum);
        finish(scaled, self.output_zero_point, i8::MIN, i8::MAX)
    }
}

/// The mean of `output.len()` channels: see the module's head.
pub fn mean(p: &MeanParams, input: &[i8], output: &mut [i8]) {
    let channels = output.len();
    for (c, out) in output.iter_mut().enumerate() {
        let mut sum = 0i32;
        for &x in input[c..].iter().step_by(channels) {
            sum = sum.wrapping_add(x as i32 - p.input_zero_point as i32);
        }
        *out = p.output(sum);
    }
}
