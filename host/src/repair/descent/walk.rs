//! A descent under way: integers, the real numbers behind them, and how one batch moves both.

use super::batches::Batches;
use super::hidden::Wanted;
use super::latent::{Gradient, Latent, Rates};
use super::snapshots::Quality;
use crate::classes::argmax;
use crate::engine::Activations;
use crate::float::Surrogate;
use crate::model::patches::Patches;
use crate::model::{Linear, QuantizedModel, TensorId};
use crate::repair::run::{Context, RepairError};
use crate::repair::state::Proposal;
use crate::repair::teacher::{Against, TEMPERATURE, probabilities};
use crate::repair::{State, Tests, logits};
use std::collections::BTreeMap;
use std::ops::Range;

/// A sample whose probabilities are nearer to the teacher's than this (sum of differences) moves
/// nothing, so its gradient is not worth its time.
const SETTLED: f32 = 0.01;
/// Rounds over which the rates rise.
const WARM_UP: usize = 20;

/// A gradient for each node with weights.
type Sums = BTreeMap<usize, Gradient>;

/// The descent under way.
pub struct Descent<'a> {
    model: QuantizedModel,
    /// The same network, to be run and to be differentiated.
    surrogate: Surrogate,
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
            surrogate: Surrogate::new(&model, context.config.backend)?,
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
            .surrogate
            .engine()
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
        let activations = self.surrogate.engine().activations(&batch.integers);
        let settings = &context.config.descent;
        let last = self
            .against(activations.tensor(self.at), &batch.teacher, TEMPERATURE)
            .gradient();
        let gradients = match batch.hidden.is_empty() {
            true => {
                let (activations, last) = self.unsettled(activations, &last);
                self.gradients(&activations, &last, &[], 0.0)?
            }
            false => self.gradients(&activations, &last, &batch.hidden, settings.hidden)?,
        };

        let warm = ((round + 1) as f32 / WARM_UP as f32).min(1.0);
        let part = round as f32 / rounds as f32;
        let rate = warm * 0.5 * (1.0 + (std::f32::consts::PI * part).cos());
        // The area under half a cosine is half of its box.
        let weights = (2.0 * settings.weight_path / rounds as f32).min(settings.weight_rate);
        let rates = Rates {
            weights: weights * rate,
            damping: settings.damping * part,
            bias: settings.fine_rate * rate,
            gain: settings.fine_rate * rate,
        };
        self.latent
            .step(&self.model, &gradients, rates, settings.keep);
        self.put(self.latent.integers());
        Ok(())
    }

    /// Only the samples that still pull at the `last` tensor, and their part of it.
    fn unsettled(&self, activations: Activations, last: &[f32]) -> (Activations, Vec<f32>) {
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
        (
            activations.subset(self.surrogate.engine(), &unsettled),
            kept,
        )
    }

    /// Puts integers into model and engine; a node whose accumulators could overflow stays as it was.
    fn put(&mut self, integers: Proposal) {
        for (node, new) in integers {
            let Some(slot) = self.model.nodes[node].op.linear_mut() else {
                continue;
            };
            let old = std::mem::replace(slot, new);
            if self.surrogate.update_node(&self.model, node).is_err()
                && let Some(slot) = self.model.nodes[node].op.linear_mut()
            {
                *slot = old;
            }
        }
    }

    /// What the `last` tensor's gradient and the distance from what `hidden` layers should give, of
    /// this `weight`, pull at.
    fn gradients(
        &self,
        activations: &Activations,
        last: &[f32],
        hidden: &[Wanted],
        weight: f32,
    ) -> Result<Sums, RepairError> {
        let each = weight / hidden.len().max(1) as f32;
        let at: Vec<TensorId> = hidden.iter().map(|w| w.tensor).chain([self.at]).collect();
        let slices: Vec<&[i8]> = activations.tensors().iter().map(Vec::as_slice).collect();
        let part = |t: TensorId, rows: &Range<usize>| {
            let e = self.model.tensor(t).elements();
            rows.start * e..rows.end * e
        };
        let seeds = |rows: Range<usize>| {
            let of = |wanted: &Wanted| {
                let (t, part) = (wanted.tensor, part(wanted.tensor, &rows));
                let scale = self.model.tensor(t).scale;
                wanted.gradient(&slices[t.0][part.clone()], part.start, scale, each)
            };
            let last = last[part(self.at, &rows)].to_vec();
            hidden.iter().map(of).chain([last]).collect()
        };
        let add = |sum: &mut Sums, rows: Range<usize>, of: &[(usize, Vec<f32>)]| {
            for (node, g) in of {
                let input = self.model.nodes[*node].inputs[0];
                let x = &slices[input.0][part(input, &rows)];
                if let Some(sum) = sum.get_mut(node) {
                    self.add(*node, x, g, rows.len(), sum);
                }
            }
        };
        let new = || self.nothing();
        let parts =
            self.surrogate
                .fold_batches(&slices, activations.samples(), &at, seeds, new, add)?;
        let mut all = self.nothing();
        for part in parts {
            for (sum, part) in all.values_mut().zip(part.into_values()) {
                sum.add(&part);
            }
        }
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

    fn nothing(&self) -> Sums {
        let zero = |(node, l): (usize, &Linear)| {
            let g = Gradient {
                weights: vec![0.0; l.weights.len()],
                bias: vec![0.0; l.out_channels()],
                gain: vec![0.0; l.out_channels()],
            };
            (node, g)
        };
        self.model.linears().map(zero).collect()
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
            Patches::of(&self.model, node).add_weight_gradient(x, g, rows, &mut sum.weights);
            return;
        }
        let accumulators = self.surrogate.engine().accumulators(node, x);
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
