//! From outputs to classes: the one rule that host, device and reports share.

/// Index of the largest value, the first of equals; 0 for an empty slice.
///
/// A NaN beats nothing, so a class always exists.
pub fn argmax<T: PartialOrd + Copy>(row: &[T]) -> usize {
    let mut best = 0;
    for i in 1..row.len() {
        if row[i] > row[best] {
            best = i;
        }
    }
    best
}

/// The class of every row of `outputs`, `[n][classes]`.
pub fn classes<T: PartialOrd + Copy>(outputs: &[T], classes: usize) -> Vec<usize> {
    outputs.chunks_exact(classes.max(1)).map(argmax).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_values_wins() {
        assert_eq!(argmax(&[1i8, 7, 7, 3]), 1);
        assert_eq!(classes(&[0.0f32, 1.0, 2.0, 2.0], 2), [1, 0]);
    }
}
