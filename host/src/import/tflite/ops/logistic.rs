//! LOGISTIC: `1 / (1 + exp(-x))`, output scale 1/256 and zero point -128.
//!
//! As TFLM's int8 reference kernel: the input less its zero point is scaled to 4 integer bits
//! (beyond 15 the ends are taken), the function is computed on 31 fraction bits with gemmlowp's
//! exponential and reciprocal, and rounded to 8.

use super::elementwise::{Table, push, require_output, tabulated};
use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::multiplier;
use crate::import::tflite::problem::Problem;
use crate::model::Multiplier;
use crate::model::Rounding;
use crate::quantize::TensorScale;
use qmend_shared::arith::rounding_divide_by_pot;
use qmend_shared::kernels::fixed_point::{exp_of_negative, one_over_one_plus};

/// Integer bits of the scaled input.
const INTEGER_BITS: u32 = 4;

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    push(call, table)
}

/// The kernel's table.
pub(super) fn table(_: Rounding, x: TensorScale, y: TensorScale) -> Result<Table, Problem> {
    require_output(y, 1.0 / 256.0, -128)?;
    let scaled = ScaledInput::new(x.scale, x.zero_point)?;
    Ok(tabulated(|q| match scaled.at(q) {
        Scaled::Low => -128,
        Scaled::High => 127,
        Scaled::Within(raw) => {
            (rounding_divide_by_pot(logistic(raw), 31 - 8) - 128).clamp(-128, 127) as i8
        }
    }))
}

/// An input with 4 integer bits, or an end.
pub(super) enum Scaled {
    Low,
    Within(i32),
    High,
}

/// How int8 inputs of LOGISTIC and TANH become numbers with 4 integer bits.
pub(super) struct ScaledInput {
    zero_point: i32,
    multiplier: Multiplier,
    /// Differences to the zero point that reach the ends.
    radius: i32,
}

impl ScaledInput {
    pub(super) fn new(scale: f32, zero_point: i8) -> Result<Self, Problem> {
        let multiplier = multiplier(scale as f64 * f64::from(1 << (31 - INTEGER_BITS)))?;
        if multiplier.exponent < 0 {
            return Err(Problem::unsupported(
                format!("its input scale {scale:e} is too small"),
                "quantize the model again with calibration data that reaches this layer",
            ));
        }
        let radius = (15i64 << (31 - INTEGER_BITS)) >> multiplier.exponent;
        Ok(Self {
            zero_point: zero_point as i32,
            multiplier,
            radius: radius as i32,
        })
    }

    pub(super) fn at(&self, q: i8) -> Scaled {
        match q as i32 - self.zero_point {
            x if x <= -self.radius => Scaled::Low,
            x if x >= self.radius => Scaled::High,
            x => Scaled::Within(self.multiplier.apply(x)),
        }
    }
}

/// The logistic function of a number with 4 integer bits; the result has none.
fn logistic(x: i32) -> i32 {
    let of_magnitude = |x: i32| one_over_one_plus(exp_of_negative::<INTEGER_BITS>(-x));
    match x {
        0 => 1 << 30,
        1.. => of_magnitude(x),
        _ => i32::MAX - of_magnitude(-x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_is_within_a_ten_millionth_of_the_real_one() {
        for i in -2000..=2000i32 {
            let raw = i * 1_000_000;
            let real = 1.0 / (1.0 + (-raw as f64 / (1 << 27) as f64).exp());
            let got = logistic(raw) as f64 / (1u64 << 31) as f64;
            assert!((got - real).abs() < 1e-7, "{raw}: {got} instead of {real}");
        }
    }
}
