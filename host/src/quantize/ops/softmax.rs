//! TFLite's int8 SOFTMAX.

use super::super::quantize_multiplier;
use crate::model::Op;

/// Integer bits of a scaled difference.
const INTEGER_BITS: u32 = 5;

/// Constants as TFLite's `PreprocessSoftmaxScaling` and `CalculateInputRadius` make them, with
/// beta 1: differences of inputs become numbers with 5 integer and 26 fraction bits.
///
/// The multiplier is kept from 1 to below 2^30. Scales beyond that (a level of less than 2^-26, or
/// of 16 and more) give the same probabilities to int8's precision.
pub(crate) fn softmax(input_scale: f32) -> Op {
    let fraction_bits = 31 - INTEGER_BITS;
    let real =
        (input_scale as f64 * (1u32 << fraction_bits) as f64).clamp(1.0, (1u32 << 30) as f64 - 1.0);
    let m = quantize_multiplier(real).expect("between 1 and 2^30");
    let left_shift = m.exponent as u8;
    let reach = ((1i64 << INTEGER_BITS) - 1) * (1i64 << fraction_bits);
    Op::Softmax {
        multiplier: m.mantissa,
        left_shift,
        diff_min: -((reach >> left_shift) as i32),
    }
}

#[cfg(test)]
mod tests {
    use qmend_shared::kernels::{self, SoftmaxParams};

    use super::*;

    #[test]
    fn probabilities_are_within_a_level_of_the_real_ones_at_any_scale() {
        for scale in [1e-9f32, 1e-3, 0.05, 0.17, 1.0, 9.0, 15.9, 16.0, 1e6] {
            let Op::Softmax {
                multiplier,
                left_shift,
                diff_min,
            } = softmax(scale)
            else {
                unreachable!()
            };
            let q: [i8; 5] = [-128, 3, 17, 21, 22];
            let p = SoftmaxParams {
                channels: 5,
                multiplier,
                left_shift: left_shift as u32,
                diff_min,
            };
            let mut out = [0i8; 5];
            kernels::softmax(&p, &q, &mut out);
            let exp = q.map(|q| ((q as f64 - 22.0) * scale as f64).exp());
            let sum: f64 = exp.iter().sum();
            for (e, got) in exp.iter().zip(out) {
                let want = e / sum * 256.0 - 128.0;
                assert!(
                    (got as f64 - want).abs() <= 1.0,
                    "{scale}: {got} for {want}"
                );
            }
        }
    }
}
