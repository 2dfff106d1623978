//! Which operator of TFLite has a table.

use crate::graph::Activation;
use crate::import::tflite::{kernel_table, schema_codes as code};
use crate::model::{Rounding, Tensor};
use crate::quantize::TensorScale;

/// Slopes below zero that are tried first: those that people choose.
const SLOPES: [f32; 8] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.3, 0.5];

/// The operator whose kernel has this table between two tensors, and LEAKY_RELU's slope. The
/// importer's arithmetic decides.
pub(super) fn table_operator(
    rounding: Rounding,
    table: &[i8; 256],
    x: &Tensor,
    y: &Tensor,
) -> Option<(i32, Option<f32>)> {
    let of = |t: &Tensor| TensorScale {
        scale: t.scale,
        zero_point: t.zero_point,
    };
    let (x, y) = (of(x), of(y));
    let is = |f: Activation| kernel_table(rounding, f, x, y).is_some_and(|t| *t == *table);
    let plain = [
        (Activation::Relu, code::RELU),
        (Activation::Sigmoid, code::LOGISTIC),
        (Activation::Tanh, code::TANH),
        (Activation::HardSwish, code::HARD_SWISH),
    ];
    if let Some((_, found)) = plain.into_iter().find(|(f, _)| is(*f)) {
        return Some((found, None));
    }
    // RELU6's kernel clamps and does not rescale.
    if x == y && *table == relu6(y) {
        return Some((code::RELU6, None));
    }
    SLOPES
        .into_iter()
        .chain(slope(rounding, table, x, y))
        .find(|&alpha| is(Activation::LeakyRelu { alpha }))
        .map(|alpha| (code::LEAKY_RELU, Some(alpha)))
}

/// The table of RELU6 within one scale.
fn relu6(t: TensorScale) -> [i8; 256] {
    let end = (6.0 / t.scale).round() + f32::from(t.zero_point);
    let end = end.clamp(-128.0, 127.0) as i8;
    std::array::from_fn(|i| ((i as i32 - 128) as i8).clamp(t.zero_point.min(end), end))
}

/// Steps after which two slopes that still differ are the same to float32.
const HALVINGS: usize = 64;

/// The slope below zero that gives a table, if one does.
///
/// Every entry falls as the slope rises, so of two tables with one sum either both are equal or one
/// is no LEAKY_RELU's; the sum is found by bisection.
fn slope(rounding: Rounding, table: &[i8; 256], x: TensorScale, y: TensorScale) -> Option<f32> {
    let sum = |t: &[i8; 256]| t.iter().map(|v| i32::from(*v)).sum::<i32>();
    let wanted = sum(table);
    // Beyond this a single step of the input leaves int8.
    let steepest = 256.0 * y.scale as f64 / x.scale as f64;
    let (mut least, mut most) = (-steepest, steepest);
    for _ in 0..HALVINGS {
        let alpha = ((least + most) / 2.0) as f32;
        let found = sum(&*kernel_table(
            rounding,
            Activation::LeakyRelu { alpha },
            x,
            y,
        )?);
        match found.cmp(&wanted) {
            std::cmp::Ordering::Equal => return Some(alpha),
            std::cmp::Ordering::Greater => least = f64::from(alpha),
            std::cmp::Ordering::Less => most = f64::from(alpha),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(scale: f32, zero_point: i8) -> Tensor {
        Tensor {
            name: "t".into(),
            shape: [1, 1, 1],
            scale,
            zero_point,
        }
    }

    #[test]
    fn kernels_are_found_by_their_tables_whatever_the_slope() {
        let (x, y) = (tensor(0.047, 12), tensor(0.05, -100));
        let of = |t: &Tensor| TensorScale {
            scale: t.scale,
            zero_point: t.zero_point,
        };
        for alpha in [0.01, 0.1234, 0.617, -0.3, 1.5] {
            let f = Activation::LeakyRelu { alpha };
            let table = kernel_table(Rounding::Tflm, f, of(&x), of(&y)).expect("ordinary scales");
            let (found, slope) = table_operator(Rounding::Tflm, &table, &x, &y)
                .unwrap_or_else(|| panic!("no slope for {alpha}"));
            assert_eq!(found, code::LEAKY_RELU);
            let slope = slope.expect("LEAKY_RELU has one");
            assert!((slope - alpha).abs() < 0.03, "{alpha}: {slope}");
        }
        let sigmoid = tensor(1.0 / 256.0, -128);
        let table = kernel_table(Rounding::Tflm, Activation::Sigmoid, of(&x), of(&sigmoid))
            .expect("its scale");
        let found = table_operator(Rounding::Tflm, &table, &x, &sigmoid);
        assert_eq!(found, Some((code::LOGISTIC, None)));
        assert_eq!(
            table_operator(Rounding::Tflm, &relu6(of(&y)), &y, &y),
            Some((code::RELU6, None))
        );
        let mut odd = table.clone();
        odd[40] ^= 64;
        assert_eq!(table_operator(Rounding::Tflm, &odd, &x, &sigmoid), None);
    }
}
