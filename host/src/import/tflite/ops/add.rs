//! ADD of two activations of one shape.

use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::{activation_range, multiplier};
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;
use crate::model::{Add, Multiplier, Op};

/// The kernel's left shift of both addends.
const LEFT_SHIFT: i32 = 20;

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::ADD)?;
    let (a, b) = (call.activation(0)?, call.activation(1)?);
    let y = call.output()?;
    if a.shape != b.shape || a.shape != y.shape {
        return Err(Problem::unsupported(
            format!("it adds {:?} and {:?}", a.shape, b.shape),
            "give both addends one shape",
        ));
    }
    let twice_larger = 2.0 * a.scale.max(b.scale) as f64;
    let output_multiplier =
        smaller_than_one(twice_larger / ((1 << LEFT_SHIFT) as f64 * y.scale as f64))?;
    let (act_min, act_max) = activation_range(options.i8(0)?, y.scale, y.zero_point)?;
    let op = Add {
        input_multipliers: [
            smaller_than_one(a.scale as f64 / twice_larger)?,
            smaller_than_one(b.scale as f64 / twice_larger)?,
        ],
        output_multiplier,
        act_min,
        act_max,
    };
    call.push(Op::Add(op), &[a.id, b.id], y.id);
    Ok(())
}

fn smaller_than_one(real: f64) -> Result<Multiplier, Problem> {
    let m = multiplier(real)?;
    if m.exponent <= 0 {
        return Ok(m);
    }
    Err(Problem::unsupported(
        format!("its scales give the multiplier {real:e}, which is one or more"),
        "quantize the model again: its output scale is far too small for its inputs",
    ))
}
