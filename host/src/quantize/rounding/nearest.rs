//! The nearest level, ties away from zero.

use super::Problem;

pub(super) fn round(p: &Problem) -> Vec<i8> {
    p.weights.iter().map(|&w| p.level(w) as i8).collect()
}
