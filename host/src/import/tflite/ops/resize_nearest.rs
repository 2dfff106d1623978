//! RESIZE_NEAREST_NEIGHBOR: every row and column of the output is one of the input.
//!
//! Which one, TFLite's reference kernel computes in f32; done here once, it is a list of indices.

use super::reshape::same_scale;
use crate::import::tflite::call::Call;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::{Options, options};
use crate::model::Op;

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let options = call.operator.options(options::RESIZE_NEAREST_NEIGHBOR)?;
    let x = call.activation(0)?;
    let y = call.output()?;
    same_scale(&x, &y)?;
    let (rows, columns) = indices(&options, x.shape, y.shape)?;
    call.push(Op::ResizeNearest { rows, columns }, &[x.id], y.id);
    Ok(())
}

/// For every row and every column of an output those of the input. (A second operand says the
/// output's height and width once more and is not read.)
pub(in crate::import::tflite) fn indices(
    options: &Options,
    input: [usize; 3],
    output: [usize; 3],
) -> Result<(Vec<usize>, Vec<usize>), Problem> {
    if input[2] != output[2] {
        return Err(Problem::Damaged(format!(
            "{input:?} resized cannot be {output:?}"
        )));
    }
    let (corners, centers) = (options.i8(0)? != 0, options.i8(1)? != 0);
    let axis = |i: usize| nearest_positions(input[i], output[i], corners, centers);
    Ok((axis(0), axis(1)))
}

/// `GetNearestNeighbor` of TFLite's reference kernel, for every position of an axis.
pub(crate) fn nearest_positions(
    input: usize,
    output: usize,
    align_corners: bool,
    half_pixel_centers: bool,
) -> Vec<usize> {
    let scale = if align_corners && output > 1 {
        (input - 1) as f32 / (output - 1) as f32
    } else {
        input as f32 / output as f32
    };
    let offset = if half_pixel_centers { 0.5f32 } else { 0.0 };
    (0..output)
        .map(|o| {
            let at = (o as f32 + offset) * scale;
            // Half away from zero, as C's round.
            let at = if align_corners {
                at.round()
            } else {
                at.floor()
            };
            (at.max(0.0) as usize).min(input - 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_conventions_choose_the_positions_that_they_are_known_for() {
        assert_eq!(nearest_positions(2, 4, false, false), [0, 0, 1, 1]);
        assert_eq!(nearest_positions(2, 4, false, true), [0, 0, 1, 1]);
        assert_eq!(nearest_positions(2, 4, true, false), [0, 0, 1, 1]);
        assert_eq!(nearest_positions(3, 5, true, false), [0, 1, 1, 2, 2]);
        assert_eq!(nearest_positions(3, 5, false, false), [0, 0, 1, 1, 2]);
        assert_eq!(nearest_positions(3, 5, false, true), [0, 0, 1, 2, 2]);
        assert_eq!(nearest_positions(5, 1, true, false), [0]);
        assert_eq!(nearest_positions(5, 1, false, true), [2]);
        assert_eq!(nearest_positions(1, 3, true, true), [0, 0, 0]);
    }
}
