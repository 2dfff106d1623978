//! Fixed-point arithmetic: the one place where a real multiplier meets an integer accumulator.
//!
//! Everything here follows the int8 specification of TFLite as the reference kernels of
//! TensorFlow Lite for Microcontrollers compute it, which in turn is gemmlowp's
//! `SaturatingRoundingDoublingHighMul` followed by `RoundingDivideByPOT`.

use serde::{Deserialize, Serialize};

/// How a scaled accumulator is rounded. Named in every image, so that an image keeps giving the
/// bits it was made for when another rule is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Rounding {
    /// TFLM: gemmlowp's two roundings (high multiply, then shift) in every operator.
    Tflm,
    /// LiteRT's reference kernels: as [`Rounding::Tflm`], but fully connected layers round once.
    LiteRtReference,
}

impl Rounding {
    /// The tag in an image's header.
    pub const fn tag(self) -> u8 {
        match self {
            Rounding::Tflm => 1,
            Rounding::LiteRtReference => 2,
        }
    }

    /// The rule that a header's tag names, if this version knows it.
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            1 => Some(Rounding::Tflm),
            2 => Some(Rounding::LiteRtReference),
            _ => None,
        }
    }
}

/// A non-negative real multiplier `mantissa * 2^(exponent - 31)`.
///
/// `mantissa` is zero or in `[2^30, 2^31)`, so the value is in `[2^(exponent-1), 2^exponent)`.
/// `exponent` is in `-31..=30`; anything smaller is the zero multiplier, because real models have
/// such dead channels and a shift by more than 31 is not defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Multiplier {
    /// Q31 mantissa: 0, or at least 2^30.
    pub mantissa: i32,
    /// Power of two; positive shifts left.
    pub exponent: i8,
}

impl Multiplier {
    /// The multiplier of a channel that always gives the zero point.
    pub const ZERO: Self = Self {
        mantissa: 0,
        exponent: 0,
    };

    /// Whether the fields are in the ranges that the type promises (untrusted bytes are asked).
    pub const fn is_valid(self) -> bool {
        (self.mantissa == 0 || self.mantissa >= 1 << 30)
            && self.exponent >= -31
            && self.exponent <= 30
    }

    /// Whether it scales as [`Self::is_valid`] ones do but for a mantissa that may be any
    /// non-negative number: TFLite's MEAN divides the mantissa, and normalizing the quotient would
    /// round otherwise.
    pub const fn is_valid_quotient(self) -> bool {
        self.mantissa >= 0 && self.exponent >= -31 && self.exponent <= 30
    }

    /// Scales an accumulator with gemmlowp's double rounding ([`Rounding::Tflm`]).
    #[cfg_attr(feature = "fast", inline(always))]
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub const fn apply(self, acc: i32) -> i32 {
        let left = if self.exponent > 0 {
            self.exponent as u32
        } else {
            0
        };
        let right = if self.exponent > 0 {
            0
        } else {
            -(self.exponent as i32) as u32
        };
        // TFLite shifts left in 32 bits. The host refuses a model in which that could overflow
        // (`check` does so again), and wrapping keeps hostile input from a panic.
        let shifted = acc.wrapping_shl(left);
        // A mantissa is never negative, so nothing saturates.
        rounding_divide_by_pot(doubling_high_mul(shifted, self.mantissa), right)
    }

    /// Scales an accumulator with one rounding in 64 bits (LiteRT's fully connected).
    #[cfg_attr(feature = "fast", inline(always))]
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub const fn apply_single_rounding(self, acc: i32) -> i32 {
        let total_shift = 31 - self.exponent as i32;
        let product = acc as i64 * self.mantissa as i64;
        let rounded = (product + (1i64 << (total_shift - 1))) >> total_shift;
        rounded as i32
    }
}

/// A [`Multiplier`] of at most one, made ready for many accumulators of known bound: the integers of
/// [`Multiplier::apply`] in fewer steps, none of them a branch, so that loops become vector code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreparedMultiplier {
    /// As in [`Multiplier`].
    pub mantissa: i32,
    /// Half a unit of the result, before the shift; 0 where nothing is shifted.
    pub half: i32,
    /// -1, or 0 where nothing is shifted: what a negative number has added for ties to go away from
    /// zero.
    pub tie: i32,
    /// How far to shift right.
    pub shift: i32,
}

impl PreparedMultiplier {
    /// Ready for accumulators of magnitude at most `bound`, or nothing where the multiplier shifts
    /// left or an intermediate number could leave 32 bits.
    pub const fn new(multiplier: Multiplier, bound: i64) -> Option<Self> {
        let shift = -(multiplier.exponent as i32);
        if shift < 0 || !multiplier.is_valid_quotient() {
            return None;
        }
        let half = if shift > 0 { 1i32 << (shift - 1) } else { 0 };
        // A mantissa below 2^31 makes nothing larger. Room for a zero point is asked for too.
        if bound < 0 || bound + half as i64 + 256 > i32::MAX as i64 {
            return None;
        }
        Some(Self {
            mantissa: multiplier.mantissa,
            half,
            tie: if shift > 0 { -1 } else { 0 },
            shift,
        })
    }

    /// [`Multiplier::apply`] for an accumulator within the bound.
    #[inline(always)]
    pub const fn apply(self, acc: i32) -> i32 {
        let high = doubling_high_mul(acc, self.mantissa);
        (high + self.half + ((high >> 31) & self.tie)) >> (self.shift & 31)
    }
}

/// gemmlowp's `SaturatingRoundingDoublingHighMul`: `a * b / 2^31` to the nearest integer, ties
/// towards plus infinity (which is what its nudge and truncating division come to).
/// Only `i32::MIN * i32::MIN` saturates.
#[inline(always)]
pub const fn saturating_rounding_doubling_high_mul(a: i32, b: i32) -> i32 {
    if a == i32::MIN && b == i32::MIN {
        return i32::MAX;
    }
    doubling_high_mul(a, b)
}

/// [`saturating_rounding_doubling_high_mul`] of numbers that are not both `i32::MIN`.
///
/// The original adds a nudge that depends on the product's sign and divides by 2^31, truncating:
/// this floors instead, which is one instruction a step and the same integer.
#[cfg_attr(feature = "fast", inline(always))]
#[cfg_attr(not(feature = "fast"), inline(never))]
const fn doubling_high_mul(a: i32, b: i32) -> i32 {
    ((a as i64 * b as i64 + (1 << 30)) >> 31) as i32
}

/// gemmlowp's `RoundingDivideByPOT`: `x / 2^exponent`, rounded to nearest, ties away from zero.
///
/// `exponent` is in `0..=31`.
#[cfg_attr(feature = "fast", inline(always))]
#[cfg_attr(not(feature = "fast"), inline(never))]
pub const fn rounding_divide_by_pot(x: i32, exponent: u32) -> i32 {
    let mask = ((1u32 << exponent) - 1) as i32;
    let remainder = x & mask;
    let threshold = (mask >> 1) + if x < 0 { 1 } else { 0 };
    (x >> exponent) + if remainder > threshold { 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_random::Random;

    /// Values at which something changes, and around them.
    fn edges() -> impl Iterator<Item = i32> + Clone {
        let powers = (0..32).flat_map(|p| [1i64 << p, -(1i64 << p)]);
        let around = powers.flat_map(|p| [p - 1, p, p + 1]);
        around.filter_map(|v| i32::try_from(v).ok()).chain([0])
    }

    fn high_mul_by_definition(a: i32, b: i32) -> i32 {
        let doubled = 2 * a as i128 * b as i128;
        let rounded = (doubled + (1 << 31)).div_euclid(1 << 32);
        rounded.min(i32::MAX as i128) as i32
    }

    fn divide_by_definition(x: i32, exponent: u32) -> i32 {
        let magnitude = (2 * (x as i128).abs() + (1i128 << exponent)) / (2i128 << exponent);
        ((x as i128).signum() * magnitude) as i32
    }

    #[test]
    fn the_high_multiply_follows_its_definition() {
        for a in edges() {
            for b in edges() {
                let want = high_mul_by_definition(a, b);
                assert_eq!(
                    saturating_rounding_doubling_high_mul(a, b),
                    want,
                    "{a} * {b}"
                );
            }
        }
        let mut r = Random::new(1);
        for _ in 0..200_000 {
            let (a, b) = (r.u64() as i32, r.u64() as i32);
            assert_eq!(
                saturating_rounding_doubling_high_mul(a, b),
                high_mul_by_definition(a, b)
            );
        }
    }

    #[test]
    fn the_rounding_shift_follows_its_definition() {
        let mut r = Random::new(2);
        for exponent in 0..=31 {
            for x in edges().chain((0..5_000).map(|_| r.u64() as i32)) {
                assert_eq!(
                    rounding_divide_by_pot(x, exponent),
                    divide_by_definition(x, exponent),
                    "{x} >> {exponent}"
                );
            }
        }
    }

    #[test]
    fn multipliers_follow_their_definitions_at_every_exponent() {
        let mut r = Random::new(3);
        for exponent in -31..=30i8 {
            for _ in 0..2_000 {
                let any = 1 << 30 | r.u64() as i32 & 0x3fff_ffff;
                let mantissa = r.pick(&[1 << 30, i32::MAX, any]);
                let m = Multiplier { mantissa, exponent };
                assert!(m.is_valid());
                // Within what the check allows: no overflow when shifted to the left.
                let reach = i32::MAX >> exponent.max(0);
                let any = r.range(-reach, reach);
                let acc = r.pick(&[reach, -reach, 0, 1, -1, any]);
                let high = high_mul_by_definition(acc << exponent.max(0), mantissa);
                assert_eq!(
                    m.apply(acc),
                    divide_by_definition(high, (-exponent.min(0)) as u32)
                );
                let divisor = 1i128 << (31 - exponent as i32);
                let once = (2 * acc as i128 * mantissa as i128 + divisor).div_euclid(2 * divisor);
                assert_eq!(m.apply_single_rounding(acc) as i128, once);
            }
        }
        assert_eq!(Multiplier::ZERO.apply(i32::MIN), 0);
        assert_eq!(Multiplier::ZERO.apply_single_rounding(i32::MAX), 0);
    }

    #[test]
    fn prepared_multipliers_give_the_same_integers_up_to_their_bound() {
        let mut r = Random::new(4);
        let mut prepared = 0;
        for exponent in -31..=2i8 {
            for _ in 0..2_000 {
                let mantissa = r.pick(&[0, 1, 1 << 30, i32::MAX, 3 << 29]);
                let m = Multiplier { mantissa, exponent };
                let any = r.range(0, i32::MAX) >> r.range(0, 31);
                let bound = r.pick(&[any, i32::MAX - 256, i32::MAX]);
                let Some(ready) = PreparedMultiplier::new(m, bound as i64) else {
                    let half = 1i64 << (-exponent - 1).max(0);
                    assert!(exponent > 0 || bound as i64 + half + 256 > i32::MAX as i64);
                    continue;
                };
                prepared += 1;
                let any = r.range(-bound, bound);
                for acc in [bound, -bound, 0, any, any / 2, any >> 20] {
                    assert_eq!(ready.apply(acc), m.apply(acc), "{m:?} of {acc}");
                }
            }
        }
        assert!(prepared > 20_000, "{prepared}");
    }

    #[test]
    fn multipliers_out_of_range_are_told() {
        let valid = |mantissa, exponent| Multiplier { mantissa, exponent }.is_valid();
        assert!(valid(1 << 30, -31) && valid(i32::MAX, 30) && valid(0, 0));
        assert!(!valid((1 << 30) - 1, 0) && !valid(-1, 0) && !valid(i32::MIN, 0));
        assert!(!valid(1 << 30, -32) && !valid(1 << 30, 31));
    }
}
