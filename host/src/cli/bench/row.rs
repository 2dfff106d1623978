//! One line of the table: a method at a width, from one rounding, with one seed.

use serde::{Deserialize, Serialize};

use crate::report::{Proportion, mcnemar_exact};

/// All that was measured; everything else in the reports follows from it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// SHA-256 of all that decides the row; see [`super::run`].
    pub key: String,
    pub model: String,
    /// `4-bit`, `4-bit per tensor`, or `as given`.
    pub width: String,
    /// As asked for, `best` included.
    pub rounding: String,
    /// The rounding that `best` took.
    pub started_from: String,
    pub method: String,
    pub seed: u64,
    /// Right answers on the test set: float, integer before, integer after.
    pub test_samples: usize,
    pub float_correct: usize,
    pub before_correct: usize,
    pub after_correct: usize,
    /// Test samples that only the model before, and only the repaired one, has right.
    pub only_before: usize,
    pub only_after: usize,
    /// Test samples with the float network's class, before and after.
    #[serde(default)]
    pub agreeing: [usize; 2],
    /// Tests that pass before and after, of how many.
    pub repair: [usize; 3],
    pub holdout: [usize; 3],
    /// Biases, multipliers, weights that differ.
    pub edits: [usize; 3],
    /// Repair tests mended, and lost.
    pub repaired: usize,
    pub lost: usize,
    /// Programs without an answer.
    pub unsolved: usize,
    /// Why the repair ended early, if it did.
    pub stopped: Option<String>,
    pub image_bytes: usize,
    /// Wall time of calibration and rounding, and of the repair.
    pub quantize_seconds: f64,
    pub seconds: f64,
    /// Processor time of the repair, all threads.
    pub cpu_seconds: Option<f64>,
    /// Most memory of the whole process during the repair, data included.
    pub peak_bytes: Option<u64>,
}

/// A loss against float below this share is too small to speak of a part of it.
pub const LEAST_LOSS: f64 = 0.005;

impl Row {
    pub fn float(&self) -> Proportion {
        self.of(self.float_correct)
    }

    pub fn before(&self) -> Proportion {
        self.of(self.before_correct)
    }

    pub fn after(&self) -> Proportion {
        self.of(self.after_correct)
    }

    fn of(&self, count: usize) -> Proportion {
        Proportion {
            count,
            n: self.test_samples,
        }
    }

    /// Share of the loss against float that was won back; `None` where little was lost.
    pub fn won_back(&self) -> Option<f64> {
        let lost = self.float().share() - self.before().share();
        (lost > LEAST_LOSS).then(|| (self.after().share() - self.before().share()) / lost)
    }

    /// McNemar's exact p of the repaired model against the one before.
    pub fn p(&self) -> f64 {
        mcnemar_exact(self.only_before, self.only_after)
    }

    /// What rows of several seeds have in common.
    pub fn group(&self) -> [&str; 4] {
        [&self.model, &self.width, &self.rounding, &self.method]
    }
}

/// The share of what the rows of a group lost together that was won back; `None` where little was lost.
pub fn won_back_together(group: &[&Row]) -> Option<f64> {
    let sum = |f: fn(&Row) -> Proportion| group.iter().map(|r| f(r).share()).sum::<f64>();
    let [float, before, after] = [Row::float, Row::before, Row::after].map(sum);
    let lost = float - before;
    (lost > LEAST_LOSS * group.len() as f64).then(|| (after - before) / lost)
}

/// Mean and range of something over seeds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub mean: f64,
    pub least: f64,
    pub most: f64,
    pub n: usize,
}

impl Spread {
    /// Of the values that there are; `None` where there are none.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut s = Spread {
            mean: 0.0,
            least: f64::INFINITY,
            most: f64::NEG_INFINITY,
            n: 0,
        };
        for v in values {
            s.mean += v;
            s.least = s.least.min(v);
            s.most = s.most.max(v);
            s.n += 1;
        }
        s.mean /= s.n as f64;
        (s.n > 0).then_some(s)
    }
}

/// Rows of one group, in the order in which the groups first appear.
pub fn groups(rows: &[Row]) -> Vec<Vec<&Row>> {
    let mut found: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match found.iter_mut().find(|g| g[0].group() == row.group()) {
            Some(g) => g.push(row),
            None => found.push(vec![row]),
        }
    }
    found
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A row with 80 % before, `after` of 100 after, and 90 % float.
    pub fn row(method: &str, seed: u64, after: usize) -> Row {
        Row {
            key: format!("{method}{seed}"),
            model: "net".into(),
            width: "4-bit".into(),
            rounding: "nearest".into(),
            started_from: "nearest".into(),
            method: method.into(),
            seed,
            test_samples: 100,
            float_correct: 90,
            before_correct: 80,
            after_correct: after,
            only_before: 1,
            only_after: after + 1 - 80,
            agreeing: [82, 92],
            repair: [10, 20, 30],
            holdout: [11, 12, 30],
            edits: [1, 2, 3],
            repaired: 12,
            lost: 2,
            unsolved: 0,
            stopped: None,
            image_bytes: 1000,
            quantize_seconds: 0.5,
            seconds: 1.5,
            cpu_seconds: Some(2.5),
            peak_bytes: Some(32 << 20),
        }
    }

    #[test]
    fn shares_follow_from_the_counts() {
        let r = row("margin", 0, 85);
        assert!((r.won_back().unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(r.p(), mcnemar_exact(1, 6));
        let little = Row {
            before_correct: 90,
            ..r
        };
        assert_eq!(little.won_back(), None);
    }

    #[test]
    fn what_a_group_won_back_is_of_what_it_lost_together() {
        let little = Row {
            before_correct: 90,
            ..row("margin", 1, 88)
        };
        let some = row("margin", 0, 85);
        // Ten lost, then 5 won and 2 lost more.
        let together = won_back_together(&[&some, &little]).unwrap();
        assert!((together - 0.3).abs() < 1e-12);
        assert_eq!(won_back_together(&[&little]), None);
    }

    #[test]
    fn groups_gather_seeds_and_spreads_span_them() {
        let rows = [row("a", 0, 85), row("b", 0, 86), row("a", 1, 87)];
        let g = groups(&rows);
        assert_eq!(g.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        let s = Spread::of(g[0].iter().map(|r| r.after().share())).unwrap();
        assert!((s.mean - 0.86).abs() < 1e-12);
        assert_eq!((s.least, s.most, s.n), (0.85, 0.87, 2));
        assert_eq!(Spread::of([]), None);
    }
}
