//! Which model is the result: the start, or one of those that strategies ended with.

use super::state::Snapshot;
use super::{Edits, RepairConfig, Tests};
use crate::classes::classes;
use crate::engine::{Engine, EngineError};

/// The result, and why it is the start again, where edits were accepted but are not kept.
pub struct Choice {
    /// The model with what is known of it.
    pub snapshot: Snapshot,
    /// Why the edits are not kept.
    pub withdrawn: Option<&'static str>,
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
    holdout: &Tests,
    config: &RepairConfig,
) -> Result<Choice, EngineError> {
    let of = |model: &crate::model::QuantizedModel| -> Result<Vec<usize>, EngineError> {
        let outputs = model.tensor(model.output).elements();
        Ok(classes(
            &Engine::new(model)?.run(&holdout.integers),
            outputs,
        ))
    };
    let first = of(&start.model)?;
    let correct = |found: &[usize]| {
        holdout.labels.as_ref().map_or(0, |labels| {
            found.iter().zip(labels).filter(|(a, b)| a == b).count()
        })
    };
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
        let found = of(&candidate.model)?;
        let count = |better: &[usize], worse: &[usize]| {
            (0..holdout.len())
                .filter(|&i| better[i] == holdout.targets[i] && worse[i] != holdout.targets[i])
                .count()
        };
        let (mended, broken) = (count(&found, &first), count(&first, &found));
        if mended < broken
            || config.significance < 1.0 && sign_test(mended, broken) > config.significance
        {
            withdrawn = Some("the gain on the holdout set is within chance");
            continue;
        }
        if config.significance < 1.0 && correct(&found) < correct(&first) {
            withdrawn = Some("the holdout set's labels are met less often than before");
            continue;
        }
        let merit = candidate.score.holdout + correct(&found);
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
}
