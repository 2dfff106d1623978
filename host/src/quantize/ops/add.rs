//! TFLite's int8 ADD.

use super::super::quantize_multiplier;
use super::super::tensors::TensorScale;
use crate::graph::Activation;
use crate::model::{Add, Sum};

/// Both addends are scaled to twice the larger input scale, with 20 bits of headroom; `None` where
/// a ratio does not fit (the output's range is far narrower than the inputs') or the activation
/// does not only clamp.
pub(crate) fn add(
    inputs: [TensorScale; 2],
    output: TensorScale,
    activation: Activation,
) -> Option<Add> {
    let [a, b] = inputs.map(|t| t.scale as f64);
    let twice_larger = 2.0 * a.max(b);
    let (act_min, act_max) = output.clamp_range(activation)?;
    let of_sum = twice_larger / ((1u32 << 20) as f64 * output.scale as f64);
    Some(Add {
        input_multipliers: [
            quantize_multiplier(a / twice_larger)?,
            quantize_multiplier(b / twice_larger)?,
        ],
        output_multiplier: quantize_multiplier(of_sum).filter(|m| m.exponent <= 0)?,
        act_min,
        act_max,
    })
}

/// The same constants for operands of different shapes, or for a difference.
pub(crate) fn broadcast(add: Add) -> Sum {
    Sum {
        input_multipliers: add.input_multipliers,
        output_multiplier: add.output_multiplier,
        act_min: add.act_min,
        act_max: add.act_max,
        constant: None,
    }
}

#[cfg(test)]
mod tests {
    use qmend_shared::kernels::AddParams;

    use super::*;

    #[test]
    fn sums_are_within_a_level_of_the_real_ones() {
        let t = |scale, zero_point| TensorScale { scale, zero_point };
        let (a, b, y) = (t(0.05, -10), t(0.013, 77), t(0.06, -100));
        let p = add([a, b], y, Activation::Relu).expect("ordinary scales");
        let kernel = AddParams {
            input_zero_points: [a.zero_point, b.zero_point],
            output_zero_point: y.zero_point,
            input_multipliers: p.input_multipliers,
            output_multiplier: p.output_multiplier,
            act_min: p.act_min,
            act_max: p.act_max,
        };
        for qa in -128..=127i8 {
            for qb in [-128i8, -5, 60, 127] {
                let real = (a.dequantize(qa) + b.dequantize(qb)).max(0.0);
                let got = kernel.apply(qa, qb) as i32;
                assert!((got - y.quantize(real) as i32).abs() <= 1, "{qa} {qb}");
            }
        }
        assert_eq!(add([t(1e5, 0), a], t(1e-3, 0), Activation::Identity), None);
    }
}
