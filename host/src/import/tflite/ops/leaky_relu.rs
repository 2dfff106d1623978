//! LEAKY_RELU: `x` from zero on, `alpha * x` below, each rescaled by a multiplier of its own (made
//! from an f64 quotient in TFLM, from one in f32 in LiteRT).

use super::elementwise::{Table, push, tabulated};
use crate::import::tflite::call::{Call, quotient};
use crate::import::tflite::fixed_point::multiplier;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;
use crate::model::Rounding;
use crate::quantize::TensorScale;

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let alpha = call.operator.options(options::LEAKY_RELU)?.f32(0)?;
    push(call, |rounding, x, y| table(rounding, alpha, x, y))
}

/// The kernel's table.
pub(super) fn table(
    rounding: Rounding,
    alpha: f32,
    x: TensorScale,
    y: TensorScale,
) -> Result<Table, Problem> {
    let below = rescale(quotient(rounding, &[x.scale, alpha.abs()], y.scale))?;
    let above = rescale(quotient(rounding, &[x.scale], y.scale))?;
    let (zx, zy) = (x.zero_point as i32, y.zero_point as i32);
    Ok(tabulated(|q| {
        let scaled = match q as i32 - zx {
            d @ 0.. => above.apply(d),
            d if alpha < 0.0 => -below.apply(d),
            d => below.apply(d),
        };
        (scaled + zy).clamp(-128, 127) as i8
    }))
}

/// A multiplier by which a difference of two int8 cannot leave 32 bits.
pub(super) fn rescale(real: f64) -> Result<crate::model::Multiplier, Problem> {
    match multiplier(real)? {
        m if m.exponent <= 22 => Ok(m),
        _ => Err(Problem::unsupported(
            format!("its scales give the multiplier {real:e}"),
            "quantize the model again: its output scale is far too small for its input",
        )),
    }
}
