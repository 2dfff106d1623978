//! The sequence of programs: linearise, solve, propose, and grow or shrink the region.

use super::rows::{MarginRow, endangered};
use super::{fine, steps};
use crate::float::Surrogate;
use crate::repair::lp::{Bounds, FitProblem, Row, fit};
use crate::repair::run::{Context, RepairError, Step};
use crate::repair::{State, Verdict};
use std::time::Duration;

/// Fractions of a solution that are tried before a smaller region is.
const FRACTIONS: [f64; 3] = [1.0, 1.0 / 3.0, 1.0 / 9.0];

/// Largest price, as a share of the price at which nothing would move.
const PRICE: f64 = 0.02;

/// Fine edits end when the region is this many times smaller than the first.
const SMALLEST: f64 = 64.0;

/// Runs fine edits, then weight steps where they are wanted, then fine edits again.
///
/// # Errors
/// [`RepairError`] where the model cannot be differentiated.
pub fn run(state: &mut State<'_>, context: &mut Context<'_>) -> Result<(), RepairError> {
    fine_rounds(state, context)?;
    if context.config.weight_steps {
        let before = state.score();
        step_rounds(state, context)?;
        if state.score() != before {
            fine_rounds(state, context)?;
        }
    }
    Ok(())
}

fn fine_rounds(state: &mut State<'_>, context: &mut Context<'_>) -> Result<(), RepairError> {
    let first = context.config.radius;
    let mut radius = first;
    for _ in 0..context.config.rounds {
        if radius < first / SMALLEST || context.stop() {
            break;
        }
        let rows = endangered(state, context.config.rows);
        let surrogate = Surrogate::new(state.model(), context.config.backend)?;
        let wanted = context.wanted(state);
        let system = fine::linearise(state, &surrogate, &rows, &*wanted)?;
        // The linearisation holds until a step is accepted; a refused one only shrinks the region.
        while radius >= first / SMALLEST && !context.stop() {
            let range = |_: usize| (-radius, radius);
            let Some(solution) = solve(
                &rows,
                &system.coefficients,
                system.variables.len(),
                range,
                PRICE,
                state,
                context,
            ) else {
                radius /= 3.0;
                continue;
            };
            let mut accepted = None;
            for fraction in FRACTIONS {
                let proposal = fine::proposal(state.model(), &system, &solution, fraction);
                let edits = proposal.len();
                let verdict = state.propose(proposal);
                context.report(Step {
                    strategy: "margin",
                    what: format!("biases and multipliers, radius {:.4}", radius * fraction),
                    edits,
                    verdict,
                    score: state.score(),
                });
                if verdict == Verdict::Accepted {
                    accepted = Some(fraction);
                    break;
                }
                if context.stop() {
                    break;
                }
            }
            match accepted {
                Some(1.0) => {
                    radius = (radius * 1.5).min(4.0 * first);
                    break;
                }
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
    for _ in 0..context.config.rounds {
        if budget == 0 || context.stop() {
            break;
        }
        let rows = endangered(state, context.config.rows);
        let surrogate = Surrogate::new(state.model(), context.config.backend)?;
        let wanted = context.wanted(state);
        let system = steps::linearise(
            state,
            &surrogate,
            &rows,
            context.config.weight_candidates,
            &*wanted,
        )?;
        let ranges: Vec<(f64, f64)> = system
            .variables
            .iter()
            .map(|v| {
                let linear = state.model().nodes[v.node]
                    .op
                    .linear()
                    .expect("variables name linear nodes");
                let (lo, hi) = linear.weight_range();
                let w = linear.row(v.channel)[v.tap];
                (
                    if w > lo { -1.0 } else { 0.0 },
                    if w < hi { 1.0 } else { 0.0 },
                )
            })
            .collect();
        let mut price = PRICE;
        let mut accepted = false;
        while !accepted && budget > 0 && price < 1.0 && !context.stop() {
            let range = |k: usize| ranges[k];
            let Some(solution) = solve(
                &rows,
                &system.coefficients,
                ranges.len(),
                range,
                price,
                state,
                context,
            ) else {
                break;
            };
            // The budget is a price: it rises until the program stays inside.
            let length: f64 = solution.iter().map(|d| d.abs()).sum();
            if length > budget as f64 {
                price *= 2.0;
                continue;
            }
            let proposal = steps::proposal(state.model(), &system, &solution);
            let moved = steps::moves(&solution);
            let verdict = state.propose(proposal);
            context.report(Step {
                strategy: "margin",
                what: format!("{moved} weight steps"),
                edits: moved,
                verdict,
                score: state.score(),
            });
            accepted = verdict == Verdict::Accepted;
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

/// Solves for the variables that raise endangered margins to `tau`; `None` where the program gave no
/// answer (which is reported).
fn solve(
    rows: &[MarginRow],
    coefficients: &[f32],
    variables: usize,
    range: impl Fn(usize) -> (f64, f64),
    price: f64,
    state: &State<'_>,
    context: &mut Context<'_>,
) -> Option<Vec<f64>> {
    let tau = state.tau();
    // A passing test costs more to lose than a failing one wins: in strict mode nothing may be lost.
    let keep = if state.strict() { 10.0 } else { 1.0 };
    let targets: Vec<Row> = rows
        .iter()
        .map(|r| Row {
            target: tau - r.margin,
            below: if r.margin > 0.0 { keep } else { 1.0 },
            above: 0.0,
        })
        .collect();
    let mut slope = vec![0.0f64; variables];
    for (g, r) in coefficients.chunks_exact(variables.max(1)).zip(&targets) {
        if r.target > 0.0 {
            slope
                .iter_mut()
                .zip(g)
                .for_each(|(s, &g)| *s += r.below * g as f64);
        }
    }
    let price = price * slope.iter().fold(0.0f64, |m, s| m.max(s.abs()));
    let bounds: Vec<Bounds> = (0..variables)
        .map(|k| {
            let (lo, hi) = range(k);
            Bounds { lo, hi, price }
        })
        .collect();
    let limit = context.lp_limit();
    match fit(
        &FitProblem {
            coefficients,
            rows: &targets,
            bounds: &bounds,
        },
        limit,
    ) {
        Ok(d) => Some(d),
        Err(e) => {
            context.lp_failed("the whole network".into(), e);
            None
        }
    }
}

/// The shortest time that a program gets, however little of the budget is left.
pub(crate) const SHORTEST_LP: Duration = Duration::from_millis(200);
