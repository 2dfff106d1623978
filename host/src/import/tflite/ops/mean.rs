//! MEAN over height and width.
//!
//! TFLM makes the fixed-point number of `input scale / output scale` and then divides its mantissa,
//! shifted left by `floor(log2 n)`, by the number `n` of elements, cutting off the rest. So the
//! mantissa can be below 2^30, and normalizing it would give other bits.

use crate::import::tflite::call::Call;
use crate::import::tflite::fixed_point::multiplier;
use crate::import::tflite::problem::Problem;
use crate::model::{Multiplier, Op};

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let x = call.activation(0)?;
    let axes = call.constant(1)?.integers()?;
    let y = call.output()?;
    let reduced = reduced_axes(&axes, x.rank)?;
    // The three model axes are the last of the file's.
    let is_reduced = |i: usize| {
        (i + x.rank)
            .checked_sub(3)
            .is_some_and(|axis| reduced[axis])
    };
    let wanted = |i: usize| i < 2;
    if (0..3).any(|i| x.shape[i] > 1 && is_reduced(i) != wanted(i)) || y.shape != [1, 1, x.shape[2]]
    {
        return Err(Problem::unsupported(
            format!("it takes the mean of {:?} over axes {axes:?}", x.shape),
            "take means over height and width together",
        ));
    }
    let multiplier = divided(
        multiplier(x.scale as f64 / y.scale as f64)?,
        x.shape[0] * x.shape[1],
    )?;
    call.push(Op::Mean { multiplier }, &[x.id], y.id);
    Ok(())
}

/// Which of the file's axes (of at most four) are reduced; negative ones count from the end.
pub(in crate::import::tflite) fn reduced_axes(
    axes: &[i32],
    rank: usize,
) -> Result<[bool; 4], Problem> {
    let mut reduced = [false; 4];
    for &axis in axes {
        let positive = if axis < 0 {
            axis as i64 + rank as i64
        } else {
            axis as i64
        };
        match usize::try_from(positive) {
            Ok(axis) if axis < rank => reduced[axis] = true,
            _ => {
                return Err(Problem::Damaged(format!(
                    "axis {axis} is none of its input's {rank}"
                )));
            }
        }
    }
    Ok(reduced)
}

/// A multiplier over the number of elements.
fn divided(m: Multiplier, count: usize) -> Result<Multiplier, Problem> {
    let exponent = m.exponent as i64;
    let shift = (count.ilog2() as i64).min(32).min(31 + exponent);
    let mantissa = ((m.mantissa as i64) << shift) / count as i64;
    match (i32::try_from(mantissa), i8::try_from(exponent - shift)) {
        (Ok(mantissa), Ok(exponent)) => Ok(Multiplier { mantissa, exponent }),
        _ => Err(Problem::Damaged(format!(
            "a mean over {count} elements has no multiplier"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mantissa_is_divided_and_cut_off() {
        let one = Multiplier {
            mantissa: 1 << 30,
            exponent: 1,
        };
        assert_eq!(
            divided(one, 49),
            Ok(Multiplier {
                mantissa: (1i64 << 35).div_euclid(49) as i32,
                exponent: -4
            })
        );
        assert_eq!(
            divided(one, 64),
            Ok(Multiplier {
                mantissa: 1 << 30,
                exponent: -5
            })
        );
        assert_eq!(divided(one, 1), Ok(one));
        let tiny = Multiplier {
            mantissa: 1 << 30,
            exponent: -30,
        };
        assert_eq!(
            divided(tiny, 64),
            Ok(Multiplier {
                mantissa: 1 << 25,
                exponent: -31
            }),
            "the shift stops at -31"
        );
    }
}
