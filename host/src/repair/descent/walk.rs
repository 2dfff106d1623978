//! A descent under way: integers, the real numbers behind them, and how one batch moves both.

use super::batches::{Batch, Batches};
use super::hidden;
use super::latent::{Gradient, Latent, Rates};
use super::snapshots::Quality;
use super::teacher::{Against, TEMPERATURE, probabilities};
use crate::classes::argmax;
use crate::engine::{Activations, Engine};
use crate::float::{Seeds, Surrogate};
use crate::model::patches::Patches;
use crate::model::{QuantizedModel, TensorId};
use crate::repair::run::{Context, RepairError};
use crate::repair::state::Proposal;
use crate::repair::{State, Tests, logits};
use std::collections::BTreeMap;

/// A sample whose probabilities are nearer to the teacher's than this (sum of differences) moves
/// nothing, so its gradient is not worth its time.
const SETTLED: f32 = 0.01;
/// Rounds over which the rates rise.
const WARM_UP: usize = 20;

/// The descent under way.
pub struct Descent<'a> {
    model: QuantizedModel,
    engine: Engine,
    latent: Latent,
    at: TensorId,
    holdout: &'a Holdout<'a>,
}

/// The holdout set, with what the teacher says of it.
pub struct Holdout<'a> {
    tests: &'a Tests,
    /// The teacher's probabilities.
    teacher: Vec<f32>,
}

impl<'a> Holdout<'a> {
    /// Asks the teacher.
    ///
    /// # Errors
    /// [`RepairError`] where it cannot be run.
    pub fn new(tests: &'a Tests, context: &Context<'_>) -> Result<Self, RepairError> {
        let teacher = probabilities(context.float, context.graph, &tests.reals, 1.0)?;
        Ok(Self { tests, teacher })
    }
}

impl<'a> Descent<'a> {
    /// Starts at the accepted model; only neurons that are `wanted` move.
    ///
    /// # Errors
    /// [`RepairError`] where a network cannot be run.
    pub fn new(
        state: &State<'_>,
        context: &Context<'_>,
        holdout: &'a Holdout<'a>,
        wanted: &dyn Fn(usize, usize) -> bool,
    ) -> Result<Self, RepairError> {
        let model = state.model().clone();
        Ok(Self {
            engine: Engine::new(&model)?,
            latent: Latent::new(state, context.graph, wanted, context.config.weight_steps),
            at: logits(&model),
            holdout,
            model,
        })
    }

    /// Shows the integers to `see`, those of the real numbers and those of their running averages, with
    /// their quality.
    pub fn show(&mut self, mut see: impl FnMut(Quality, Proposal)) {
        see(self.quality(), self.latent.integers());
        self.put(self.latent.averaged());
        see(self.quality(), self.latent.averaged());
        self.put(self.latent.integers());
    }

    fn against<'b>(&self, logits: &'b [i8], teacher: &'b [f32], temperature: f32) -> Against<'b> {
        let tensor = self.model.tensor(self.at);
        Against {
            logits,
            scale: tensor.scale / temperature,
            teacher,
            classes: tensor.elements(),
        }
    }

    /// Of the integers on the holdout set.
    pub fn quality(&self) -> Quality {
        let z = self
            .engine
            .run_keep(&self.holdout.tests.integers, &[self.at])
            .swap_remove(0);
        let against = self.against(&z, &self.holdout.teacher, 1.0);
        let correct = self.holdout.tests.labels.as_ref().map_or(0, |labels| {
            z.chunks_exact(against.classes.max(1))
                .zip(labels)
                .filter(|(z, label)| argmax(z) == **label)
                .count()
        });
        Quality {
            divergence: against.divergence(),
            correct,
        }
    }

    /// One batch, the `round`th of `rounds`.
    ///
    /// # Errors
    /// [`RepairError`] where a network cannot be run or differentiated.
    pub fn round(
        &mut self,
        batches: &mut Batches<'_>,
        context: &Context<'_>,
        (round, rounds): (usize, usize),
    ) -> Result<(), RepairError> {
        let batch = batches.next(&self.model, context)?;
        let activations = self.engine.activations(&batch.integers);
        let settings = &context.config.descent;
        let mut seeds = self.hidden_seeds(&activations, &batch, settings.hidden);
        let last = self
            .against(activations.tensor(self.at), &batch.teacher, TEMPERATURE)
            .gradient();
        let activations = match seeds.is_empty() {
            true => self.unsettled(activations, last, &mut seeds),
            false => {
                seeds.push((self.at, last));
                activations
            }
        };
        let seeds: Vec<Seeds<'_>> = seeds.iter().map(|(t, s)| (*t, &s[..])).collect();
        let surrogate = Surrogate::new(&self.model, context.config.backend)?;
        let gradients = self.gradients(&surrogate, &activations, &seeds)?;

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
        self.latent
            .step(&self.model, &gradients, rates, settings.keep);
        self.put(self.latent.integers());
        Ok(())
    }

    /// What the hidden activations of all samples pull at, each layer with the same share.
    fn hidden_seeds(
        &self,
        activations: &Activations,
        batch: &Batch,
        weight: f32,
    ) -> Vec<(TensorId, Vec<f32>)> {
        let each = weight / batch.hidden.len().max(1) as f32;
        batch
            .hidden
            .iter()
            .map(|(t, wanted)| {
                let scale = self.model.tensor(*t).scale;
                (
                    *t,
                    hidden::gradient(activations.tensor(*t), wanted, scale, each),
                )
            })
            .collect()
    }

    /// Only the samples that still pull at the `last` tensor, whose seeds are added.
    fn unsettled(
        &self,
        activations: Activations,
        last: Vec<f32>,
        seeds: &mut Vec<(TensorId, Vec<f32>)>,
    ) -> Activations {
        let classes = self.model.tensor(self.at).elements();
        let samples = activations.samples();
        let unsettled: Vec<usize> = (0..samples)
            .filter(|i| {
                let seed = &last[i * classes..(i + 1) * classes];
                samples as f32 * seed.iter().map(|v| v.abs()).sum::<f32>() > SETTLED
            })
            .collect();
        let kept = unsettled
            .iter()
            .flat_map(|i| &last[i * classes..(i + 1) * classes])
            .copied()
            .collect();
        seeds.push((self.at, kept));
        activations.subset(&self.engine, &unsettled)
    }

    /// Puts integers into model and engine; a node whose accumulators could overflow stays as it was.
    fn put(&mut self, integers: Proposal) {
        for (node, new) in integers {
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
        seeds: &[Seeds<'_>],
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
        surrogate.for_each_batch(&slices, activations.samples(), seeds, |rows, of| {
            for (node, g) in of {
                let input = self.model.nodes[*node].inputs[0];
                let e = self.model.tensor(input).elements();
                let x = &slices[input.0][rows.start * e..rows.end * e];
                if let Some(sum) = all.get_mut(node) {
                    self.add(*node, x, g, rows.len(), sum);
                }
            }
        })?;
        for (node, linear) in self.model.linears() {
            let Some(g) = all.get_mut(&node) else {
                continue;
            };
            let means = self.latent.means(node);
            let taps = linear.taps();
            for c in 0..linear.out_channels() {
                let scale = self.model.accumulator_scale(node, c);
                let at = c * taps..(c + 1) * taps;
                if self.latent.moves_weights(node) {
                    // An accumulator is its bias and its products, so its sum over all positions
                    // follows from theirs.
                    let products = g.weights[at.clone()].iter().zip(linear.row(c));
                    g.gain[c] = linear.bias[c] as f64 * g.bias[c]
                        + products.map(|(g, &w)| g * w as f64).sum::<f64>();
                }
                g.gain[c] *= scale;
                for (w, &mean) in g.weights[at.clone()].iter_mut().zip(&means[at]) {
                    *w = (*w - mean as f64 * g.bias[c]) * scale;
                }
            }
        }
        Ok(all)
    }

    /// Adds what some samples say of one node: input `x`, gradient `g` of the pre-activation. Weights
    /// and gain are left in units of the accumulator.
    fn add(&self, node: usize, x: &[i8], g: &[f32], rows: usize, sum: &mut Gradient) {
        let channels = sum.bias.len();
        for g in g.chunks_exact(channels) {
            for (sum, &g) in sum.bias.iter_mut().zip(g) {
                *sum += g as f64;
            }
        }
        if self.latent.moves_weights(node) {
            Patches::of(&self.model, node).accumulate_weight_gradient(x, g, rows, &mut sum.weights);
            return;
        }
        let accumulators = self.engine.accumulators(node, x);
        for (g, a) in g
            .chunks_exact(channels)
            .zip(accumulators.chunks_exact(channels))
        {
            for ((sum, &g), &a) in sum.gain.iter_mut().zip(g).zip(a) {
                *sum += g as f64 * a as f64;
            }
        }
    }
}
