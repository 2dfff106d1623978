//! Element-wise sum.
//!
//! `y = clamp(zy + My * (Ma * ((a - za) << 20) + Mb * ((b - zb) << 20)))`, each `M *` rounding
//! twice. Differences are at most 255, so shifted ones are below 2^28; multipliers are at most one,
//! so the sum is at most 2^29 in magnitude. Source: TFLite's int8 ADD.

use crate::arith::Multiplier;
use crate::image::finish;

/// How far both addends are shifted left before they are scaled.
const LEFT_SHIFT: u32 = 20;

/// An element-wise sum.
#[derive(Clone, Copy, Debug)]
pub struct AddParams {
    /// Zero points of the addends.
    pub input_zero_points: [i8; 2],
    /// Zero point of the sum.
    pub output_zero_point: i8,
    /// Multipliers of the addends, exponents not above 0.
    pub input_multipliers: [Multiplier; 2],
    /// Multiplier of the sum, exponent not above 0.
    pub output_multiplier: Multiplier,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

impl AddParams {
    /// The sum of one pair of elements.
    #[cfg_attr(feature = "fast", inline(always))]
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub fn apply(&self, a: i8, b: i8) -> i8 {
        let scaled = |x: i8, i: usize| {
            let difference = x as i32 - self.input_zero_points[i] as i32;
            self.input_multipliers[i].apply(difference << LEFT_SHIFT)
        };
        let sum = self
            .output_multiplier
            .apply(scaled(a, 0).wrapping_add(scaled(b, 1)));
        finish(sum, self.output_zero_point, self.act_min, self.act_max)
    }
}

/// Sums of all pairs. (In place is [`AddParams::apply`] over the elements.)
pub fn add(p: &AddParams, a: &[i8], b: &[i8], output: &mut [i8]) {
    for ((&a, &b), out) in a.iter().zip(b).zip(output) {
        *out = p.apply(a, b);
    }
}
