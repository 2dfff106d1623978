//! Proportions with their uncertainty, and the test for two classifiers on the same samples.

use serde::Serialize;

/// How many of how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Proportion {
    /// Successes.
    pub count: usize,
    /// Trials.
    pub n: usize,
}

impl Proportion {
    /// Counts the positions where two equally long slices agree.
    pub fn agreement<T: PartialEq>(a: &[T], b: &[T]) -> Self {
        debug_assert_eq!(a.len(), b.len());
        Proportion {
            count: a.iter().zip(b).filter(|(x, y)| x == y).count(),
            n: a.len(),
        }
    }

    /// The share, 0 to 1; 0 of nothing.
    pub fn share(self) -> f64 {
        if self.n == 0 {
            0.0
        } else {
            self.count as f64 / self.n as f64
        }
    }

    /// The share in per cent with two decimals, as `86.75 %`.
    pub fn percent(self) -> String {
        format!("{:.2} %", 100.0 * self.share())
    }

    /// Wilson's score interval at 95 % (Wilson 1927): where the true share lies. `(0, 1)` of
    /// nothing.
    pub fn wilson95(self) -> (f64, f64) {
        if self.n == 0 {
            return (0.0, 1.0);
        }
        const Z: f64 = 1.959_963_984_540_054;
        let (n, p) = (self.n as f64, self.share());
        let z2 = Z * Z / n;
        let centre = (p + z2 / 2.0) / (1.0 + z2);
        let half = Z / (1.0 + z2) * (p * (1.0 - p) / n + z2 / (4.0 * n)).sqrt();
        let low = if self.count == 0 {
            0.0
        } else {
            (centre - half).max(0.0)
        };
        let high = if self.count == self.n {
            1.0
        } else {
            (centre + half).min(1.0)
        };
        (low, high)
    }
}

/// McNemar's exact two-sided p-value (McNemar 1947, by the binomial distribution): how likely two
/// equally good classifiers differ at least this unevenly on the samples that only one of them has
/// right. `only_a` and `only_b` count those samples.
pub fn mcnemar_exact(only_a: usize, only_b: usize) -> f64 {
    let (n, k) = (only_a + only_b, only_a.min(only_b));
    if only_a == only_b {
        return 1.0;
    }
    // Sums C(n, i) / 2^n for i = k down to 0, each from the one before: the terms fall, so the sum
    // may stop once they no longer count.
    let mut term = (ln_binomial(n, k) - n as f64 * std::f64::consts::LN_2).exp();
    let mut sum = 0.0;
    for i in (0..=k).rev() {
        sum += term;
        if term < sum * 1e-17 {
            break;
        }
        term *= i as f64 / (n - i + 1) as f64;
    }
    (2.0 * sum).min(1.0)
}

/// Logarithm of the binomial coefficient.
fn ln_binomial(n: usize, k: usize) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Logarithm of n!: summed where n is small, else Stirling's series, whose error is below
/// 1/(1680 n^7).
fn ln_factorial(n: usize) -> f64 {
    if n < 64 {
        return (2..=n).map(|i| (i as f64).ln()).sum();
    }
    let x = n as f64;
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    x * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI * x).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, relative: f64) {
        assert!((a - b).abs() <= relative * b.abs(), "{a} is not {b}");
    }

    #[test]
    fn wilson_intervals_are_those_of_the_literature() {
        // Computed with exact rational p and z = 1.959963984540054.
        for (count, n, low, high) in WILSON {
            let (a, b) = Proportion { count, n }.wilson95();
            assert!(
                (a - low).abs() < 1e-6 && (b - high).abs() < 1e-6,
                "{count}/{n}: {a} {b}"
            );
        }
        assert_eq!(Proportion { count: 0, n: 0 }.wilson95(), (0.0, 1.0));
    }

    #[test]
    fn mcnemar_is_the_binomial_tail() {
        for (a, b, p) in MCNEMAR {
            near(mcnemar_exact(a, b), p, 1e-9);
            near(mcnemar_exact(b, a), p, 1e-9);
        }
        assert_eq!(mcnemar_exact(0, 0), 1.0);
        assert_eq!(mcnemar_exact(7, 7), 1.0);
        assert!(mcnemar_exact(3000, 0) == 0.0);
    }

    #[test]
    fn stirling_takes_over_smoothly() {
        let direct: f64 = (2..=100).map(|i| (i as f64).ln()).sum();
        near(ln_factorial(100), direct, 1e-14);
        near(ln_factorial(64) - ln_factorial(63), 64f64.ln(), 1e-12);
    }

    #[test]
    fn agreement_counts_equal_positions() {
        let p = Proportion::agreement(&[1, 2, 3, 4], &[1, 0, 3, 4]);
        assert_eq!((p.count, p.n, p.percent().as_str()), (3, 4, "75.00 %"));
    }

    const WILSON: [(usize, usize, f64, f64); 5] = [
        (8, 10, 0.4901625, 0.9433178),
        (0, 10, 0.0000000, 0.2775328),
        (10, 10, 0.7224672, 1.0000000),
        (8675, 10000, 0.8607137, 0.8740040),
        (1, 3, 0.0614919, 0.7923404),
    ];
    // Exact rational sums.
    const MCNEMAR: [(usize, usize, f64); 6] = [
        (1, 9, 0.021484375),
        (5, 15, 0.04138946533203125),
        (59, 6, 4.964650327128617e-12),
        (300, 350, 0.0545299417589238),
        (4, 5, 1.0),
        (2000, 2100, 0.12206497999113813),
    ];
}
