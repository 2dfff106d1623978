//! What a round learns from: varied and blended copies of the samples, labelled by the teacher.

use super::augment::Augment;
use super::hidden::{Hidden, Wanted};
use crate::model::QuantizedModel;
use crate::repair::Tests;
use crate::repair::run::{Context, RepairError};
use crate::repair::teacher::{TEMPERATURE, logits, softmaxed};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that a batch's activations and gradients may take.
const MEMORY: usize = 512 << 20;
/// Batches that are kept to be used again.
const KEPT: usize = 64;
/// Fewer than that are not used again.
const FEW: usize = 16;

/// Varied inputs, quantized, with the teacher's probabilities.
pub struct Batch {
    /// `[n][h][w][c]`
    pub integers: Vec<i8>,
    /// `[n][classes]`
    pub teacher: Vec<f32>,
    /// What its layers give.
    pub hidden: Vec<Wanted>,
}

/// Draws batches.
pub struct Batches<'a> {
    tests: &'a Tests,
    augment: Augment,
    size: usize,
    rng: StdRng,
    hidden: Hidden,
    /// How many are kept.
    keep: usize,
    kept: VecDeque<Arc<Batch>>,
}

impl<'a> Batches<'a> {
    /// Batches of repair samples and what has no labels, varied so, as far as memory allows.
    pub fn new(
        tests: &'a Tests,
        model: &QuantizedModel,
        context: &Context<'_>,
        augment: Augment,
    ) -> Self {
        let elements: usize = model.tensors.iter().map(|t| t.elements()).sum();
        // An activation, its gradient, and what the pass holds beside them.
        let per_sample = elements.saturating_mul(1 + 3 * 4).max(1);
        let settings = &context.config.descent;
        let size = settings.batch.min(MEMORY / per_sample).max(1);
        let hidden = match settings.hidden > 0.0 {
            true => Hidden::of(context.graph, model),
            false => Hidden::none(),
        };
        let each = size * (hidden.elements + tests.sample);
        Self {
            tests,
            augment,
            size,
            rng: StdRng::seed_from_u64(context.config.seed),
            keep: KEPT.min(MEMORY / each.max(1)),
            hidden,
            kept: VecDeque::new(),
        }
    }

    /// A fresh batch, or one from before.
    ///
    /// # Errors
    /// [`RepairError`] where the teacher cannot be run.
    pub fn next(
        &mut self,
        model: &QuantizedModel,
        context: &Context<'_>,
    ) -> Result<Arc<Batch>, RepairError> {
        let again = context.config.descent.replays;
        if self.kept.len() >= FEW && self.rng.random_range(0..=again) > 0 {
            let i = self.rng.random_range(0..self.kept.len());
            return Ok(self.kept[i].clone());
        }
        let input = model.tensor(model.input);
        let reals = self.draw(
            context.graph.shape(context.graph.input),
            255.0 * input.scale,
        );
        let last = logits(context.graph);
        let (hidden, z) = self.hidden.ask(model, context.float, &reals, last)?;
        let batch = Arc::new(Batch {
            integers: reals.iter().map(|&x| input.quantize(x)).collect(),
            teacher: softmaxed(z, context.graph.elements(last), TEMPERATURE),
            hidden,
        });
        if again > 0 && self.keep >= FEW {
            if self.kept.len() == self.keep {
                self.kept.pop_front();
            }
            self.kept.push_back(batch.clone());
        }
        Ok(batch)
    }

    /// Varied copies of samples drawn at random, some blended with another.
    fn draw(&mut self, shape: [usize; 3], range: f32) -> Vec<f32> {
        let tests = self.tests;
        let sample = tests.sample;
        let count = tests.len() + tests.extra.len() / sample.max(1);
        let one = |i: usize| {
            let all = match i.checked_sub(tests.len()) {
                None => &tests.reals[i * sample..],
                Some(i) => &tests.extra[i * sample..],
            };
            &all[..sample]
        };
        let mut reals = Vec::with_capacity(self.size * sample);
        let mut other = Vec::with_capacity(sample);
        for k in 0..self.size {
            let rng = &mut self.rng;
            let i = rng.random_range(0..count);
            self.augment.vary(one(i), shape, range, rng, &mut reals);
            if self.augment.blend > 0.0 && rng.random::<f32>() < self.augment.blend {
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
}
