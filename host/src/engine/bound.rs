//! The proof that an accumulator stays in 32 bits.

use super::EngineError;
use crate::model::Multiplier;

/// Largest magnitude that an accumulator can reach on the way to any output:
/// `|bias| + sum |w| * max |x - zero point|` over all int8 `x`.
///
/// Padding contributes zero and partial sums are below the sum of magnitudes, so this bounds every
/// intermediate value in any order of summation.
pub fn accumulator_bound(row: &[i8], bias: i32, input_zero_point: i8) -> i64 {
    let z = input_zero_point as i64;
    let reach = (127 - z).max(z + 128);
    let weights: i64 = row.iter().map(|&w| (w as i64).abs()).sum();
    (bias as i64).abs() + weights * reach
}

/// Proves the bound for one channel: the accumulator fits in i32, and so does its left shift where
/// the multiplier is one or more (the rescaling shifts in 32 bits before it multiplies).
pub fn check_channel(
    node: &str,
    channel: usize,
    row: &[i8],
    bias: i32,
    input_zero_point: i8,
    multiplier: Multiplier,
) -> Result<(), EngineError> {
    let shift = multiplier.exponent.max(0) as u32;
    let bound = (accumulator_bound(row, bias, input_zero_point) as i128) << shift;
    if bound > i32::MAX as i128 {
        return Err(EngineError::AccumulatorBound {
            node: node.to_string(),
            channel,
            bound,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_reached_by_the_worst_input() {
        let row = [127, -128, 3];
        let worst: i64 = row.iter().map(|&w| (w as i64).abs() * 255).sum();
        assert_eq!(accumulator_bound(&row, -7, -128), worst + 7);
        assert_eq!(accumulator_bound(&row, 0, 127), worst);
        assert_eq!(accumulator_bound(&row, 0, 0), 258 * 128);
    }

    #[test]
    fn one_past_the_limit_is_refused_with_node_and_channel() {
        let m = Multiplier {
            mantissa: 1 << 30,
            exponent: 0,
        };
        assert!(check_channel("c", 3, &[0], i32::MAX, 0, m).is_ok());
        let err = check_channel("c", 3, &[1], i32::MAX - 127, 0, m).expect_err("128 more");
        assert!(err.to_string().contains("'c', output channel 3"), "{err}");
        let shifted = Multiplier {
            mantissa: 1 << 30,
            exponent: 1,
        };
        assert!(check_channel("c", 3, &[0], (1 << 30) - 1, 0, shifted).is_ok());
        assert!(check_channel("c", 3, &[0], 1 << 30, 0, shifted).is_err());
    }
}
