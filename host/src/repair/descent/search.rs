//! The rounds: draw, run, differentiate, move; and which snapshot is proposed.

use super::augment::Augment;
use super::latent::{Gradient, Latent, Rates};
use super::teacher::{Against, probabilities};
use crate::engine::{Activations, Engine};
use crate::float::Surrogate;
use crate::model::{QuantizedModel, TensorId};
use crate::repair::patches::Patches;
use crate::repair::run::{Context, RepairError, Step};
use crate::repair::state::Proposal;
use crate::repair::{State, Verdict, logits};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Instant;

/// Settings of `descent`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Rounds for one of [`rounds`](crate::repair::RepairConfig::rounds).
    pub rounds_each: usize,
    /// Samples drawn for a round, as far as memory allows.
    pub batch: usize,
    /// How far a weight's real number goes over all rounds if every batch agrees, in steps.
    pub weight_path: f32,
    /// Largest move of a weight in a round, in steps.
    pub weight_rate: f32,
    /// First move of a bias, in deviations of the pre-activation, and of a multiplier, relative; it
    /// falls to nothing by half a cosine.
    pub fine_rate: f32,
    /// Share of the copies that are blended with another sample.
    pub mix: f32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rounds_each: 60,
            batch: 128,
            weight_path: 4.0,
            weight_rate: 0.02,
            fine_rate: 0.01,
            mix: 0.5,
        }
    }
}

/// Bytes that a batch's activations and gradients may take.
const MEMORY: usize = 512 << 20;
/// A sample whose probabilities are nearer to the teacher's than this (sum of differences) moves
/// nothing, so its gradient is not worth its time.
const SETTLED: f32 = 0.01;
/// Rounds over which the rates rise.
const WARM_UP: usize = 20;
/// Rounds after which the pace is measured first.
const PACE: usize = 6;
/// A snapshot is judged every so many rounds.
const LOOK: usize = 25;

/// Descends, and proposes the snapshot that the holdout set likes best. At most `share` of the time
/// that is left is used: if all rounds do not fit, there are fewer.
///
/// # Errors
/// [`RepairError`] where the model cannot be run or differentiated.
pub fn run(
    state: &mut State<'_>,
    context: &mut Context<'_>,
    share: f64,
) -> Result<(), RepairError> {
    let most = context.config.rounds * context.config.descent.rounds_each;
    if most == 0 || context.stop() {
        return Ok(());
    }
    let start = Instant::now();
    let limit = context.time_left().map(|left| left.mul_f64(share));
    let wanted = context.wanted(state);
    let mut descent = Descent::new(state, context, &*wanted)?;
    let first = descent.divergence()?;
    let mut best: (f64, Option<Proposal>) = (first, None);
    let (mut round, mut rounds) = (0, most);
    let began = Instant::now();
    while round < rounds && !context.stop() {
        if limit.is_some_and(|l| start.elapsed() >= l) {
            break;
        }
        descent.round(state, context, (round, rounds))?;
        round += 1;
        if let Some(limit) = limit.filter(|_| round == PACE || round % LOOK == 0) {
            let pace = began.elapsed().as_secs_f64() / round as f64;
            let left = limit.saturating_sub(start.elapsed()).as_secs_f64();
            rounds = most.min(round + (left / pace.max(1e-9)) as usize);
        }
        if round % LOOK == 0 || round >= rounds {
            let found = descent.divergence()?;
            if found < best.0 {
                best = (found, Some(descent.latent.integers()));
            }
            context.report(Step {
                strategy: "descent",
                what: format!("{round} of {rounds} rounds, holdout divergence {found:.4}"),
                edits: 0,
                verdict: Verdict::Watched,
                broken: 0,
                score: state.score(),
            });
        }
    }
    let last = descent.latent.integers();
    for (what, proposal) in [("best snapshot", best.1), ("last snapshot", Some(last))] {
        let Some(proposal) = proposal else { continue };
        let edits = proposal.len();
        let verdict = state.propose(proposal);
        context.report(Step {
            strategy: "descent",
            what: format!(
                "{what}, {round} rounds, holdout divergence {first:.4} -> {:.4}",
                best.0
            ),
            edits,
            verdict,
            broken: state.broken().len(),
            score: state.score(),
        });
        if verdict == Verdict::Accepted {
            break;
        }
    }
    Ok(())
}

/// The descent under way.
struct Descent<'a> {
    model: QuantizedModel,
    engine: Engine,
    latent: Latent,
    rng: StdRng,
    augment: Augment,
    batch: usize,
    at: TensorId,
    holdout: &'a [i8],
    /// The teacher's probabilities on the holdout set.
    holdout_teacher: Vec<f32>,
}

impl<'a> Descent<'a> {
    fn new(
        state: &State<'a>,
        context: &Context<'_>,
        wanted: &dyn Fn(usize, usize) -> bool,
    ) -> Result<Self, RepairError> {
        let model = state.model().clone();
        let shape = context.graph.shape(context.graph.input);
        let elements: usize = model.tensors.iter().map(|t| t.elements()).sum();
        // An activation, its gradient, and what the pass holds beside them.
        let per_sample = elements.saturating_mul(1 + 3 * 4).max(1);
        Ok(Self {
            engine: Engine::new(&model)?,
            latent: Latent::new(state, wanted, context.config.weight_steps),
            rng: StdRng::seed_from_u64(context.config.seed),
            augment: match context.config.augment {
                None => Augment::for_shape(shape),
                Some(v) => Augment::of(v, shape),
            },
            batch: context.config.descent.batch.min(MEMORY / per_sample).max(1),
            at: logits(&model),
            holdout: &state.holdout().integers,
            holdout_teacher: probabilities(context.float, context.graph, &state.holdout().reals)?,
            model,
        })
    }

    fn against<'b>(&self, logits: &'b [i8], teacher: &'b [f32]) -> Against<'b> {
        let tensor = self.model.tensor(self.at);
        Against {
            logits,
            scale: tensor.scale,
            teacher,
            classes: tensor.elements(),
        }
    }

    /// Of the integers on the holdout set.
    fn divergence(&self) -> Result<f64, RepairError> {
        let z = self
            .engine
            .run_keep(self.holdout, &[self.at])
            .swap_remove(0);
        Ok(self.against(&z, &self.holdout_teacher).divergence())
    }

    /// Inputs of one batch: varied copies of repair samples.
    fn draw(&mut self, state: &State<'_>, context: &Context<'_>) -> Vec<f32> {
        let shape = context.graph.shape(context.graph.input);
        let input = self.model.tensor(self.model.input);
        let range = 255.0 * input.scale;
        let tests = state.repair();
        let sample = tests.sample;
        let count = tests.len() + tests.extra.len() / sample.max(1);
        let one = |i: usize| {
            let all = match i.checked_sub(tests.len()) {
                None => &tests.reals[i * sample..],
                Some(i) => &tests.extra[i * sample..],
            };
            &all[..sample]
        };
        let mut reals = Vec::with_capacity(self.batch * sample);
        let mut other = Vec::with_capacity(sample);
        for k in 0..self.batch {
            let rng = &mut self.rng;
            let i = rng.random_range(0..count);
            self.augment.vary(one(i), shape, range, rng, &mut reals);
            if context.config.descent.mix > 0.0 && rng.random::<f32>() < context.config.descent.mix
            {
                let i = rng.random_range(0..count);
                other.clear();
                self.augment.vary(one(i), shape, range, rng, &mut other);
                let part = 0.5 * rng.random::<f32>();
                for (a, b) in reals[k * sample..].iter_mut().zip(&other) {
                    *a += part * (b - *a);
                }
            }
        }
        reals
    }

    /// One batch, the `round`th of `rounds`.
    fn round(
        &mut self,
        state: &State<'_>,
        context: &Context<'_>,
        (round, rounds): (usize, usize),
    ) -> Result<(), RepairError> {
        let reals = self.draw(state, context);
        let input = self.model.tensor(self.model.input);
        let integers: Vec<i8> = reals.iter().map(|&x| input.quantize(x)).collect();
        let teacher = probabilities(context.float, context.graph, &reals)?;
        let activations = self.engine.activations(&integers);
        let seeds = self
            .against(activations.tensor(self.at), &teacher)
            .gradient();
        let classes = self.model.tensor(self.at).elements();
        let samples = activations.samples();
        let unsettled: Vec<usize> = (0..samples)
            .filter(|i| {
                let seed = &seeds[i * classes..(i + 1) * classes];
                samples as f32 * seed.iter().map(|v| v.abs()).sum::<f32>() > SETTLED
            })
            .collect();
        let seeds: Vec<f32> = unsettled
            .iter()
            .flat_map(|i| &seeds[i * classes..(i + 1) * classes])
            .copied()
            .collect();
        let activations = activations.subset(&self.engine, &unsettled);
        let surrogate = Surrogate::new(&self.model, context.config.backend)?;
        let gradients = self.gradients(&surrogate, &activations, &seeds)?;

        let settings = &context.config.descent;
        let warm = ((round + 1) as f32 / WARM_UP as f32).min(1.0);
        let part = round as f32 / rounds as f32;
        let rate = warm * 0.5 * (1.0 + (std::f32::consts::PI * part).cos());
        // The area under half a cosine is half of its box.
        let weights = (2.0 * settings.weight_path / rounds as f32).min(settings.weight_rate);
        let rates = Rates {
            weights: weights * rate,
            bias: settings.fine_rate * rate,
            gain: settings.fine_rate * rate,
        };
        self.latent.step(&self.model, &gradients, rates);
        self.take_over();
        Ok(())
    }

    /// Puts the integers of the real numbers into model and engine; a node whose accumulators could
    /// overflow stays as it was.
    fn take_over(&mut self) {
        for (node, new) in self.latent.integers() {
            let Some(slot) = self.model.nodes[node].op.linear_mut() else {
                continue;
            };
            let old = std::mem::replace(slot, new);
            if self.engine.update_node(&self.model, node).is_err()
                && let Some(slot) = self.model.nodes[node].op.linear_mut()
            {
                *slot = old;
            }
        }
    }

    fn gradients(
        &self,
        surrogate: &Surrogate,
        activations: &Activations,
        seeds: &[f32],
    ) -> Result<BTreeMap<usize, Gradient>, RepairError> {
        let mut all: BTreeMap<usize, Gradient> = self
            .model
            .linears()
            .map(|(node, l)| {
                let zero = Gradient {
                    weights: vec![0.0; l.weights.len()],
                    bias: vec![0.0; l.out_channels()],
                    gain: vec![0.0; l.out_channels()],
                };
                (node, zero)
            })
            .collect();
        let slices: Vec<&[i8]> = activations.tensors().iter().map(Vec::as_slice).collect();
        surrogate.for_each_batch(
            &slices,
            activations.samples(),
            self.at,
            seeds,
            |rows, of| {
                for (node, g) in of {
                    let input = self.model.nodes[*node].inputs[0];
                    let e = self.model.tensor(input).elements();
                    let x = &slices[input.0][rows.start * e..rows.end * e];
                    if let Some(sum) = all.get_mut(node) {
                        self.add(*node, x, g, rows.len(), sum);
                    }
                }
            },
        )?;
        for (&node, g) in &mut all {
            let means = self.latent.means(node);
            let taps = g.weights.len() / g.bias.len().max(1);
            for (k, w) in g.weights.iter_mut().enumerate() {
                let c = k / taps;
                *w = (*w - means[k] as f64 * g.bias[c]) * self.model.accumulator_scale(node, c);
            }
        }
        Ok(all)
    }

    /// Adds what some samples say of one node: input `x`, gradient `g` of the pre-activation.
    fn add(&self, node: usize, x: &[i8], g: &[f32], rows: usize, sum: &mut Gradient) {
        if self.latent.moves_weights(node) {
            Patches::of(&self.model, node).accumulate_weight_gradient(x, g, rows, &mut sum.weights);
        }
        let channels = sum.bias.len();
        let scales: Vec<f64> = (0..channels)
            .map(|c| self.model.accumulator_scale(node, c))
            .collect();
        let accumulators = self.engine.accumulators(node, x);
        for (g, a) in g
            .chunks_exact(channels)
            .zip(accumulators.chunks_exact(channels))
        {
            for c in 0..channels {
                sum.bias[c] += g[c] as f64;
                sum.gain[c] += g[c] as f64 * a[c] as f64 * scales[c];
            }
        }
    }
}
