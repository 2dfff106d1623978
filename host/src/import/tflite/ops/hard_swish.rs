//! HARD_SWISH: `x * min(max(x + 3, 0), 6) / 6` in 16-bit fixed point.
//!
//! As TFLM's int8 reference kernel: the input less its zero point, times 2^7, is taken once to the
//! output's scale (before its right shift) and once to a scale on which 3 is 2^15, saturating;
//! the latter becomes a factor in 0..1, and the product, truncated, is shifted right. Multipliers
//! are made from f32 quotients and rounded to 16 bits.

use super::elementwise::{Table, push, tabulated};
use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::multiplier;
use crate::import::tflite::problem::Problem;
use crate::model::Rounding;
use crate::quantize::TensorScale;
use qmend_shared::arith::rounding_divide_by_pot;

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    push(call, table)
}

/// The kernel's table.
pub(super) fn table(_: Rounding, x: TensorScale, y: TensorScale) -> Result<Table, Problem> {
    let fine_scale = (1.0 / 128.0f32) * x.scale;
    let to_output = Multiplier16::new((fine_scale / y.scale) as f64)?;
    let to_gate = Multiplier16::new((fine_scale / (3.0f32 / 32768.0)) as f64)?;
    if to_output.exponent > 0 || to_output.exponent < -15 || to_gate.exponent < -15 {
        return Err(Problem::unsupported(
            format!(
                "input scale {:e} and output scale {:e} are too far apart, or too small",
                x.scale, y.scale
            ),
            "quantize the model again with calibration data that reaches this layer",
        ));
    }
    let (zx, zy) = (x.zero_point as i32, y.zero_point as i32);
    Ok(tabulated(|q| {
        let fine = ((q as i32 - zx) << 7) as i16;
        let before_shift = rounding_doubling_high_mul(fine, to_output.mantissa);
        let factor = ((gate(fine, to_gate) as i32 + (1 << 15)) >> 1) as i16;
        let product = doubling_high_mul(factor, before_shift);
        let shifted = rounding_divide_by_pot(product as i32, -to_output.exponent as u32);
        (shifted + zy).clamp(-128, 127) as i8
    }))
}

/// A multiplier with a Q15 mantissa.
#[derive(Clone, Copy)]
struct Multiplier16 {
    mantissa: i16,
    exponent: i32,
}

impl Multiplier16 {
    fn new(real: f64) -> Result<Self, Problem> {
        const ROUNDING: i32 = 1 << 15;
        let m = multiplier(real)?;
        let mantissa = match m.mantissa.checked_add(ROUNDING) {
            Some(sum) if m.mantissa < i32::MAX - ROUNDING => (sum >> 16) as i16,
            _ => i16::MAX,
        };
        Ok(Self {
            mantissa,
            exponent: m.exponent as i32,
        })
    }
}

/// The value on a scale on which 3 is 2^15, saturating.
fn gate(fine: i16, m: Multiplier16) -> i16 {
    // All but the last bit of a left shift comes before the multiplication, so that what saturates
    // there saturates in the end as well.
    let left =
        |x: i16, bits: i32| ((x as i64) << bits).clamp(i16::MIN as i64, i16::MAX as i64) as i16;
    match m.exponent {
        e @ 1.. => left(rounding_doubling_high_mul(left(fine, e - 1), m.mantissa), 1),
        e => rounding_divide_by_pot(
            rounding_doubling_high_mul(fine, m.mantissa) as i32,
            -e as u32,
        ) as i16,
    }
}

/// `round(a * b / 2^15)`; only the product of two -2^15 saturates.
fn rounding_doubling_high_mul(a: i16, b: i16) -> i16 {
    let product = a as i32 * b as i32;
    let nudge = if product >= 0 { 1 << 14 } else { 1 - (1 << 14) };
    ((product + nudge) / (1 << 15)).min(i16::MAX as i32) as i16
}

/// As [`rounding_doubling_high_mul`], rounding towards zero.
fn doubling_high_mul(a: i16, b: i16) -> i16 {
    (a as i32 * b as i32 / (1 << 15)).min(i16::MAX as i32) as i16
}
