//! The sequence of programs: linearise, solve, propose, and grow or shrink the region.

use super::fine::FineEdits;
use super::program::{Family, Program};
use super::rounding::roundings;
use super::rows::endangered;
use super::steps::{WeightSteps, moves};
use crate::float::Surrogate;
use crate::repair::run::{Context, RepairError, Step};
use crate::repair::{State, Verdict};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::time::Duration;

/// Fractions of a solution that are tried before a smaller region is.
const FRACTIONS: [f64; 3] = [1.0, 1.0 / 3.0, 1.0 / 9.0];

/// Price of an edit, as a share of the price at which nothing would move.
const PRICE: f64 = 0.02;

/// Fine edits end when the region is this many times smaller than the first.
const SMALLEST: f64 = 64.0;

/// Winning back lost tests may take this many times the usual rounds.
const RESTORING: usize = 4;

/// How often, in strict mode, a program is asked again with the tests that its answer broke.
const GUARDS: usize = 8;

/// The shortest time that a program gets, however little of the budget is left.
pub(crate) const SHORTEST_LP: Duration = Duration::from_millis(200);

/// Runs fine edits, then weight steps where they are wanted, then fine edits again.
///
/// # Errors
/// [`RepairError`] where the model cannot be differentiated.
pub fn run(state: &mut State<'_>, context: &mut Context<'_>) -> Result<(), RepairError> {
    fine_rounds(state, context, context.config.rounds)?;
    if context.config.weight_steps {
        let before = state.score();
        step_rounds(state, context)?;
        if state.score() != before {
            fine_rounds(state, context, context.config.rounds)?;
        }
    }
    if state.strict() && state.lost_count() > 0 && !context.stop() {
        state.restore_lost(true);
        fine_rounds(state, context, RESTORING * context.config.rounds)?;
        state.restore_lost(false);
    }
    Ok(())
}

/// At most `rounds` accepted steps; ends early once nothing is lost, where lost tests are won back.
fn fine_rounds(
    state: &mut State<'_>,
    context: &mut Context<'_>,
    rounds: usize,
) -> Result<(), RepairError> {
    let first = context.config.radius;
    let mut radius = first;
    for _ in 0..rounds {
        if state.restoring() && state.lost_count() == 0 {
            break;
        }
        if radius < first / SMALLEST || context.stop() {
            break;
        }
        let surrogate = Surrogate::new(state.model(), context.config.backend)?;
        let family = FineEdits::new(state, &*context.wanted(state));
        let rows = endangered(state, context.config.rows);
        let mut program = Program::new(state, &surrogate, &family, rows)?;
        // The linearisation holds until a step is accepted; a refused one only shrinks the region.
        while radius >= first / SMALLEST && !context.stop() {
            let ranges = vec![(-radius, radius); family.count()];
            let what =
                |fraction: f64| format!("biases and multipliers, radius {:.4}", radius * fraction);
            let Some(solution) = guarded(
                state,
                context,
                &family,
                (&surrogate, &mut program),
                &ranges,
                &what(1.0),
            )?
            else {
                radius *= 1.5;
                radius = radius.min(4.0 * first);
                break;
            };
            let Some(solution) = solution else {
                radius /= 3.0;
                continue;
            };
            let mut accepted = None;
            for fraction in &FRACTIONS[1..] {
                if context.stop() {
                    break;
                }
                let shorter: Vec<f64> = solution.iter().map(|d| d * fraction).collect();
                let proposal = family.proposal(state.model(), &shorter);
                if propose(state, context, proposal, what(*fraction)) == Verdict::Accepted {
                    accepted = Some(*fraction);
                    break;
                }
            }
            match accepted {
                Some(fraction) => {
                    radius *= fraction;
                    break;
                }
                // Smaller steps along this direction were refused too, so a smaller region must
                // first turn it.
                None => radius /= 9.0,
            }
        }
    }
    Ok(())
}

fn step_rounds(state: &mut State<'_>, context: &mut Context<'_>) -> Result<(), RepairError> {
    let mut budget = context.config.weight_budget;
    let mut rng = StdRng::seed_from_u64(context.config.seed);
    for _ in 0..context.config.rounds {
        if budget == 0 || context.stop() {
            break;
        }
        let surrogate = Surrogate::new(state.model(), context.config.backend)?;
        let rows = endangered(state, context.config.rows);
        let wanted = context.wanted(state);
        let family = WeightSteps::choose(
            state,
            &surrogate,
            &rows,
            context.config.weight_candidates,
            &*wanted,
        )?;
        let ranges = family.ranges(state.model());
        let mut program = Program::new(state, &surrogate, &family, rows)?;
        let mut price = PRICE;
        let mut accepted = false;
        while !accepted && budget > 0 && price < 1.0 && !context.stop() {
            let Some(solution) = program.solve(&ranges, price, context) else {
                break;
            };
            // The budget is a price: it rises until the program stays inside.
            if solution.iter().map(|d| d.abs()).sum::<f64>() > budget as f64 {
                price *= 2.0;
                continue;
            }
            let moved = moves(&solution);
            if moved == 0 {
                break;
            }
            let proposal = family.proposal(state.model(), &solution);
            let verdict = propose(state, context, proposal, format!("{moved} weight steps"));
            accepted = verdict == Verdict::Accepted;
            if verdict == Verdict::BrokePassing {
                let broken = state.broken().to_vec();
                program.guard(state, &surrogate, &family, &broken)?;
            }
            let cost = |d: &[f64]| program.missing(d);
            for drawn in roundings(&solution, context.config.draws, cost, &mut rng) {
                if accepted || context.stop() {
                    break;
                }
                let what = format!("{} weight steps, drawn", moves(&drawn));
                let proposal = family.proposal(state.model(), &drawn);
                accepted = propose(state, context, proposal, what) == Verdict::Accepted;
            }
            if !accepted {
                budget = budget.min(moved) / 2;
            }
        }
        if !accepted {
            break;
        }
    }
    Ok(())
}

/// Solves and proposes. `None`: accepted. `Some(None)`: no answer. `Some(Some(d))`: `d` was refused.
///
/// In strict mode a refusal names the tests that broke, and the program is asked again with them.
fn guarded(
    state: &mut State<'_>,
    context: &mut Context<'_>,
    family: &dyn Family,
    (surrogate, program): (&Surrogate, &mut Program),
    ranges: &[(f64, f64)],
    what: &str,
) -> Result<Option<Option<Vec<f64>>>, RepairError> {
    for attempt in 0..=GUARDS {
        let Some(solution) = program.solve(ranges, PRICE, context) else {
            return Ok(Some(None));
        };
        let proposal = family.proposal(state.model(), &solution);
        match propose(state, context, proposal, what.to_string()) {
            Verdict::Accepted => return Ok(None),
            Verdict::BrokePassing if attempt < GUARDS && !context.stop() => {
                let broken = state.broken().to_vec();
                program.guard(state, surrogate, family, &broken)?;
            }
            _ => return Ok(Some(Some(solution))),
        }
    }
    Ok(Some(None))
}

fn propose(
    state: &mut State<'_>,
    context: &mut Context<'_>,
    proposal: crate::repair::Proposal,
    what: String,
) -> Verdict {
    let edits = proposal.len();
    let verdict = state.propose(proposal);
    context.report(Step {
        strategy: "margin",
        what,
        edits,
        verdict,
        broken: state.broken().len(),
        score: state.score(),
    });
    verdict
}
