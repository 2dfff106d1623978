//! TANH: output scale 1/128 and zero point 0.
//!
//! As TFLM's int8 reference kernel: the input as in LOGISTIC, `tanh(-x) = -(1 - e) / (1 + e)` with
//! `e = exp(-2x)` by gemmlowp's algorithms on 31 fraction bits, rounded to 7.

use super::elementwise::{Table, push, require_output, tabulated};
use super::logistic::{Scaled, ScaledInput};
use crate::import::tflite::call::Call;
use crate::import::tflite::problem::Problem;
use crate::model::Rounding;
use crate::quantize::TensorScale;
use qmend_shared::arith::rounding_divide_by_pot;
use qmend_shared::kernels::fixed_point::{exp_of_negative, one_minus_over_one_plus};

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    push(call, table)
}

/// The kernel's table.
pub(super) fn table(_: Rounding, x: TensorScale, y: TensorScale) -> Result<Table, Problem> {
    require_output(y, 1.0 / 128.0, 0)?;
    let scaled = ScaledInput::new(x.scale, x.zero_point)?;
    Ok(tabulated(|q| match scaled.at(q) {
        Scaled::Low => -128,
        Scaled::High => 127,
        Scaled::Within(raw) => rounding_divide_by_pot(tanh(raw), 31 - 7).clamp(-128, 127) as i8,
    }))
}

/// The hyperbolic tangent of a number with 4 integer bits; the result has none.
fn tanh(x: i32) -> i32 {
    // Doubling a number with 4 integer bits is reading it as one with 5.
    let of_magnitude = |x: i32| one_minus_over_one_plus(exp_of_negative::<5>(-x));
    match x {
        0 => 0,
        1.. => of_magnitude(x),
        _ => -of_magnitude(-x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_within_a_millionth_of_the_real_one() {
        for i in -2000..=2000i32 {
            let raw = i * 1_000_000;
            let real = (raw as f64 / (1 << 27) as f64).tanh();
            let got = tanh(raw) as f64 / (1u64 << 31) as f64;
            assert!((got - real).abs() < 1e-6, "{raw}: {got} instead of {real}");
        }
    }
}
