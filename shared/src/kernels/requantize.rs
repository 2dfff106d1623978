//! The same values under another scale and zero point.
//!
//! `y = clamp8(zy + M * (x - zx))` with `M = sx / sy`, rounding twice. The check proves that 255
//! shifted by M's exponent fits in 32 bits. Source: TFLite's int8 QUANTIZE.

use crate::arith::Multiplier;
use crate::image::finish;

/// A change of scale.
#[derive(Clone, Copy, Debug)]
pub struct RequantizeParams {
    /// The input's zero point.
    pub input_zero_point: i8,
    /// The output's zero point.
    pub output_zero_point: i8,
    /// Input scale / output scale.
    pub multiplier: Multiplier,
}

impl RequantizeParams {
    /// One element under the new scale.
    #[inline(always)]
    pub fn apply(&self, x: i8) -> i8 {
        let difference = x as i32 - self.input_zero_point as i32;
        finish(
            self.multiplier.apply(difference),
            self.output_zero_point,
            i8::MIN,
            i8::MAX,
        )
    }
}
