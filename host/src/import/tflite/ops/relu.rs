//! RELU, RELU6 and RELU_N1_TO_1 that stand alone.
//!
//! RELU rescales (multiplier from an f64 quotient in TFLM, from one in f32 in LiteRT) and clamps at the output's zero point; so does
//! RELU_N1_TO_1 at both ends, which only LiteRT has. RELU6 in TFLM clamps without rescaling, where
//! LiteRT rescales: the two give different real numbers unless input and output have one scale.

use super::elementwise::{Table, push, tabulated};
use super::leaky_relu::rescale;
use crate::import::tflite::call::{Call, quotient};
use crate::import::tflite::fixed_point::activation_range;
use crate::import::tflite::problem::Problem;
use crate::model::Rounding;
use crate::quantize::TensorScale;

pub(super) fn relu(call: &mut Call) -> Result<(), Problem> {
    push(call, table)
}

/// The table of RELU's kernel.
pub(super) fn table(rounding: Rounding, x: TensorScale, y: TensorScale) -> Result<Table, Problem> {
    let m = rescale(quotient(rounding, &[x.scale], y.scale))?;
    let (zx, zy) = (x.zero_point as i32, y.zero_point as i32);
    Ok(tabulated(|q| {
        (zy + m.apply(q as i32 - zx)).clamp(zy, 127) as i8
    }))
}

pub(super) fn relu6(call: &mut Call) -> Result<(), Problem> {
    const RELU6: i8 = 3;
    push(call, |_, x, y| {
        if x != y {
            return Err(Problem::unsupported(
                format!(
                    "it leads from scale {} and zero point {} to {} and {}, which LiteRT rescales and TensorFlow Lite for Microcontrollers does not: the network means something else in each",
                    x.scale, x.zero_point, y.scale, y.zero_point
                ),
                "convert so that RELU6 is fused into the layer before it, or keep one scale",
            ));
        }
        let (lo, hi) = activation_range(RELU6, y.scale, y.zero_point)?;
        Ok(tabulated(|q| q.clamp(lo, hi)))
    })
}

pub(super) fn relu_n1_to_1(call: &mut Call) -> Result<(), Problem> {
    const RELU_N1_TO_1: i8 = 2;
    push(call, |_, x, y| {
        let m = rescale((x.scale / y.scale) as f64)?;
        let (lo, hi) = activation_range(RELU_N1_TO_1, y.scale, y.zero_point)?;
        let (zx, zy) = (x.zero_point as i32, y.zero_point as i32);
        Ok(tabulated(|q| {
            let rescaled = zy.saturating_add(m.apply(q as i32 - zx));
            rescaled.clamp(-128, 127).max(lo as i32).min(hi as i32) as i8
        }))
    })
}
