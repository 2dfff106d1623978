//! The `layer` strategy: each neuron back to its float twin, on the inputs that the *integer* network
//! gives it, so that errors upstream are compensated.
//!
//! ```text
//! minimise  sum_i |pre_i + g_i.d - teacher_i| + lambda |d|_1
//! ```
//!
//! over rows drawn from the repair tests' spatial positions. Where the teacher's activation function
//! clamps, only a pre-activation on the wrong side of the clamp costs anything.

use super::integer::Lattice;
use super::lp::{Bounds, FitProblem, LpError, Means, Row, fit};
use super::run::{Context, RepairError, Step};
use super::state::Proposal;
use super::{State, Verdict};
use crate::graph::{Graph, Op, ValueId};
use crate::localize::matched_layers;
use crate::model::Linear;
use crate::model::patches::Patches;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rayon::prelude::*;
use std::time::Instant;

/// Price of moving a weight, as a share of the price at which none would move.
const PRICE: f64 = 0.01;
/// Weights move by at most this many steps in one round.
const STEPS: i32 = 2;
/// Weights of one neuron that enter its program: the time of a program grows with their square, and
/// few move.
const MOST_VARIABLES: usize = 160;
/// Passes of single steps after rounding.
const SWEEPS: usize = 6;

/// Refits one node after the other, in execution order.
///
/// # Errors
/// [`RepairError`] where the float network fails.
pub fn run(state: &mut State<'_>, context: &mut Context<'_>) -> Result<(), RepairError> {
    let mut rng = StdRng::seed_from_u64(context.config.seed);
    for (node, value) in matched_layers(context.graph, state.model()) {
        if context.stop() {
            break;
        }
        let rows = SampledRows::draw(state, context, node, value, &mut rng)?;
        let wanted = context.wanted(state);
        let old = state.model().nodes[node]
            .op
            .linear()
            .expect("matched layers are linear")
            .clone();
        let neurons: Vec<usize> = (0..old.out_channels())
            .filter(|&c| wanted(node, c))
            .collect();
        let means = context.lp();
        let deadline = context.deadline();
        let late = || deadline.is_some_and(|d| Instant::now() >= d);
        let answers: Vec<(usize, Result<Refit, LpError>)> = neurons
            .par_iter()
            .filter(|_| !late())
            .map(|&c| (c, rows.refit(&old, c, means)))
            .collect();
        let mut refits: Vec<(usize, Refit)> = Vec::new();
        for (c, answer) in answers {
            match answer {
                Ok(r) => refits.push((c, r)),
                Err(e) => {
                    context.lp_failed(format!("{} channel {c}", state.model().nodes[node].name), e)
                }
            }
        }
        // The neurons that gain most come first: when the whole node is refused, its best half is tried.
        refits.sort_by(|a, b| b.1.gain.total_cmp(&a.1.gain));
        refits.retain(|(_, r)| r.gain > 0.0);
        let mut count = refits.len();
        while count > 0 {
            let proposal = proposal(node, &old, &refits[..count]);
            let verdict = state.propose(proposal);
            let name = state.model().nodes[node].name.clone();
            context.report(Step {
                strategy: "layer",
                what: format!("{name}, {count} neurons"),
                edits: count,
                verdict,
                broken: state.broken().len(),
                score: state.score(),
            });
            if verdict == Verdict::Accepted || context.stop() {
                break;
            }
            count /= 2;
        }
    }
    Ok(())
}

fn proposal(node: usize, old: &Linear, refits: &[(usize, Refit)]) -> Proposal {
    let mut new = old.clone();
    let taps = old.taps();
    for (c, refit) in refits {
        for (w, d) in new.weights[c * taps..(c + 1) * taps]
            .iter_mut()
            .zip(&refit.steps)
        {
            *w = (*w as i32 + d) as i8;
        }
        new.bias[*c] = new.bias[*c].saturating_add(refit.bias);
    }
    vec![(node, new)]
}

/// New integers of one neuron, as differences.
struct Refit {
    steps: Vec<i32>,
    bias: i32,
    /// How much the objective fell.
    gain: f64,
}

/// Inputs and teacher's outputs of one node at drawn positions of drawn tests.
struct SampledRows {
    patches: Patches,
    /// Per row: the sample's input tensor, position, and teacher's outputs `[rows][out_c]`.
    inputs: Vec<Vec<i8>>,
    at: Vec<(usize, usize)>,
    teacher: Vec<f32>,
    /// Accumulators now, `[rows][out_c]`.
    accumulators: Vec<i32>,
    scales: Vec<f64>,
    clamp: (f32, f32),
}

impl SampledRows {
    fn draw(
        state: &State<'_>,
        context: &Context<'_>,
        node: usize,
        value: ValueId,
        rng: &mut StdRng,
    ) -> Result<Self, RepairError> {
        let model = state.model();
        let patches = Patches::of(model, node);
        let positions = patches.positions();
        let channels = patches.channels();
        let count = context.config.neuron_rows;
        // Half of the rows come from failing tests, as far as there are any.
        let failing: Vec<usize> = (0..state.repair().len())
            .filter(|&i| !state.passing()[i])
            .collect();
        let mut tests: Vec<usize> = (0..count)
            .map(|i| {
                let any = rng.random_range(0..state.repair().len());
                if i % 2 == 0 {
                    failing.choose(rng).copied().unwrap_or(any)
                } else {
                    any
                }
            })
            .collect();
        tests.sort_unstable();
        let mut distinct = tests.clone();
        distinct.dedup();
        let sample = state.repair().sample;
        let reals: Vec<f32> = distinct
            .iter()
            .flat_map(|&t| {
                state.repair().reals[t * sample..(t + 1) * sample]
                    .iter()
                    .copied()
            })
            .collect();
        let outputs = context.float.run_keep(&reals, &[value])?.swap_remove(0);
        let input_id = model.nodes[node].inputs[0];
        let per_input = model.tensor(input_id).elements();
        let all = state.activations().tensor(input_id);
        let inputs: Vec<Vec<i8>> = distinct
            .iter()
            .map(|&t| all[t * per_input..(t + 1) * per_input].to_vec())
            .collect();
        let gathered: Vec<i8> = inputs.iter().flatten().copied().collect();
        let acc = state.engine().accumulators(node, &gathered);
        let mut at = Vec::with_capacity(count);
        let mut teacher = Vec::with_capacity(count * channels);
        let mut accumulators = Vec::with_capacity(count * channels);
        for t in tests {
            let which = distinct
                .binary_search(&t)
                .expect("every test is among the distinct ones");
            let position = rng.random_range(0..positions);
            at.push((which, position));
            let start = (which * positions + position) * channels;
            teacher.extend_from_slice(&outputs[start..start + channels]);
            accumulators.extend_from_slice(&acc[start..start + channels]);
        }
        let scales = (0..channels)
            .map(|c| model.accumulator_scale(node, c))
            .collect();
        Ok(Self {
            patches,
            inputs,
            at,
            teacher,
            accumulators,
            scales,
            clamp: clamp_of(context.graph, value),
        })
    }

    /// Fits channel `c`.
    fn refit(&self, linear: &Linear, c: usize, means: Means) -> Result<Refit, LpError> {
        let taps = self.patches.taps();
        let channels = self.patches.channels();
        let n = self.at.len();
        let scale = self.scales[c];
        let k = taps + 1;
        if scale == 0.0 {
            return Ok(Refit {
                steps: vec![0; taps],
                bias: 0,
                gain: 0.0,
            });
        }
        let mut coefficients = vec![0.0f32; n * k];
        let mut rows = Vec::with_capacity(n);
        let mut spread = 0.0f64;
        for (i, &(which, position)) in self.at.iter().enumerate() {
            let g = &mut coefficients[i * k..(i + 1) * k];
            self.patches
                .gather(&self.inputs[which], c, position, &mut g[..taps]);
            g[..taps]
                .iter_mut()
                .for_each(|x| *x = (*x as f64 * scale) as f32);
            g[taps] = 1.0;
            let now = self.accumulators[i * channels + c] as f64 * scale;
            let want = self.teacher[i * channels + c];
            let (lo, hi) = self.clamp;
            rows.push(Row {
                target: want as f64 - now,
                below: if want <= lo { 0.0 } else { 1.0 },
                above: if want >= hi { 0.0 } else { 1.0 },
            });
            spread += (want as f64 - now).abs();
        }
        let (lo, hi) = linear.weight_range();
        let steps: Vec<(i32, i32)> = linear
            .row(c)
            .iter()
            .map(|&w| {
                (
                    (lo as i32 - w as i32).max(-STEPS),
                    (hi as i32 - w as i32).min(STEPS),
                )
            })
            .collect();
        let mut slope = vec![0.0f64; k];
        for (g, r) in coefficients.chunks_exact(k).zip(&rows) {
            let y = if r.target > 0.0 { r.below } else { -r.above };
            slope
                .iter_mut()
                .zip(g)
                .for_each(|(s, &g)| *s += y * g as f64);
        }
        let price = PRICE * slope[..taps].iter().fold(0.0f64, |m, s| m.max(s.abs()));
        let reach = 4.0 * spread / n.max(1) as f64 + scale;
        let free = Bounds {
            lo: -reach,
            hi: reach,
            price: 0.0,
        };

        // The program moves the weights with the steepest slope; the sweeps below try all.
        let mut chosen: Vec<usize> = (0..taps).collect();
        chosen.sort_by(|&a, &b| slope[b].abs().total_cmp(&slope[a].abs()).then(a.cmp(&b)));
        chosen.truncate(MOST_VARIABLES);
        chosen.sort_unstable();
        chosen.push(taps);
        let columns: Vec<f32> = coefficients
            .chunks_exact(k)
            .flat_map(|g| chosen.iter().map(|&j| g[j]))
            .collect();
        let bounds: Vec<Bounds> = chosen
            .iter()
            .map(|&j| {
                steps.get(j).map_or(free, |&(lo, hi)| Bounds {
                    lo: lo as f64,
                    hi: hi as f64,
                    price,
                })
            })
            .collect();
        let problem = FitProblem {
            coefficients: &columns,
            rows: &rows,
            bounds: &bounds,
        };
        let mut solution = vec![0.0f64; k];
        for (&j, d) in chosen.iter().zip(fit(&problem, means)?) {
            solution[j] = d;
        }

        // Whole steps for the weights around the bias that the program chose, then the bias anew.
        let shifted: Vec<Row> = rows
            .iter()
            .map(|r| Row {
                target: r.target - solution[taps],
                ..*r
            })
            .collect();
        let weights_only: Vec<f32> = coefficients
            .chunks_exact(k)
            .flat_map(|g| g[..taps].iter().copied())
            .collect();
        let lattice = Lattice {
            coefficients: &weights_only,
            rows: &shifted,
            bounds: &steps,
        };
        let whole = lattice.round(&solution[..taps], SWEEPS);
        let residuals: Vec<f64> = weights_only
            .chunks_exact(taps)
            .zip(&rows)
            .map(|(g, r)| {
                r.target
                    - g.iter()
                        .zip(&whole)
                        .map(|(&g, &d)| g as f64 * d as f64)
                        .sum::<f64>()
            })
            .collect();
        let cost = |shift: f64| -> f64 {
            rows.iter()
                .zip(&residuals)
                .map(|(r, gap)| {
                    let gap = gap - shift;
                    if gap > 0.0 {
                        r.below * gap
                    } else {
                        -r.above * gap
                    }
                })
                .sum()
        };
        // The objective is convex and piecewise linear in the bias, so its least value is at a residual.
        let best = residuals
            .iter()
            .copied()
            .chain([0.0])
            .min_by(|a, b| cost(*a).total_cmp(&cost(*b)))
            .unwrap_or(0.0);
        let best = best.clamp(-reach, reach);
        let gain = problem.value(&vec![0.0; bounds.len()]) - cost(best);
        Ok(Refit {
            steps: whole,
            bias: (best / scale).round() as i32,
            gain,
        })
    }
}

/// The range to which the float node that makes `value` clamps.
pub(super) fn clamp_of(graph: &Graph, value: ValueId) -> (f32, f32) {
    let none = (f32::NEG_INFINITY, f32::INFINITY);
    let Some(node) = graph.producer(value) else {
        return none;
    };
    let activation = match &graph.nodes[node].op {
        Op::Conv2d(c) => c.activation,
        Op::FullyConnected(f) => f.activation,
        Op::Affine(a) => a.activation,
        _ => return none,
    };
    activation.clamp_range().unwrap_or(none)
}
