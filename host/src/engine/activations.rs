//! Every tensor of a batch, and resuming a run after an edit.

use rayon::prelude::*;

use super::Engine;
use super::step::Scratch;
use crate::model::TensorId;

/// All activations of a batch of samples: one byte an element of every tensor and sample.
#[derive(Clone, Debug)]
pub struct Activations {
    samples: usize,
    /// `[tensor][n][elements]`
    tensors: Vec<Vec<i8>>,
}

/// The tensors that a [`Activations::rerun`] replaced.
#[derive(Debug)]
pub struct Rewind(Vec<(usize, Vec<i8>)>);

impl Activations {
    pub(super) fn new(engine: &Engine, inputs: &[i8]) -> Self {
        let samples = engine.samples(inputs);
        let mut tensors: Vec<Vec<i8>> = engine
            .tensors
            .iter()
            .map(|t| vec![t.zero_point; samples * t.elements])
            .collect();
        tensors[engine.input()].copy_from_slice(inputs);
        let mut a = Self { samples, tensors };
        a.rerun(engine, 0);
        a
    }

    /// Number of samples.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// A tensor of all samples, `[n][elements]`.
    pub fn tensor(&self, id: TensorId) -> &[i8] {
        &self.tensors[id.0]
    }

    /// All tensors, indexed by tensor id, each `[n][elements]`.
    pub fn tensors(&self) -> &[Vec<i8>] {
        &self.tensors
    }

    /// Recomputes nodes `from_node..` (all of them, whether or not they depend on `from_node`).
    ///
    /// `engine` must be the one that made these activations, or its equal but for edits of nodes
    /// `from_node..`.
    ///
    /// Gives back what was there, for [`Self::restore`].
    pub fn rerun(&mut self, engine: &Engine, from_node: usize) -> Rewind {
        let mut rewind = Rewind(Vec::new());
        if self.samples == 0 {
            return rewind;
        }
        let chunk = engine.chunk(self.samples);
        for step in &engine.steps[from_node.min(engine.steps.len())..] {
            let elements = engine.tensors[step.output].elements;
            let mut out = vec![0; self.tensors[step.output].len()];
            let tensors = &self.tensors;
            out.par_chunks_mut(chunk * elements)
                .enumerate()
                .for_each_init(Scratch::default, |scratch, (i, out)| {
                    let n = out.len() / elements;
                    let inputs: Vec<&[i8]> = step
                        .inputs
                        .iter()
                        .map(|&t| {
                            let e = engine.tensors[t].elements;
                            &tensors[t][i * chunk * e..][..n * e]
                        })
                        .collect();
                    step.execute(engine.isa, &inputs, out, n, scratch);
                });
            rewind.0.push((
                step.output,
                std::mem::replace(&mut self.tensors[step.output], out),
            ));
        }
        rewind
    }

    /// Undoes the rerun that gave `rewind`.
    pub fn restore(&mut self, rewind: Rewind) {
        for (tensor, values) in rewind.0 {
            self.tensors[tensor] = values;
        }
    }

    /// The samples at `indices`, in that order, as activations of their own.
    pub fn subset(&self, engine: &Engine, indices: &[usize]) -> Self {
        let tensors = self
            .tensors
            .iter()
            .zip(&engine.tensors)
            .map(|(t, info)| {
                indices
                    .iter()
                    .flat_map(|&i| {
                        t[i * info.elements..(i + 1) * info.elements]
                            .iter()
                            .copied()
                    })
                    .collect()
            })
            .collect();
        Self {
            samples: indices.len(),
            tensors,
        }
    }
}
