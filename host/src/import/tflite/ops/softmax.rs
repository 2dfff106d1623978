//! SOFTMAX over the last axis.

use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::multiplier;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;
use crate::model::Op;

/// Integer bits of scaled differences.
const INTEGER_BITS: i32 = 5;

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::SOFTMAX)?;
    let x = call.activation(0)?;
    let y = call.output()?;
    if y.shape != x.shape {
        return Err(Problem::Damaged(format!(
            "its input is {:?}, its output {:?}",
            x.shape, y.shape
        )));
    }
    if y.scale != 1.0 / 256.0 || y.zero_point != -128 {
        return Err(Problem::unsupported(
            format!(
                "its output has scale {} and zero point {}",
                y.scale, y.zero_point
            ),
            "the output of an int8 SOFTMAX has scale 1/256 and zero point -128",
        ));
    }
    let beta = options.f32(0)?;
    let real = beta as f64 * x.scale as f64 * f64::from(1 << (31 - INTEGER_BITS));
    let m = multiplier(real.min(i32::MAX as f64))?;
    if m.exponent < 1 {
        return Err(Problem::unsupported(
            format!(
                "beta {beta} and input scale {:e} make every difference vanish",
                x.scale
            ),
            "quantize the model again with calibration data that reaches this layer",
        ));
    }
    let left_shift = m.exponent as u8;
    let diff_min = -(31i64 << (31 - INTEGER_BITS) >> left_shift) as i32;
    call.push(
        Op::Softmax {
            multiplier: m.mantissa,
            left_shift,
            diff_min,
        },
        &[x.id],
        y.id,
    );
    Ok(())
}
