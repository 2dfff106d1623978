//! FULLY_CONNECTED: weights `[out_c][in]` over the whole input, or over each of several vectors.

use super::filter::Filter;
use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::multiplier;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;
use crate::model::{FullyConnected, Op, Rounding};

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::FULLY_CONNECTED)?;
    let x = call.activation(0)?;
    let filter = Filter::new(call, 2, 0)?;
    let y = call.output()?;
    let [out_c, taps] = filter.shape[..] else {
        return Err(Problem::Damaged(
            "its weights have not two axes".to_string(),
        ));
    };
    if options.i8(1)? != 0 {
        return Err(Problem::unsupported(
            "its weights are shuffled",
            "convert for the default CPU kernels",
        ));
    }
    let rows = x.elements() / taps;
    if rows * taps != x.elements() || y.elements() != rows * out_c {
        return Err(Problem::Damaged(format!(
            "{out_c} x {taps} weights do not lead from {:?} to {:?}",
            x.shape, y.shape
        )));
    }
    let multipliers = match filter.scales[..] {
        // With one scale for all, LiteRT multiplies input and weight scale in f32.
        [scale] if call.network.rounding == Rounding::LiteRtReference => {
            vec![multiplier((x.scale * scale) as f64 / y.scale as f64)?; out_c]
        }
        _ => filter.multipliers(&x, &y, out_c)?,
    };
    let linear = filter.linear(call, multipliers, options.i8(0)?, &y)?;
    let op = Op::FullyConnected(FullyConnected { linear });
    if rows == 1 && y.shape == [1, 1, out_c] {
        call.push(op, &[x.id], y.id);
        return Ok(());
    }
    // At each position over the channels; reshapes bring the vectors there.
    let (mut from, mut shape) = (x.id, x.shape);
    if shape[2] != taps || rows == 1 {
        shape = [1, rows, taps];
        from = call.part(y.id, "vectors", x.id, shape);
        call.push_plain(Op::Reshape, &[x.id], from);
    }
    let result = [shape[0], shape[1], out_c];
    if y.shape == result {
        call.push(op, &[from], y.id);
        return Ok(());
    }
    let to = call.part(y.id, "results", y.id, result);
    call.push(op, &[from], to);
    call.push_plain(Op::Reshape, &[to], y.id);
    Ok(())
}
