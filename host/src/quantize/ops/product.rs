//! TFLite's int8 MUL.

use super::super::quantize_multiplier;
use super::super::tensors::TensorScale;
use crate::graph::Activation;
use crate::model::Product;

/// The product of two tensors; `None` where the ratio of scales does not fit (the output's range is
/// far narrower than the inputs') or the activation does not only clamp.
pub(crate) fn product(
    inputs: [TensorScale; 2],
    output: TensorScale,
    activation: Activation,
) -> Option<Product> {
    let [a, b] = inputs.map(|t| t.scale as f64);
    let (act_min, act_max) = output.clamp_range(activation)?;
    // A product of two differences is below 2^17, so that this shift keeps it in 32 bits.
    let multiplier =
        quantize_multiplier(a * b / output.scale as f64).filter(|m| m.exponent <= 14)?;
    Some(Product {
        multiplier,
        act_min,
        act_max,
        constant: None,
    })
}

#[cfg(test)]
mod tests {
    use qmend_shared::kernels::MulParams;

    use super::*;

    #[test]
    fn products_are_within_a_level_of_the_real_ones() {
        let t = |scale, zero_point| TensorScale { scale, zero_point };
        let (a, b, y) = (t(0.05, -10), t(1.0 / 256.0, -128), t(0.04, 3));
        let p = product([a, b], y, Activation::Identity).expect("ordinary scales");
        let kernel = MulParams {
            input_zero_points: [a.zero_point, b.zero_point],
            output_zero_point: y.zero_point,
            multiplier: p.multiplier,
            act_min: p.act_min,
            act_max: p.act_max,
        };
        for qa in -128..=127i8 {
            for qb in -128..=127i8 {
                let real = a.dequantize(qa) * b.dequantize(qb);
                let got = kernel.apply(qa, qb) as i32;
                assert!((got - y.quantize(real) as i32).abs() <= 1, "{qa} {qb}");
            }
        }
        assert_eq!(
            product([t(1e5, 0), a], t(1e-3, 0), Activation::Identity),
            None
        );
    }
}
