//! Whole steps for a program's fractions of steps, drawn at random (Raghavan, Thompson, "Randomized
//! rounding", Combinatorica 1987).

use rand::Rng;
use rand::rngs::StdRng;

/// How many roundings are drawn for one that is tried.
const DRAWN: usize = 16;

/// The `count` best by `cost` of many roundings of `solution`, best first, all different and none of them
/// nothing: every entry becomes a whole step in its direction with its size as probability, so that a rounding is on
/// average what the program asked for.
pub fn roundings(
    solution: &[f64],
    count: usize,
    cost: impl Fn(&[f64]) -> f64,
    rng: &mut StdRng,
) -> Vec<Vec<f64>> {
    let mut all: Vec<(f64, Vec<f64>)> = Vec::new();
    for _ in 0..count * DRAWN {
        let drawn: Vec<f64> = solution
            .iter()
            .map(|d| match rng.random::<f64>() < d.abs() {
                true => d.signum(),
                false => 0.0,
            })
            .collect();
        if drawn.iter().any(|d| *d != 0.0) && all.iter().all(|(_, other)| *other != drawn) {
            all.push((cost(&drawn), drawn));
        }
    }
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all.truncate(count);
    all.into_iter().map(|(_, drawn)| drawn).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn roundings_are_whole_different_ordered_by_cost_and_leave_what_is_whole() {
        let solution = [0.5, -0.25, 1.0, 0.0, -0.75, 0.1];
        let cost = |d: &[f64]| {
            let gap = |(a, b): (&f64, &f64)| (a - b).abs();
            d.iter().zip(&solution).map(gap).sum()
        };
        let mut rng = StdRng::seed_from_u64(1);
        let found = roundings(&solution, 6, cost, &mut rng);
        assert_eq!(found.len(), 6);
        for (i, d) in found.iter().enumerate() {
            assert_eq!((d[2], d[3]), (1.0, 0.0));
            assert!(
                d.iter()
                    .zip(&solution)
                    .all(|(d, s)| *d == 0.0 || *d == s.signum())
            );
            assert!(
                found[..i]
                    .iter()
                    .all(|other| other != d && cost(other) <= cost(d))
            );
        }
        assert!(roundings(&[0.0, 0.0], 3, cost, &mut rng).is_empty());
        assert!(roundings(&solution, 0, cost, &mut rng).is_empty());
    }
}
