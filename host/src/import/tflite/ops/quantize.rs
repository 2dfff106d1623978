//! QUANTIZE and DEQUANTIZE: at the network's float ends they fall away; QUANTIZE between integers
//! changes scale and zero point.

use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::multiplier;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::ElementType;
use crate::model::Op;

const INTEGERS: [ElementType; 2] = [ElementType::INT8, ElementType::UINT8];

pub(super) fn quantize(call: &mut Call) -> Result<(), Problem> {
    if call.enter()? {
        return Ok(());
    }
    let x = call.activation_of(0, &INTEGERS)?;
    let y = call.output_of(&INTEGERS)?;
    if x.shape != y.shape {
        return Err(Problem::Damaged(format!(
            "its input is {:?}, its output {:?}",
            x.shape, y.shape
        )));
    }
    let multiplier = multiplier(x.scale as f64 / y.scale as f64)?;
    call.push(Op::Requantize { multiplier }, &[x.id], y.id);
    Ok(())
}

pub(super) fn dequantize(call: &mut Call) -> Result<(), Problem> {
    if call.leave(&INTEGERS)? {
        return Ok(());
    }
    Err(Problem::unsupported(
        "it turns integers into floats in the midst of the network",
        "convert with full integer quantization, so that only the network's output is dequantized",
    ))
}
