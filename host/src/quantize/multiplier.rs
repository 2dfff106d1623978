//! A real multiplier as mantissa and exponent.

use crate::model::Multiplier;

/// The fixed-point number nearest to a non-negative real one, as TFLite's `QuantizeMultiplier`
/// makes it: mantissa in Q31 rounded to nearest (ties away from zero), carried into the exponent
/// where it rounds up to one; zero where the exponent would be below -31.
///
/// `None` for numbers that are negative, not finite, or 2^30 and above.
pub fn quantize_multiplier(real: f64) -> Option<Multiplier> {
    if !real.is_finite() || real < 0.0 {
        return None;
    }
    if real == 0.0 {
        return Some(Multiplier::ZERO);
    }
    let (fraction, mut exponent) = split(real);
    let mut mantissa = (fraction * (1i64 << 31) as f64).round() as i64;
    if mantissa == 1 << 31 {
        mantissa /= 2;
        exponent += 1;
    }
    match exponent {
        ..-31 => Some(Multiplier::ZERO),
        -31..=30 => Some(Multiplier {
            mantissa: mantissa as i32,
            exponent: exponent as i8,
        }),
        _ => None,
    }
}

/// The multiplier of a mean over `count` elements, `input / (output * count)`, as TFLite's int8 MEAN
/// makes it: the fixed-point number of the quotient of the scales, whose mantissa, shifted left by
/// `floor(log2 count)`, is divided by `count`, cutting off the rest.
///
/// The mantissa can so be below 2^30; a normalized one would give other bits. `None` where there is
/// no such number: for a count of zero, and where [`quantize_multiplier`] has none.
pub fn mean_multiplier(input: f32, output: f32, count: usize) -> Option<Multiplier> {
    divided(quantize_multiplier(input as f64 / output as f64)?, count)
}

fn divided(m: Multiplier, count: usize) -> Option<Multiplier> {
    let exponent = m.exponent as i64;
    let shift = (count.checked_ilog2()? as i64).min(32).min(31 + exponent);
    let mantissa = ((m.mantissa as i64) << shift) / i64::try_from(count).ok()?;
    Some(Multiplier {
        mantissa: i32::try_from(mantissa).ok()?,
        exponent: i8::try_from(exponent - shift).ok()?,
    })
}

/// The multiplier nearest to `m` that is `input * scale / output` of a float32 `scale`, and that
/// scale: what a .tflite can hold for one channel. `None` where no normal number is near.
pub fn scaled_multiplier(m: Multiplier, input: f32, output: f32) -> Option<(f32, Multiplier)> {
    let real = m.mantissa as f64 * 2f64.powi(m.exponent as i32 - 31);
    let scale = (real * output as f64 / input as f64) as f32;
    if !scale.is_normal() {
        return None;
    }
    let given = quantize_multiplier(input as f64 * scale as f64 / output as f64)?;
    Some((scale, given))
}

/// C's `frexp` of a positive finite number: a fraction in [1/2, 1) and a power of two.
fn split(x: f64) -> (f64, i32) {
    const EXPONENT_BITS: u64 = 0x7ff << 52;
    // Subnormal numbers are scaled into the normal range first.
    let (x, offset) = if x < f64::MIN_POSITIVE {
        (x * 2f64.powi(64), -64)
    } else {
        (x, 0)
    };
    let exponent = ((x.to_bits() & EXPONENT_BITS) >> 52) as i32 - 1022;
    let fraction = f64::from_bits(x.to_bits() & !EXPONENT_BITS | 1022 << 52);
    (fraction, exponent + offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(m: Multiplier) -> f64 {
        m.mantissa as f64 * 2f64.powi(m.exponent as i32 - 31)
    }

    #[test]
    fn the_value_is_within_half_a_unit_of_the_mantissa() {
        let mut x = 1e-9;
        while x < 1e9 {
            let m = quantize_multiplier(x).expect("in range");
            assert!(m.is_valid());
            assert!(
                (value(m) / x - 1.0).abs() <= 2f64.powi(-31),
                "{x} became {m:?}"
            );
            x *= 1.37;
        }
        assert_eq!(
            quantize_multiplier(0.5),
            Some(Multiplier {
                mantissa: 1 << 30,
                exponent: 0
            })
        );
        assert_eq!(
            quantize_multiplier(1.0),
            Some(Multiplier {
                mantissa: 1 << 30,
                exponent: 1
            })
        );
    }

    #[test]
    fn the_mantissa_of_a_mean_is_divided_and_cut_off() {
        let m = |mantissa, exponent| Multiplier { mantissa, exponent };
        let one = m(1 << 30, 1);
        assert_eq!(
            divided(one, 49),
            Some(m((1i64 << 35).div_euclid(49) as i32, -4))
        );
        assert_eq!(divided(one, 64), Some(m(1 << 30, -5)));
        assert_eq!(divided(one, 1), Some(one));
        assert_eq!(
            divided(m(1 << 30, -30), 64),
            Some(m(1 << 25, -31)),
            "the shift stops at -31"
        );
        assert_eq!(divided(one, 0), None);
        assert_eq!(mean_multiplier(0.5, 0.5, 64), Some(m(1 << 30, -5)));
    }

    #[test]
    fn the_nearest_multiplier_of_a_float32_scale_is_within_its_last_bit() {
        let (x, y) = (0.0471f32, 0.113f32);
        for mantissa in (1 << 30..i32::MAX).step_by(98_765_431) {
            let m = Multiplier {
                mantissa,
                exponent: -6,
            };
            let (scale, near) = scaled_multiplier(m, x, y).expect("ordinary scales");
            assert!((value(near) / value(m) - 1.0).abs() <= 2f64.powi(-24));
            // What a scale gives is its own nearest.
            assert_eq!(scaled_multiplier(near, x, y), Some((scale, near)));
        }
        assert_eq!(scaled_multiplier(Multiplier::ZERO, x, y), None);
    }

    #[test]
    fn a_mantissa_that_rounds_up_to_one_carries() {
        let just_below = 1.0 - 2f64.powi(-40);
        assert_eq!(
            quantize_multiplier(just_below),
            Some(Multiplier {
                mantissa: 1 << 30,
                exponent: 1
            })
        );
    }

    #[test]
    fn tiny_numbers_are_zero_and_huge_or_senseless_ones_are_refused() {
        assert_eq!(quantize_multiplier(2f64.powi(-33)), Some(Multiplier::ZERO));
        assert_eq!(
            quantize_multiplier(2f64.powi(-32)),
            Some(Multiplier {
                mantissa: 1 << 30,
                exponent: -31
            })
        );
        assert_eq!(quantize_multiplier(5e-324), Some(Multiplier::ZERO));
        assert_eq!(quantize_multiplier(2f64.powi(30)), None);
        for x in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(quantize_multiplier(x), None);
        }
    }
}
