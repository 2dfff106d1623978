//! Elementary functions on fixed-point numbers: exp of negative values and 1 / (1 + x).
//!
//! A number with `i` integer bits is `raw / 2^(31 - i)`. Multiplying numbers with `i` and `j`
//! integer bits by the rounding doubling high multiply gives one with `i + j`.
//! Source of the algorithms and constants: gemmlowp's fixed-point library, as TFLite uses it.

use crate::arith::{rounding_divide_by_pot, saturating_rounding_doubling_high_mul as mul};

/// `x * 2^shift`, saturating.
#[inline]
pub const fn saturating_shift_left(x: i32, shift: u32) -> i32 {
    let limit = (1i32 << (31 - shift)) - 1;
    if x > limit {
        i32::MAX
    } else if x < -limit {
        i32::MIN
    } else {
        x << shift
    }
}

/// exp(x) for x in [-1/4, 0), no integer bits in and out: the Taylor polynomial of degree 4
/// around -1/8.
const fn exp_near_zero(a: i32) -> i32 {
    /// exp(-1/8)
    const EXP_MINUS_EIGHTH: i32 = 1_895_147_668;
    const THIRD: i32 = 715_827_883;
    let x = a + (1 << 28);
    let x2 = mul(x, x);
    let x3 = mul(x2, x);
    let x4 = mul(x2, x2);
    let x4_over_4 = rounding_divide_by_pot(x4, 2);
    let higher = rounding_divide_by_pot(mul(x4_over_4 + x3, THIRD) + x2, 1);
    EXP_MINUS_EIGHTH + mul(EXP_MINUS_EIGHTH, x + higher)
}

/// exp(x) for x <= 0 with `INTEGER_BITS` integer bits, at most 5; the result has none, and is
/// `i32::MAX` for x = 0.
pub const fn exp_of_negative<const INTEGER_BITS: u32>(a: i32) -> i32 {
    const { assert!(INTEGER_BITS <= 5) };
    let fraction_bits = 31 - INTEGER_BITS;
    let quarter = 1 << (fraction_bits - 2);
    /// exp(-2^(k - 2)) for bit k of the number of quarters.
    const FACTORS: [i32; 7] = [
        1_672_461_947,
        1_302_514_674,
        790_015_084,
        290_630_308,
        39_332_535,
        720_401,
        242,
    ];
    if a == 0 {
        return i32::MAX;
    }
    let within = (a & (quarter - 1)) - quarter;
    let mut result = exp_near_zero(saturating_shift_left(within, INTEGER_BITS));
    let quarters = within.wrapping_sub(a);
    let mut k = 0;
    // Bits for powers of two that the number's integer bits cannot hold do not exist.
    while k < INTEGER_BITS as usize + 2 {
        if quarters & (1 << (fraction_bits - 2 + k as u32)) != 0 {
            result = mul(result, FACTORS[k]);
        }
        k += 1;
    }
    result
}

/// One as a number with 2 integer bits.
const ONE_2: i32 = 1 << 29;

/// 2 / (1 + x) for x in [0, 1) without integer bits; the result has 2. Three Newton-Raphson steps.
const fn two_over_one_plus(a: i32) -> i32 {
    const C_48_OVER_17: i32 = 1_515_870_810;
    const C_MINUS_32_OVER_17: i32 = -1_010_580_540;
    // (a + 1) / 2, rounded; one is i32::MAX.
    let half_denominator = ((a as i64 + i32::MAX as i64 + 1) / 2) as i32;
    let mut x = C_48_OVER_17 + mul(half_denominator, C_MINUS_32_OVER_17);
    let mut step = 0;
    while step < 3 {
        let error = ONE_2 - mul(half_denominator, x);
        x += saturating_shift_left(mul(x, error), 2);
        step += 1;
    }
    x
}

/// 1 / (1 + x) for x in [0, 1), no integer bits in and out.
pub const fn one_over_one_plus(a: i32) -> i32 {
    // Halving a number with 2 integer bits is reading it as one with 1.
    saturating_shift_left(two_over_one_plus(a), 1)
}

/// (1 - x) / (1 + x) for x in [0, 1), no integer bits in and out.
pub const fn one_minus_over_one_plus(a: i32) -> i32 {
    saturating_shift_left(two_over_one_plus(a) - ONE_2, 2)
}

/// The reciprocal of a positive number with `integer_bits` integer bits: mantissa without integer
/// bits, and the right shift that belongs to it.
pub const fn reciprocal(x: i32, integer_bits: u32) -> (i32, i32) {
    let headroom = x.leading_zeros();
    let fraction = (x as u32).wrapping_shl(headroom).wrapping_sub(1 << 31) as i32;
    (
        one_over_one_plus(fraction),
        integer_bits as i32 - headroom as i32,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_within_two_in_a_million_of_the_real_one() {
        // Test-only float: the library has none.
        for i in 0..20_000i64 {
            let raw = -(i * 107_371) as i32;
            let want = libm_exp(raw as f64 / (1u64 << 26) as f64);
            let got = exp_of_negative::<5>(raw) as f64 / (1u64 << 31) as f64;
            assert!(
                (want - got).abs() < 2e-6,
                "exp({raw} / 2^26): {got} instead of {want}"
            );
        }
    }

    #[test]
    fn the_reciprocal_is_within_one_in_a_hundred_million() {
        for i in 0..20_000i64 {
            let raw = (i * 107_374) as i32;
            let want = 1.0 / (1.0 + raw as f64 / (1u64 << 31) as f64);
            let got = one_over_one_plus(raw) as f64 / (1u64 << 31) as f64;
            assert!(
                (want - got).abs() < 1e-8,
                "1 / (1 + {raw} / 2^31): {got} instead of {want}"
            );
        }
    }

    #[test]
    fn the_ends_of_the_ranges_do_not_overflow() {
        assert_eq!(exp_of_negative::<5>(0), i32::MAX);
        assert!(exp_of_negative::<5>(-1) > i32::MAX - (1 << 10));
        assert_eq!(exp_of_negative::<5>(i32::MIN), 0);
        assert_eq!(one_over_one_plus(0), i32::MAX);
        assert!((one_over_one_plus(i32::MAX) - (1 << 30)).abs() < 16);
        for depth in 1..4096 {
            let (_, shift) = reciprocal(depth << 19, 12);
            assert!((0..12).contains(&shift));
        }
    }

    fn libm_exp(x: f64) -> f64 {
        extern crate std;
        x.exp()
    }
}
