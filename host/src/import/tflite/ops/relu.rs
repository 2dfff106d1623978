//! RELU and RELU6 that stand alone.
//!
//! RELU rescales (multiplier from an f32 quotient) and clamps at the output's zero point. RELU6 in
//! TFLM clamps without rescaling, so input and output must have one scale.

use super::elementwise::push;
use super::leaky_relu::rescale;
use super::reshape::same_scale;
use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::activation_range;
use crate::import::tflite::problem::Problem;

pub(super) fn relu(call: &mut Call) -> Result<(), Problem> {
    let x = call.activation(0)?;
    let y = call.output()?;
    let m = rescale((x.scale / y.scale) as f64)?;
    let (zx, zy) = (x.zero_point as i32, y.zero_point as i32);
    push(call, &x, &y, |q| {
        (zy + m.apply(q as i32 - zx)).clamp(zy, 127) as i8
    })
}

pub(super) fn relu6(call: &mut Call) -> Result<(), Problem> {
    const RELU6: i8 = 3;
    let x = call.activation(0)?;
    let y = call.output()?;
    same_scale(&x, &y)?;
    let (lo, hi) = activation_range(RELU6, y.scale, y.zero_point)?;
    push(call, &x, &y, |q| q.clamp(lo, hi))
}
