//! Softmax over channels, integers only.
//!
//! For each position: `e[c] = exp(beta * s * (x[c] - max))` in 31 fraction bits for differences not
//! below `diff_min` (else the output is -128), their sum with 12 integer bits, its reciprocal by
//! Newton-Raphson, and `y[c] = -128 + round(256 * e[c] / sum)`, clamped. Output scale 1/256, zero
//! point -128. At most 4,095 channels, so that the sum fits.
//! Source: TFLite's int8 SOFTMAX as TFLM's reference kernel computes it.

use super::fixed_point::{exp_of_negative, reciprocal};
use crate::arith::{rounding_divide_by_pot, saturating_rounding_doubling_high_mul as mul};

/// Integer bits of the sum of exponentials.
const SUM_INTEGER_BITS: u32 = 12;

/// A softmax.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxParams {
    /// Channels of a position.
    pub channels: usize,
    /// Q31 mantissa that scales input differences.
    pub multiplier: i32,
    /// Left shift of the differences before they are scaled.
    pub left_shift: u32,
    /// Differences below this contribute nothing.
    pub diff_min: i32,
}

impl SoftmaxParams {
    /// The largest number of channels whose sum of exponentials fits.
    pub const MAX_CHANNELS: usize = (1 << SUM_INTEGER_BITS) - 1;

    /// exp of a difference to the maximum, no integer bits; `None` where it does not count.
    #[inline(always)]
    fn exp(&self, x: i8, max: i32) -> Option<i32> {
        let difference = x as i32 - max;
        (difference >= self.diff_min)
            .then(|| exp_of_negative::<5>(mul(difference << self.left_shift, self.multiplier)))
    }
}

/// Softmax of every position: see the module's head.
pub fn softmax(p: &SoftmaxParams, input: &[i8], output: &mut [i8]) {
    for (row, out) in input
        .chunks_exact(p.channels)
        .zip(output.chunks_exact_mut(p.channels))
    {
        let max = row.iter().fold(i8::MIN, |m, &x| m.max(x)) as i32;
        let mut sum = 0i32;
        for exp in row.iter().filter_map(|&x| p.exp(x, max)) {
            sum = sum.wrapping_add(rounding_divide_by_pot(exp, SUM_INTEGER_BITS));
        }
        let (scale, shift) = reciprocal(sum, SUM_INTEGER_BITS);
        // To 8 fraction bits from 31. From 32 on, less than a half is left, which rounds to zero
        // (TFLite's shift is not defined there; it takes 512 equal channels to get there).
        let shift = (shift + 31 - 8) as u32;
        for (out, &x) in out.iter_mut().zip(row) {
            *out = match p.exp(x, max) {
                Some(exp) if shift <= 31 => {
                    (rounding_divide_by_pot(mul(scale, exp), shift) - 128).clamp(-128, 127) as i8
                }
                _ => -128,
            };
        }
    }
}
