//! The `neuron` strategy: QNNRepair's own, one suspicious neuron at a time.
//!
//! For each of the most suspicious neurons a program looks for the smallest largest change of its
//! weights that gives the pre-activation the float neuron's sign in failing tests where quantization
//! changed it, and keeps the sign in passing tests. The real answer is rounded, and the engine decides.
//!
//! (QNNRepair, SEFM 2023, section 3.3. Two departures: passing tests keep their sign, which the paper
//! leaves out, and slack variables let a contradictory test go.)

use super::State;
use super::lp::{LpError, Means, SignRow, chebyshev};
use super::run::{Context, RepairError, Step};
use super::state::Proposal;
use crate::graph::ValueId;
use crate::localize::matched_layers;
use crate::model::Linear;
use crate::model::patches::Patches;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::time::Instant;

/// Neurons that are tried where the user names no number.
const TOP: usize = 30;
/// Price of a unit of slack against a unit of the largest weight change, both in weight steps.
const SLACK: f64 = 10.0;

/// Solves and proposes the most suspicious neurons, layer by layer in execution order.
///
/// # Errors
/// [`RepairError`] where the float network fails.
pub fn run(state: &mut State<'_>, context: &mut Context<'_>) -> Result<(), RepairError> {
    let top = context.config.top.unwrap_or(TOP);
    let ranking = context
        .localization
        .ranking(context.config.metric, context.config.seed);
    let values: BTreeMap<usize, ValueId> = matched_layers(context.graph, state.model())
        .into_iter()
        .collect();
    let mut by_node: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for r in ranking.into_iter().take(top) {
        by_node.entry(r.node).or_default().push(r.channel);
    }
    let mut rng = StdRng::seed_from_u64(context.config.seed);
    for (node, channels) in by_node {
        if context.stop() {
            break;
        }
        let Some(&value) = values.get(&node) else {
            continue;
        };
        let signs = Signs::collect(state, context, node, value, &mut rng)?;
        let old = state.model().nodes[node]
            .op
            .linear()
            .expect("ranked nodes are linear")
            .clone();
        let means = context.lp();
        let deadline = context.deadline();
        let late = || deadline.is_some_and(|d| Instant::now() >= d);
        let answers: Vec<(usize, Result<Vec<i32>, LpError>)> = channels
            .par_iter()
            .filter(|_| !late())
            .map(|&c| (c, signs.solve(&old, c, means)))
            .collect();
        for (channel, answer) in answers {
            let name = format!("{} channel {channel}", state.model().nodes[node].name);
            match answer {
                Err(e) => context.lp_failed(name, e),
                Ok(steps) => {
                    let verdict = state.propose(proposal(state, node, channel, &steps));
                    context.report(Step {
                        strategy: "neuron",
                        what: name,
                        edits: 1,
                        verdict,
                        broken: state.broken().len(),
                        score: state.score(),
                    });
                }
            }
            if context.stop() {
                break;
            }
        }
    }
    Ok(())
}

fn proposal(state: &State<'_>, node: usize, channel: usize, steps: &[i32]) -> Proposal {
    let mut linear = state.model().nodes[node]
        .op
        .linear()
        .expect("ranked nodes are linear")
        .clone();
    let taps = linear.taps();
    for (w, d) in linear.weights[channel * taps..(channel + 1) * taps]
        .iter_mut()
        .zip(steps)
    {
        *w = (*w as i32 + d) as i8;
    }
    vec![(node, linear)]
}

/// Signs of one node in both networks over the repair set.
struct Signs {
    patches: Patches,
    inputs: Vec<i8>,
    /// Whether the float network is on, `[tests][positions][out_c]`.
    float_on: Vec<bool>,
    /// Accumulators, likewise.
    accumulators: Vec<i32>,
    passing: Vec<bool>,
    /// Tests in the order in which they are asked for rows.
    order: Vec<usize>,
    rows: usize,
}

impl Signs {
    fn collect(
        state: &State<'_>,
        context: &Context<'_>,
        node: usize,
        value: ValueId,
        rng: &mut StdRng,
    ) -> Result<Self, RepairError> {
        /// Tests that are looked at: all failing ones up to this many, and as many passing ones.
        const EACH: usize = 128;
        let model = state.model();
        let (mut failing, mut passes): (Vec<usize>, Vec<usize>) =
            (0..state.repair().len()).partition(|&i| !state.passing()[i]);
        failing.shuffle(rng);
        passes.shuffle(rng);
        failing.truncate(EACH);
        passes.truncate(EACH);
        let chosen: Vec<usize> = failing.iter().chain(&passes).copied().collect();
        let sample = state.repair().sample;
        let reals: Vec<f32> = chosen
            .iter()
            .flat_map(|&t| {
                state.repair().reals[t * sample..(t + 1) * sample]
                    .iter()
                    .copied()
            })
            .collect();
        let float = context.float.run_keep(&reals, &[value])?.swap_remove(0);
        let input_id = model.nodes[node].inputs[0];
        let per_input = model.tensor(input_id).elements();
        let all = state.activations().tensor(input_id);
        let inputs: Vec<i8> = chosen
            .iter()
            .flat_map(|&t| all[t * per_input..(t + 1) * per_input].iter().copied())
            .collect();
        let accumulators = state.engine().accumulators(node, &inputs);
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.shuffle(rng);
        Ok(Self {
            patches: Patches::of(model, node),
            inputs,
            float_on: float.iter().map(|&f| f > 0.0).collect(),
            accumulators,
            passing: chosen.iter().map(|&t| state.passing()[t]).collect(),
            order,
            rows: context.config.neuron_rows,
        })
    }

    /// Whole weight steps for channel `c`. Everything is in units of the accumulator.
    fn solve(&self, linear: &Linear, c: usize, means: Means) -> Result<Vec<i32>, LpError> {
        let taps = self.patches.taps();
        let channels = self.patches.channels();
        let positions = self.patches.positions();
        let per_input = self.patches.input_elements();
        let mut coefficients = Vec::new();
        let mut rows = Vec::new();
        let mut patch = vec![0.0f32; taps];
        let (mut wrong, mut kept) = (0, 0);
        'tests: for &t in &self.order {
            let sample = &self.inputs[t * per_input..(t + 1) * per_input];
            for position in 0..positions {
                let at = (t * positions + position) * channels + c;
                let acc = self.accumulators[at];
                let (on, want) = (acc > 0, self.float_on[at]);
                // A failing test asks for the float sign where it is wrong; a passing one for its own.
                let count = match (self.passing[t], on == want) {
                    (false, false) => &mut wrong,
                    // One position in each passing test: there are far more of them.
                    (true, _) if position == (t * 7919) % positions => &mut kept,
                    _ => continue,
                };
                if *count >= self.rows / 2 {
                    continue;
                }
                *count += 1;
                self.patches.gather(sample, c, position, &mut patch);
                coefficients.extend_from_slice(&patch);
                let positive = if self.passing[t] { on } else { want };
                rows.push(SignRow {
                    now: acc as f64,
                    positive,
                    price: SLACK / self.rows.max(1) as f64,
                });
                if wrong + kept >= self.rows {
                    break 'tests;
                }
            }
        }
        if wrong == 0 {
            return Ok(vec![0; taps]);
        }
        let (lo, hi) = linear.weight_range();
        let bounds: Vec<(f64, f64)> = linear
            .row(c)
            .iter()
            .map(|&w| ((lo as i32 - w as i32) as f64, (hi as i32 - w as i32) as f64))
            .collect();
        let d = chebyshev(&coefficients, &rows, &bounds, 1.0, means)?;
        Ok(d.iter().map(|d| d.round() as i32).collect())
    }
}
