//! RELU and RELU6 that stand alone.
//!
//! RELU rescales (multiplier from an f32 quotient) and clamps at the output's zero point. RELU6 in
//! TFLM clamps without rescaling, so input and output must have one scale.

use super::elementwise::{Table, push, tabulated};
use super::leaky_relu::rescale;
use super::reshape::same_scale;
use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::activation_range;
use crate::import::tflite::problem::Problem;
use crate::quantize::TensorScale;

pub(super) fn relu(call: &mut Call) -> Result<(), Problem> {
    push(call, table)
}

/// The table of RELU's kernel.
pub(super) fn table(x: TensorScale, y: TensorScale) -> Result<Table, Problem> {
    let m = rescale((x.scale / y.scale) as f64)?;
    let (zx, zy) = (x.zero_point as i32, y.zero_point as i32);
    Ok(tabulated(|q| {
        (zy + m.apply(q as i32 - zx)).clamp(zy, 127) as i8
    }))
}

pub(super) fn relu6(call: &mut Call) -> Result<(), Problem> {
    const RELU6: i8 = 3;
    same_scale(&call.activation(0)?, &call.output()?)?;
    push(call, |_, y| {
        let (lo, hi) = activation_range(RELU6, y.scale, y.zero_point)?;
        Ok(tabulated(|q| q.clamp(lo, hi)))
    })
}
