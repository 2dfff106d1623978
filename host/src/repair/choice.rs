//! Which model is the result: the start, or one of those that strategies ended with.

use super::state::Snapshot;
use super::teacher::Against;
use super::{Edits, RepairConfig, Tests, logits};
use crate::classes::classes;
use crate::engine::{Engine, EngineError};
use crate::model::QuantizedModel;

/// The result, and why it is the start again, where edits were accepted but are not kept.
pub struct Choice {
    /// The model with what is known of it.
    pub snapshot: Snapshot,
    /// Why the edits are not kept.
    pub withdrawn: Option<&'static str>,
}

/// The holdout set, and the teacher's class probabilities for it, `[n][classes]`.
pub struct Judge<'a> {
    pub holdout: &'a Tests,
    pub teacher: &'a [f32],
}

/// What a model does on the holdout set.
struct Found {
    classes: Vec<usize>,
    /// From the teacher's probabilities.
    divergences: Vec<f64>,
    /// Labels met.
    correct: usize,
}

impl Judge<'_> {
    fn look(&self, model: &QuantizedModel) -> Result<Found, EngineError> {
        let at = logits(model);
        let found = Engine::new(model)?.run_keep(&self.holdout.integers, &[at, model.output]);
        let [z, y] = &found[..] else {
            unreachable!("two tensors were asked for")
        };
        let tensor = model.tensor(at);
        let against = Against {
            logits: z,
            scale: tensor.scale,
            teacher: self.teacher,
            classes: tensor.elements(),
        };
        let classes = classes(y, model.tensor(model.output).elements());
        let labels = self.holdout.labels.iter().flatten();
        Ok(Found {
            correct: classes.iter().zip(labels).filter(|(a, b)| a == b).count(),
            divergences: against.divergences(),
            classes,
        })
    }

    /// Why the gain of `found` over `first` is none, if it is none.
    ///
    /// Beyond chance is what the count of mended and of broken tests says by itself, or what the
    /// count of tests that came nearer to the teacher's probabilities says where more are mended
    /// than broken: of a hundred tests a handful change their class, and nearly all their
    /// probabilities.
    fn fault(&self, first: &Found, found: &Found, significance: f64) -> Option<&'static str> {
        let count = |better: &Found, worse: &Found| {
            let of = |f: &Found, i: usize| f.classes[i] == self.holdout.targets[i];
            (0..self.holdout.len())
                .filter(|&i| of(better, i) && !of(worse, i))
                .count()
        };
        let (mended, broken) = (count(found, first), count(first, found));
        if mended < broken {
            return Some("it breaks more of the holdout set than it mends");
        }
        if significance >= 1.0 {
            return None;
        }
        let pairs = || found.divergences.iter().zip(&first.divergences);
        let nearer = pairs().filter(|(a, b)| a < b).count();
        let farther = pairs().filter(|(a, b)| a > b).count();
        if sign_test(mended, broken) > significance
            && (mended == broken || sign_test(nearer, farther) > significance)
        {
            return Some("the gain on the holdout set is within chance");
        }
        (found.correct < first.correct)
            .then_some("the holdout set's labels are met less often than before")
    }
}

/// Of the candidates that are better than the start on the holdout set beyond chance, and no worse in
/// its labels where those are known, the best; ties go to the fewest edits. In strict mode only those
/// that lose no test which passed at the start. The start, where there is none.
///
/// # Errors
/// [`EngineError`] where a model cannot be run.
pub fn choose(
    start: &Snapshot,
    candidates: Vec<Snapshot>,
    judge: &Judge<'_>,
    config: &RepairConfig,
) -> Result<Choice, EngineError> {
    let first = judge.look(&start.model)?;
    let mut withdrawn = None;
    let mut best: Option<(usize, usize, Snapshot)> = None;
    for candidate in candidates {
        let e = Edits::between(&start.model, &candidate.model);
        let edits = e.biases + e.multipliers + e.weights;
        let loses = |(was, is): (&bool, &bool)| *was && !*is;
        let mut passing = start.passing.iter().zip(&candidate.passing);
        if edits == 0 || config.strict && passing.any(loses) {
            continue;
        }
        let found = judge.look(&candidate.model)?;
        if let Some(fault) = judge.fault(&first, &found, config.significance) {
            withdrawn = Some(fault);
            continue;
        }
        let merit = candidate.score.holdout + found.correct;
        if best
            .as_ref()
            .is_none_or(|(m, e, _)| (merit, *e) > (*m, edits))
        {
            best = Some((merit, edits, candidate));
        }
    }
    Ok(match best {
        Some((_, _, snapshot)) => Choice {
            snapshot,
            withdrawn: None,
        },
        None => Choice {
            snapshot: start.clone(),
            withdrawn,
        },
    })
}

/// Probability that at least `mended` of `mended + broken` fair coins show heads.
fn sign_test(mended: usize, broken: usize) -> f64 {
    let n = mended + broken;
    // Terms of the binomial from the largest count down, relative to 2^-n.
    let mut log_term = -(n as f64) * 2f64.ln();
    let mut sum = 0.0;
    for lost in 0..=broken {
        sum += log_term.exp();
        log_term += ((n - lost) as f64 / (lost + 1) as f64).ln();
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sign_test_is_the_tail_of_fair_coins() {
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        close(sign_test(0, 0), 1.0);
        close(sign_test(1, 0), 0.5);
        close(sign_test(5, 0), 1.0 / 32.0);
        close(sign_test(2, 1), 0.5);
        close(sign_test(0, 3), 1.0);
        // 8, 9 or 10 heads of 10.
        close(sign_test(8, 2), 56.0 / 1024.0);
        assert!(sign_test(3000, 100) < 1e-9);
    }

    #[test]
    fn a_gain_counts_where_classes_or_with_more_mended_than_broken_probabilities_say_so() {
        let n = 100;
        let holdout = Tests {
            reals: Vec::new(),
            integers: Vec::new(),
            targets: vec![1; n],
            sample: 0,
            extra: Vec::new(),
            labels: None,
        };
        let judge = Judge {
            holdout: &holdout,
            teacher: &[],
        };
        // So many tests with the wanted class, the first of them; so many with a lower divergence.
        let found = |right: usize, nearer: usize, correct| Found {
            classes: (0..n).map(|i| usize::from(i < right)).collect(),
            divergences: (0..n).map(|i| if i < nearer { 0.5 } else { 1.5 }).collect(),
            correct,
        };
        let first = Found {
            divergences: vec![1.0; n],
            ..found(90, 0, 80)
        };
        let fault = |f: Found| judge.fault(&first, &f, 0.05);
        assert_eq!(fault(found(96, 0, 80)), None, "6 of 6 coins");
        let chance = Some("the gain on the holdout set is within chance");
        assert_eq!(fault(found(91, 50, 80)), chance);
        assert_eq!(fault(found(91, 70, 80)), None);
        assert_eq!(fault(found(90, 100, 80)), chance, "no test is mended");
        assert!(fault(found(89, 100, 80)).unwrap().contains("breaks more"));
        assert!(fault(found(96, 100, 79)).unwrap().contains("labels"));
        assert_eq!(judge.fault(&first, &found(90, 0, 0), 1.0), None);
    }
}
