//! Both networks over the same samples, tensor by tensor.

use super::metrics::{Decibels, Metrics};
use super::tensors::{Matched, matched_tensors, output_range};
use crate::classes::argmax;
use crate::engine::{Engine, EngineError};
use crate::float::{FloatError, FloatNet};
use crate::graph::{Graph, ValueId};
use crate::model::{QuantizedModel, TensorId};

/// Why two models could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// No tensor of one is one of the other.
    #[error(
        "the integer model `{model}` has no tensor whose name and shape `{graph}` also has; \
         give the float network that it was quantized from"
    )]
    NothingInCommon {
        /// Name of the integer model.
        model: String,
        /// Name of the float network.
        graph: String,
    },
    /// Inputs of the two networks are not of one size.
    #[error(
        "{reals} real values and {integers} integers do not describe the same samples of {sample} elements"
    )]
    Inputs {
        /// Number of real-valued elements.
        reals: usize,
        /// Number of integer elements.
        integers: usize,
        /// Elements of one sample.
        sample: usize,
    },
    /// The float network failed.
    #[error(transparent)]
    Float(#[from] FloatError),
    /// The integer engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// What one matched tensor showed.
#[derive(Clone, Debug)]
pub struct LayerReport {
    /// The node that makes the tensor, by index; none for the input.
    pub node: Option<usize>,
    /// The node's name, or `input`.
    pub layer: String,
    /// The operator's name.
    pub kind: &'static str,
    /// The tensor's name.
    pub tensor: String,
    /// Sums over all samples.
    pub metrics: Metrics,
    /// Signal-to-noise ratio of the worst of the tensors that the node reads (through nodes without
    /// a counterpart), less that of its output: what this layer itself loses. Undefined where one
    /// of the two has no finite ratio.
    pub loss: Decibels,
}

/// The comparison of two networks.
#[derive(Clone, Debug)]
pub struct Layers {
    /// Matched tensors in the order of execution.
    pub layers: Vec<LayerReport>,
    /// Nodes of the integer model whose output the float network does not have.
    pub unmatched: Vec<String>,
    /// Samples.
    pub samples: usize,
    /// Samples to which both give the same class.
    pub same_class: usize,
}

impl Layers {
    /// The first layer whose ratio is below `db`.
    pub fn first_below(&self, db: f64) -> Option<&LayerReport> {
        self.layers.iter().find(|l| l.metrics.sqnr().is_below(db))
    }

    /// The layer that loses most against what it reads.
    pub fn largest_loss(&self) -> Option<&LayerReport> {
        let loss = |l: &LayerReport| l.loss.finite().unwrap_or(f64::NEG_INFINITY);
        self.layers
            .iter()
            .filter(|l| l.loss.finite().is_some())
            .max_by(|a, b| loss(a).total_cmp(&loss(b)))
    }
}

/// A comparison under way: samples come in batches, only sums are kept.
pub struct LayerComparison<'a> {
    float: &'a FloatNet,
    model: &'a QuantizedModel,
    engine: Engine,
    matched: Vec<Matched>,
    keep_float: Vec<ValueId>,
    keep_int: Vec<TensorId>,
    metrics: Vec<Metrics>,
    classes: [usize; 2],
    samples: usize,
    same_class: usize,
    batch: usize,
}

/// Bytes that the kept tensors of one batch may take.
const BATCH_BYTES: usize = 64 << 20;

impl<'a> LayerComparison<'a> {
    /// Matches tensors and prepares both networks.
    ///
    /// # Errors
    /// [`CompareError::NothingInCommon`] where no node's output has a counterpart; the integer
    /// engine's errors.
    pub fn new(
        graph: &'a Graph,
        float: &'a FloatNet,
        model: &'a QuantizedModel,
    ) -> Result<Self, CompareError> {
        let matched = matched_tensors(graph, model);
        if matched.iter().all(|m| m.node.is_none()) {
            return Err(CompareError::NothingInCommon {
                model: model.name.clone(),
                graph: graph.name.clone(),
            });
        }
        let mut keep_float: Vec<ValueId> = matched.iter().map(|m| m.value).collect();
        keep_float.push(graph.output);
        let mut keep_int: Vec<TensorId> = matched.iter().map(|m| m.tensor).collect();
        keep_int.push(model.output);
        let bytes: usize = keep_float.iter().map(|&v| 5 * graph.elements(v)).sum();
        Ok(Self {
            float,
            model,
            engine: Engine::new(model)?,
            metrics: vec![Metrics::default(); matched.len()],
            matched,
            keep_float,
            keep_int,
            classes: [
                graph.elements(graph.output),
                model.tensor(model.output).elements(),
            ],
            samples: 0,
            same_class: 0,
            batch: (BATCH_BYTES / bytes.max(1)).clamp(1, 256),
        })
    }

    /// Samples that one call of [`Self::add`] should bring for its memory to stay small.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Takes in samples: `reals` for the float network, `integers` for the integer one, each
    /// `[n][h][w][c]`.
    ///
    /// # Errors
    /// Lengths that do not agree, and what the networks themselves refuse.
    pub fn add(&mut self, reals: &[f32], integers: &[i8]) -> Result<(), CompareError> {
        let sample = self.engine.input_elements();
        if reals.len() != integers.len() || sample == 0 || !reals.len().is_multiple_of(sample) {
            return Err(CompareError::Inputs {
                reals: reals.len(),
                integers: integers.len(),
                sample,
            });
        }
        let ints = self.engine.run_keep(integers, &self.keep_int);
        let floats = self.float.run_keep(reals, &self.keep_float)?;
        for (i, (m, metrics)) in self.matched.iter().zip(&mut self.metrics).enumerate() {
            let op = m.node.map(|n| &self.model.nodes[n].op);
            metrics.add(
                &floats[i],
                &ints[i],
                self.model.tensor(m.tensor),
                output_range(op),
            );
        }
        let (last, n) = (self.matched.len(), reals.len() / sample);
        let rows = floats[last]
            .chunks_exact(self.classes[0])
            .zip(ints[last].chunks_exact(self.classes[1]));
        self.same_class += rows.filter(|(f, q)| argmax(f) == argmax(q)).count();
        self.samples += n;
        Ok(())
    }

    /// The report.
    pub fn finish(self) -> Layers {
        // What reaches each tensor of the integer model: its own ratio where it is matched, else the
        // worst of what its node reads.
        let mut reach: Vec<Decibels> = vec![Decibels::Undefined; self.model.tensors.len()];
        let of = |tensor: TensorId| self.matched.iter().position(|m| m.tensor == tensor);
        let mut losses = vec![Decibels::Undefined; self.matched.len()];
        if let Some(i) = of(self.model.input) {
            reach[self.model.input.0] = self.metrics[i].sqnr();
        }
        let mut unmatched = Vec::new();
        for node in &self.model.nodes {
            let worst = worst(node.inputs.iter().map(|t| reach[t.0]));
            reach[node.output.0] = match of(node.output) {
                Some(i) => {
                    let own = self.metrics[i].sqnr();
                    if let (Some(before), Some(after)) = (worst.finite(), own.finite()) {
                        losses[i] = Decibels::Finite(before - after);
                    }
                    own
                }
                None => {
                    unmatched.push(node.name.clone());
                    worst
                }
            };
        }
        let layers = self
            .matched
            .iter()
            .zip(self.metrics)
            .zip(losses)
            .map(|((m, metrics), loss)| {
                let node = m.node.map(|n| &self.model.nodes[n]);
                LayerReport {
                    node: m.node,
                    layer: node.map_or_else(|| "input".into(), |n| n.name.clone()),
                    kind: node.map_or("Input", |n| n.op.kind()),
                    tensor: self.model.tensor(m.tensor).name.clone(),
                    metrics,
                    loss,
                }
            })
            .collect();
        Layers {
            layers,
            unmatched,
            samples: self.samples,
            same_class: self.same_class,
        }
    }
}

/// The lowest ratio; exact tensors do not count beside noisy ones.
fn worst(all: impl Iterator<Item = Decibels>) -> Decibels {
    all.fold(Decibels::Undefined, |a, b| match (a, b) {
        (Decibels::Finite(x), Decibels::Finite(y)) => Decibels::Finite(x.min(y)),
        (Decibels::Finite(x), _) | (_, Decibels::Finite(x)) => Decibels::Finite(x),
        (Decibels::Infinite, _) | (_, Decibels::Infinite) => Decibels::Infinite,
        _ => Decibels::Undefined,
    })
}
