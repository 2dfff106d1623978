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

#[cfg(test)]
mod tests {
    use super::*;

    /// Inputs and outputs of the last layers of an image classifier and of two keyword spotters,
    /// as TFLM's reference kernels computed them.
    #[test]
    fn outputs_are_those_of_tflm() {
        check(
            1_476_210_432,
            &[
                [-22, -29, -6, -1, 10, -12, -8, -15, -44, -17],
                [-50, -12, -31, -10, -16, -28, -18, -32, -39, -15],
                [-1, -10, 3, -4, -17, 3, -19, -11, -1, -5],
                [18, 5, -1, -37, -12, -69, -61, -32, 8, -8],
            ],
            &[
                [-127, -128, -116, -99, 67, -124, -119, -125, -128, -126],
                [-128, -64, -126, -38, -96, -124, -105, -126, -127, -90],
                [-94, -121, -61, -108, -126, -61, -126, -122, -94, -111],
                [63, -108, -121, -128, -127, -128, -128, -128, -94, -126],
            ],
        );
        check(
            1_242_899_200,
            &[
                [7, 7, 9, 18, 2, -11, -3, -13, -2, 12, -40, 26],
                [22, 14, -8, 6, -18, -16, -31, -18, -13, 11, -45, 29],
            ],
            &[
                [
                    -119, -119, -115, -82, -123, -127, -126, -127, -125, -108, -128, 20,
                ],
                [
                    -70, -110, -127, -122, -128, -128, -128, -128, -128, -116, -128, 32,
                ],
            ],
        );
        check(
            1_221_296_640,
            &[
                [11, 11, 18, 15, 12, -6, -10, 24, 12, 21, -27, 31],
                [-23, 9, 16, 4, 17, -5, -10, 13, 33, 4, -9, 25],
            ],
            &[
                [
                    -121, -121, -109, -116, -120, -127, -128, -84, -120, -99, -128, -8,
                ],
                [
                    -128, -123, -114, -125, -112, -127, -128, -119, 28, -125, -128, -78,
                ],
            ],
        );
    }

    fn check<const N: usize, const ROWS: usize>(
        multiplier: i32,
        input: &[[i8; N]; ROWS],
        want: &[[i8; N]; ROWS],
    ) {
        let p = SoftmaxParams {
            channels: N,
            multiplier,
            left_shift: 24,
            diff_min: -124,
        };
        let mut got = [[0i8; N]; ROWS];
        softmax(&p, input.as_flattened(), got.as_flattened_mut());
        assert_eq!(got, *want);
    }

    #[test]
    fn many_equal_channels_share_nothing_and_do_not_overflow() {
        let p = SoftmaxParams {
            channels: 4095,
            multiplier: 1 << 30,
            left_shift: 24,
            diff_min: -124,
        };
        let mut out = [0i8; 4095];
        softmax(&p, &[5; 4095], &mut out);
        assert_eq!(out, [-128; 4095]);
        let two = SoftmaxParams { channels: 2, ..p };
        let mut out = [0i8; 2];
        softmax(&two, &[-128, -128], &mut out);
        assert_eq!(out, [0, 0]);
        softmax(&two, &[-128, 127], &mut out);
        assert_eq!(out, [-128, 127]);
    }
}
