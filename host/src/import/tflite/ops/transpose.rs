//! TRANSPOSE with the batch in its place.

use super::reshape::same_scale;
use crate::import::tflite::call::Call;
use crate::import::tflite::problem::Problem;
use crate::model::Op;

pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    let x = call.activation(0)?;
    let perm = call.constant(1)?.integers()?;
    let y = call.output()?;
    same_scale(&x, &y)?;
    let perm = hwc_permutation(&perm, x.rank)?;
    if perm.map(|p| x.shape[p]) != y.shape {
        return Err(Problem::Damaged(format!(
            "axes {perm:?} (of height, width, channels) of {:?} do not give {:?}",
            x.shape, y.shape
        )));
    }
    call.push(Op::Transpose { perm }, &[x.id], y.id);
    Ok(())
}

/// A permutation of the file's axes as one of height, width and channels.
pub(in crate::import::tflite) fn hwc_permutation(
    perm: &[i32],
    rank: usize,
) -> Result<[usize; 3], Problem> {
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    if perm.len() != rank || sorted.iter().enumerate().any(|(i, p)| *p != i as i32) {
        return Err(Problem::Damaged(format!(
            "{perm:?} is no permutation of {rank} axes"
        )));
    }
    // The file's axes are the last of [batch, height, width, channels]; the batch is dropped.
    if rank > 3 && perm[0] != 0 {
        return Err(Problem::unsupported(
            format!("it moves the batch: {perm:?}"),
            "leave the first axis in its place",
        ));
    }
    let mut to = [0, 1, 2];
    for (i, p) in perm.iter().enumerate() {
        if let (Some(i), Some(p)) = (
            (i + 3).checked_sub(rank),
            (*p as usize + 3).checked_sub(rank),
        ) {
            to[i] = p;
        }
    }
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permutations_lose_the_batch_and_gain_the_absent_axes() {
        assert_eq!(hwc_permutation(&[0, 3, 1, 2], 4), Ok([2, 0, 1]));
        assert_eq!(hwc_permutation(&[0, 2, 1], 3), Ok([0, 2, 1]));
        assert_eq!(hwc_permutation(&[0, 1], 2), Ok([0, 1, 2]));
        assert_eq!(hwc_permutation(&[0], 1), Ok([0, 1, 2]));
        assert_eq!(hwc_permutation(&[1, 0], 2), Ok([0, 2, 1]));
        assert_eq!(hwc_permutation(&[2, 0, 1], 3), Ok([2, 0, 1]));
        assert!(hwc_permutation(&[1, 0, 2, 3], 4).is_err());
        assert!(hwc_permutation(&[0, 1, 1], 3).is_err());
        assert!(hwc_permutation(&[0, 1], 3).is_err());
    }
}
