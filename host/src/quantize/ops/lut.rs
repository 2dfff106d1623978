//! Element-wise functions as tables.

use super::super::tensors::TensorScale;
use crate::graph::Activation;
use crate::import::tflite::kernel_table;
use crate::model::Rounding;

/// The table of TFLM's int8 kernel, so that a model gives its bits; where it has none for the
/// function at these scales, [`lut`]. The two are within a level of each other, HARD_SWISH within
/// two.
pub(crate) fn table(
    function: Activation,
    input: TensorScale,
    output: TensorScale,
) -> Box<[i8; 256]> {
    kernel_table(Rounding::Tflm, function, input, output)
        .unwrap_or_else(|| lut(function, input, output))
}

/// The output level of each of the 256 input levels: the function in f64, rounded to nearest with
/// ties away from zero, clamped to int8.
pub(crate) fn lut(function: Activation, input: TensorScale, output: TensorScale) -> Box<[i8; 256]> {
    let mut table = Box::new([0; 256]);
    for (i, entry) in table.iter_mut().enumerate() {
        let q = (i as i32 - 128) as i8;
        *entry = output.quantize(eval(function, input.dequantize(q)));
    }
    table
}

/// [`Activation::eval`] in f64.
fn eval(function: Activation, x: f64) -> f64 {
    match function {
        Activation::Identity => x,
        Activation::Relu => x.max(0.0),
        Activation::Clip { lo, hi } => x.max(lo as f64).min(hi as f64),
        Activation::LeakyRelu { alpha } => {
            if x < 0.0 {
                alpha as f64 * x
            } else {
                x
            }
        }
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Activation::Tanh => x.tanh(),
        Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::HardSigmoid { alpha, beta } => (alpha as f64 * x + beta as f64).clamp(0.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_follow_the_float_function_to_half_a_level() {
        let x = TensorScale {
            scale: 0.047,
            zero_point: 12,
        };
        let y = TensorScale {
            scale: 0.05,
            zero_point: -60,
        };
        let functions = [
            Activation::Relu,
            Activation::Clip { lo: -1.0, hi: 2.0 },
            Activation::LeakyRelu { alpha: 0.1 },
            Activation::Sigmoid,
            Activation::Tanh,
            Activation::HardSwish,
            Activation::HardSigmoid {
                alpha: 0.2,
                beta: 0.5,
            },
        ];
        for f in functions {
            let table = lut(f, x, y);
            for q in -128..=127i8 {
                let real = f.eval(x.dequantize(q) as f32) as f64;
                let inside = real.clamp(y.dequantize(-128), y.dequantize(127));
                let got = y.dequantize(table[(q as i32 + 128) as usize]);
                assert!(
                    (got - inside).abs() <= 0.5001 * y.scale as f64,
                    "{f:?} {q}: {got} for {real}"
                );
            }
        }
    }

    #[test]
    fn kernels_tables_are_within_a_level_of_the_nearest_ones() {
        let of = |scale, zero_point| TensorScale { scale, zero_point };
        let functions = [
            (Activation::Relu, of(0.06, -128), 1),
            (Activation::LeakyRelu { alpha: 0.1 }, of(0.05, -100), 1),
            (Activation::Sigmoid, of(1.0 / 256.0, -128), 1),
            (Activation::Tanh, of(1.0 / 128.0, 0), 1),
            (Activation::HardSwish, of(0.03, -115), 2),
        ];
        for (f, y, most) in functions {
            for x in [of(0.047, 12), of(0.02, -90), of(0.09, 0)] {
                let kernel = kernel_table(Rounding::Tflm, f, x, y).expect("ordinary scales");
                let nearest = lut(f, x, y);
                let largest = kernel
                    .iter()
                    .zip(&nearest[..])
                    .map(|(a, b)| a.abs_diff(*b))
                    .max();
                assert!(largest <= Some(most), "{f:?}, {x:?}: {largest:?}");
                assert_eq!(table(f, x, y), kernel);
            }
        }
        let clip = Activation::Clip { lo: 0.0, hi: 1.0 };
        assert_eq!(
            kernel_table(Rounding::Tflm, clip, of(0.1, 0), of(0.1, 0)),
            None
        );
        assert_eq!(
            kernel_table(Rounding::Tflm, Activation::Sigmoid, of(0.1, 0), of(0.1, 0)),
            None,
            "the kernel has one output scale"
        );
    }
}
