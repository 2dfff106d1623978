//! Which of the integers that a descent came by are worth keeping.

use crate::repair::state::Proposal;

/// How well a snapshot does on the holdout set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quality {
    /// Mean divergence of its probabilities from the teacher's, in nats.
    pub divergence: f64,
    /// Samples whose label it meets; 0 where there are no labels.
    pub correct: usize,
}

/// The best snapshots so far.
pub struct Snapshots {
    start: Quality,
    best: Option<(Quality, Proposal)>,
    gentle: Option<(Quality, Proposal)>,
}

impl Snapshots {
    /// `start` is what a snapshot has to be better than.
    pub fn new(start: Quality) -> Self {
        Self {
            start,
            best: None,
            gentle: None,
        }
    }

    /// Keeps a snapshot where it is better than those before it.
    pub fn see(&mut self, quality: Quality, integers: Proposal) {
        let least = |kept: &Option<(Quality, Proposal)>| {
            kept.as_ref()
                .map_or(self.start.divergence, |(q, _)| q.divergence)
        };
        if quality.correct >= self.start.correct && quality.divergence < least(&self.gentle) {
            self.gentle = Some((quality, integers.clone()));
        }
        if quality.divergence < least(&self.best) {
            self.best = Some((quality, integers));
        }
    }

    /// The snapshot of least divergence, if any is better than the start.
    pub fn best(self) -> Option<(Quality, Proposal)> {
        self.best
    }

    /// The one of least divergence among those that meet the labels no less often than the start,
    /// where that is another one.
    pub fn gentle(&mut self) -> Option<Proposal> {
        let (quality, proposal) = self.gentle.take()?;
        let other = self.best.as_ref().is_some_and(|(best, _)| *best != quality);
        other.then_some(proposal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(divergence: f64, correct: usize) -> Quality {
        Quality {
            divergence,
            correct,
        }
    }

    #[test]
    fn the_nearest_snapshot_is_the_best_and_another_is_kept_where_it_costs_labels() {
        let mut all = Snapshots::new(quality(1.0, 50));
        let seen = |all: &mut Snapshots, q| all.see(q, Vec::new());
        seen(&mut all, quality(0.9, 51));
        assert!(all.gentle().is_none(), "it is the best as well");
        seen(&mut all, quality(0.8, 50));
        seen(&mut all, quality(0.5, 49));
        seen(&mut all, quality(0.7, 49));
        seen(&mut all, quality(1.5, 60));
        assert!(all.gentle().is_some());
        assert_eq!(all.best().unwrap().0, quality(0.5, 49));
    }

    #[test]
    fn nothing_is_kept_that_is_no_better_than_the_start() {
        let mut all = Snapshots::new(quality(1.0, 50));
        all.see(quality(1.0, 60), Vec::new());
        all.see(quality(f64::NAN, 60), Vec::new());
        assert!(all.gentle().is_none() && all.best().is_none());
    }
}
