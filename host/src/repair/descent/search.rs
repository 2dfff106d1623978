//! Which descents are made, and which snapshot is proposed.

use super::augment::Augment;
use super::batches::Batches;
use super::snapshots::{Quality, Snapshots};
use super::walk::{Descent, Holdout};
use crate::repair::run::{Context, RepairError, Step};
use crate::repair::{Snapshot, State, Verdict};
use std::time::{Duration, Instant};

/// Rounds after which the pace is measured first.
const PACE: usize = 6;
/// A snapshot is judged every so many rounds at least,
const LOOK: usize = 25;
/// and at most about so many times in a descent: the holdout set is larger than a batch, and the last
/// snapshots are the best.
const LOOKS: usize = 20;

/// Descends, and proposes the snapshot that the holdout set likes best; the best of those that meet
/// its labels no less often than the start joins the `candidates`. At most `share` of the time that is
/// left is used: if all rounds do not fit, there are fewer.
///
/// How much variation is good depends on how much the network can still learn and from how many
/// samples: a small one learns most from many as they are, a large one learns few by heart. Short trials
/// do not tell, so unless the user says how, half of the rounds are on varied samples, and the other
/// half goes on from there on the samples as they are.
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
    let start = Instant::now();
    let limit = context.time_left().map(|left| left.mul_f64(share));
    let shape = context.graph.shape(context.graph.input);
    let teacher = Holdout::new(state.holdout(), context)?;
    let ways = match context.config.augment {
        Some(v) => vec![Augment::of(v, shape)],
        None if most < 2 * LOOK => vec![Augment::for_shape(shape)],
        None => vec![Augment::for_shape(shape), Augment::NONE],
    };
    let mut correct = None;
    for (done, &way) in ways.iter().enumerate() {
        if done > 0 {
            if context.stop() {
                break;
            }
            candidates.push(state.snapshot());
        }
        let limit = limit.map(|l| l.saturating_sub(start.elapsed()) / (ways.len() - done) as u32);
        let now = {
            let wanted = context.wanted(state);
            Descent::new(state, context, &teacher, &*wanted)?.quality()
        };
        let mut snapshots = Snapshots::new(Quality {
            correct: *correct.get_or_insert(now.correct),
            ..now
        });
        let most = most / ways.len();
        let rounds = descend(state, context, &teacher, way, (most, limit), &mut snapshots)?;

        // Judged before the state moves on.
        if let Some(proposal) = snapshots.gentle() {
            candidates.extend(state.appraise(proposal)?);
        }
        let Some((reached, proposal)) = snapshots.best() else {
            continue;
        };
        let edits = proposal.len();
        let verdict = state.propose(proposal.clone());
        if verdict != Verdict::Accepted {
            // A few classes of the holdout set deny it; its divergence does not.
            candidates.extend(state.appraise(proposal)?);
        }
        context.report(Step {
            strategy: "descent",
            what: format!(
                "best snapshot of {rounds} rounds ({way}), holdout divergence {:.4} -> {:.4}",
                now.divergence, reached.divergence
            ),
            edits,
            verdict,
            broken: state.broken().len(),
            score: state.score(),
        });
    }
    Ok(())
}

/// One descent from the accepted model, of at most `most` rounds and about as long as `limit`; shows
/// the snapshots what it comes by. Returns how many rounds there were.
fn descend(
    state: &State<'_>,
    context: &mut Context<'_>,
    holdout: &Holdout<'_>,
    augment: Augment,
    (most, limit): (usize, Option<Duration>),
    snapshots: &mut Snapshots,
) -> Result<usize, RepairError> {
    let start = Instant::now();
    let wanted = context.wanted(state);
    let mut descent = Descent::new(state, context, holdout, &*wanted)?;
    let mut batches = Batches::new(state.repair(), state.model(), context, augment);
    let (mut round, mut rounds) = (0, most);
    let mut next = LOOK;
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
        if round == next || round >= rounds {
            next = round + LOOK.max(rounds / LOOKS);
            let mut nearest = f64::INFINITY;
            descent.show(|found, integers| {
                nearest = nearest.min(found.divergence);
                snapshots.see(found, integers);
            });
            context.report(Step {
                strategy: "descent",
                what: format!(
                    "{augment}, {round} of {rounds} rounds, holdout divergence {nearest:.4}"
                ),
                edits: 0,
                verdict: Verdict::Watched,
                broken: 0,
                score: state.score(),
            });
        }
    }
    Ok(round)
}
