//! Which descents are made, and which snapshot is proposed.

use super::augment::Augment;
use super::batches::Batches;
use super::snapshots::Snapshots;
use super::walk::{Descent, Holdout};
use crate::repair::run::{Context, RepairError, Step};
use crate::repair::{Snapshot, State, Verdict};
use std::time::{Duration, Instant};

/// Rounds after which the pace is measured first.
const PACE: usize = 6;
/// A snapshot is judged every so many rounds.
const LOOK: usize = 25;

/// Descends, and proposes the snapshot that the holdout set likes best; the best of those that meet
/// its labels no less often than the start joins the `candidates`. At most `share` of the time that is
/// left is used: if all rounds do not fit, there are fewer.
///
/// How much variation is good depends on how much the network can still learn and from how many
/// samples: a small one learns most from many as they are, a large one learns few by heart. Short trials
/// do not tell, so unless the user says how, half of the rounds go each way, and the holdout set chooses.
///
/// # Errors
/// [`RepairError`] where the model cannot be run or differentiated.
pub fn run(
    state: &mut State<'_>,
    context: &mut Context<'_>,
    share: f64,
    candidates: &mut Vec<Snapshot>,
) -> Result<(), RepairError> {
    let most = context.config.rounds * context.config.descent.rounds_each;
    if most == 0 || context.stop() {
        return Ok(());
    }
    let limit = context.time_left().map(|left| left.mul_f64(share));
    let shape = context.graph.shape(context.graph.input);
    let teacher = Holdout::new(state.holdout(), context)?;
    let first = {
        let wanted = context.wanted(state);
        Descent::new(state, context, &teacher, &*wanted)?.quality()
    };
    let mut snapshots = Snapshots::new(first);
    let ways = match context.config.augment {
        Some(v) => vec![Augment::of(v, shape)],
        None if most < 2 * LOOK => vec![Augment::for_shape(shape)],
        None => vec![Augment::for_shape(shape), Augment::NONE],
    };
    let mut rounds = 0;
    let mut chosen = (first.divergence, ways[0]);
    for &way in &ways {
        let limit = limit.map(|l| l / ways.len() as u32);
        let most = most / ways.len();
        let (made, reached) =
            descend(state, context, &teacher, way, (most, limit), &mut snapshots)?;
        rounds += made;
        if reached < chosen.0 {
            chosen = (reached, way);
        }
    }

    // Judged before the state moves on.
    if let Some(proposal) = snapshots.gentle() {
        candidates.extend(state.appraise(proposal)?);
    }
    let Some((reached, proposal)) = snapshots.best() else {
        return Ok(());
    };
    let edits = proposal.len();
    let verdict = state.propose(proposal);
    context.report(Step {
        strategy: "descent",
        what: format!(
            "best snapshot of {rounds} rounds ({}), holdout divergence {:.4} -> {:.4}",
            chosen.1, first.divergence, reached.divergence
        ),
        edits,
        verdict,
        broken: state.broken().len(),
        score: state.score(),
    });
    Ok(())
}

/// One descent from the accepted model, of at most `most` rounds and about as long as `limit`; shows
/// the snapshots what it comes by. Returns how many rounds there were, and the least divergence.
fn descend(
    state: &State<'_>,
    context: &mut Context<'_>,
    holdout: &Holdout<'_>,
    augment: Augment,
    (most, limit): (usize, Option<Duration>),
    snapshots: &mut Snapshots,
) -> Result<(usize, f64), RepairError> {
    let start = Instant::now();
    let wanted = context.wanted(state);
    let mut descent = Descent::new(state, context, holdout, &*wanted)?;
    let mut batches = Batches::new(state.repair(), state.model(), context, augment);
    let mut least = f64::INFINITY;
    let (mut round, mut rounds) = (0, most);
    while round < rounds && !context.stop() {
        if limit.is_some_and(|l| start.elapsed() >= l) {
            break;
        }
        descent.round(&mut batches, context, (round, rounds))?;
        round += 1;
        if let Some(limit) = limit.filter(|_| round == PACE || round % LOOK == 0) {
            let pace = start.elapsed().as_secs_f64() / round as f64;
            let left = limit.saturating_sub(start.elapsed()).as_secs_f64();
            rounds = most.min(round + (left / pace.max(1e-9)) as usize);
        }
        if round % LOOK == 0 || round >= rounds {
            let found = descent.quality();
            snapshots.see(found, || descent.integers());
            least = least.min(found.divergence);
            context.report(Step {
                strategy: "descent",
                what: format!(
                    "{augment}, {round} of {rounds} rounds, holdout divergence {:.4}",
                    found.divergence
                ),
                edits: 0,
                verdict: Verdict::Watched,
                broken: 0,
                score: state.score(),
            });
        }
    }
    Ok((round, least))
}
