//! The engine: a network made ready, and batches through it.

use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::step::{Scratch, Step};
use super::{Activations, EngineError, Isa, check};
use crate::model::{QuantizedModel, TensorId};

/// What the engine asks of a tensor.
#[derive(Clone, Debug)]
pub(super) struct TensorInfo {
    pub elements: usize,
    pub zero_point: i8,
}

/// A [`QuantizedModel`] prepared for running many samples.
///
/// Preparing copies and packs the weights (their number times two to four bytes); after an edit of
/// one node, [`Engine::update_node`] repacks only that node.
#[derive(Clone, Debug)]
pub struct Engine {
    pub(super) isa: Isa,
    pub(super) tensors: Vec<TensorInfo>,
    pub(super) steps: Vec<Step>,
    input: usize,
    output: usize,
}

/// Bytes of activations and scratch that a chunk of samples may take, so that it stays in a
/// core's second-level cache.
const CHUNK_BYTES: usize = 512 << 10;

impl Engine {
    /// Checks and packs a network for the best instruction set of this machine.
    ///
    /// # Errors
    /// Broken wiring, shapes that do not fit, numbers outside their range, and a channel whose
    /// accumulator could overflow (see [`super::accumulator_bound`]).
    pub fn new(model: &QuantizedModel) -> Result<Self, EngineError> {
        Self::with_isa(model, Isa::detect())
    }

    /// As [`Self::new`] with an instruction set from [`Isa::available`].
    pub fn with_isa(model: &QuantizedModel, isa: Isa) -> Result<Self, EngineError> {
        let isa = if Isa::available().contains(&isa) {
            isa
        } else {
            Isa::Portable
        };
        check::wiring(model)?;
        for node in &model.nodes {
            check::node(model, node)?;
        }
        Ok(Self {
            isa,
            tensors: model
                .tensors
                .iter()
                .map(|t| TensorInfo {
                    elements: t.elements(),
                    zero_point: t.zero_point,
                })
                .collect(),
            steps: (0..model.nodes.len())
                .map(|i| Step::new(model, i, isa))
                .collect(),
            input: model.input.0,
            output: model.output.0,
        })
    }

    /// Takes over the weights, biases, multipliers and range of one node after an edit.
    ///
    /// `model` must be the network that this engine was made of, with no other change of its
    /// tensors or wiring.
    ///
    /// # Errors
    /// As [`Self::new`]; the engine then still runs the node as it was.
    pub fn update_node(&mut self, model: &QuantizedModel, node: usize) -> Result<(), EngineError> {
        let same =
            model.tensors.len() == self.tensors.len() && model.nodes.len() == self.steps.len();
        if !same || node >= model.nodes.len() {
            return Err(EngineError::Wiring {
                what: format!("node {node} is not of this engine's network"),
            });
        }
        check::node(model, &model.nodes[node])?;
        self.steps[node] = Step::new(model, node, self.isa);
        Ok(())
    }

    /// Elements of one sample of the input.
    pub fn input_elements(&self) -> usize {
        self.tensors[self.input].elements
    }

    /// Elements of one sample of the output.
    pub fn output_elements(&self) -> usize {
        self.tensors[self.output].elements
    }

    /// Elements of one sample of a tensor.
    pub fn elements(&self, id: TensorId) -> usize {
        self.tensors[id.0].elements
    }

    /// Outputs of `n` samples, `[n][output elements]`.
    ///
    /// `inputs` is `[n][h][w][c]` int8. Runs on all cores.
    ///
    /// # Panics
    /// Where the length of `inputs` is not a multiple of [`Self::input_elements`].
    pub fn run(&self, inputs: &[i8]) -> Vec<i8> {
        self.run_keep(inputs, &[TensorId(self.output)])
            .pop()
            .expect("one tensor was asked for")
    }

    /// The named tensors of `n` samples, each `[n][elements]`, in the order of `keep`.
    ///
    /// # Panics
    /// As [`Self::run`], and for a tensor that is not of this network.
    pub fn run_keep(&self, inputs: &[i8], keep: &[TensorId]) -> Vec<Vec<i8>> {
        let n = self.samples(inputs);
        let mut kept: Vec<Vec<i8>> = keep
            .iter()
            .map(|id| vec![0; n * self.tensors[id.0].elements])
            .collect();
        let chunk = self.chunk(n);
        // One list of output slices a chunk, so that threads write where nobody else does.
        let mut parts: Vec<Vec<&mut [i8]>> = (0..n.div_ceil(chunk)).map(|_| Vec::new()).collect();
        for (k, id) in kept.iter_mut().zip(keep) {
            for (part, slice) in parts
                .iter_mut()
                .zip(k.chunks_mut(chunk * self.tensors[id.0].elements))
            {
                part.push(slice);
            }
        }
        inputs
            .par_chunks(chunk * self.input_elements())
            .zip(parts)
            .for_each_init(
                || (Scratch::default(), self.buffers(chunk)),
                |(scratch, buffers), (x, part)| {
                    let n = x.len() / self.input_elements();
                    buffers[self.input][..x.len()].copy_from_slice(x);
                    for step in &self.steps {
                        self.step(step, buffers, n, scratch);
                    }
                    for (to, id) in part.into_iter().zip(keep) {
                        to.copy_from_slice(&buffers[id.0][..to.len()]);
                    }
                },
            );
        kept
    }

    /// How long each node takes for `n` samples, chunk by chunk on this thread alone.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn profile(&self, inputs: &[i8]) -> Vec<Duration> {
        let chunk = self.chunk(self.samples(inputs));
        let (mut scratch, mut buffers) = (Scratch::default(), self.buffers(chunk));
        let mut times = vec![Duration::ZERO; self.steps.len()];
        for x in inputs.chunks(chunk * self.input_elements()) {
            buffers[self.input][..x.len()].copy_from_slice(x);
            let n = x.len() / self.input_elements();
            for (step, time) in self.steps.iter().zip(&mut times) {
                let begin = Instant::now();
                self.step(step, &mut buffers, n, &mut scratch);
                *time += begin.elapsed();
            }
        }
        times
    }

    /// One node over the `n` samples at the beginning of the buffers.
    fn step(&self, step: &Step, buffers: &mut [Vec<i8>], n: usize, scratch: &mut Scratch) {
        let mut out = std::mem::take(&mut buffers[step.output]);
        let inputs: Vec<&[i8]> = step
            .inputs
            .iter()
            .map(|&i| &buffers[i][..n * self.tensors[i].elements])
            .collect();
        let size = n * self.tensors[step.output].elements;
        step.execute(self.isa, &inputs, &mut out[..size], n, scratch);
        buffers[step.output] = out;
    }

    /// All tensors of `n` samples, kept so that a run can be resumed after an edit.
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn activations(&self, inputs: &[i8]) -> Activations {
        Activations::new(self, inputs)
    }

    /// Accumulators, bias included, of a linear node: `[n][h][w][out_c]`, in units of
    /// [`QuantizedModel::accumulator_scale`].
    ///
    /// `input` is the node's input tensor, `[n][elements]`. Empty for a node that has no weights.
    ///
    /// # Panics
    /// Where `input` is not a whole number of samples of the node's input.
    pub fn accumulators(&self, node: usize, input: &[i8]) -> Vec<i32> {
        let step = &self.steps[node];
        let (x, y) = (
            self.tensors[step.inputs[0]].elements,
            self.tensors[step.output].elements,
        );
        assert_eq!(
            input.len() % x,
            0,
            "input of node {node} is not a multiple of {x} elements"
        );
        step.accumulators(self.isa, input, (x, y), self.chunk(input.len() / x))
    }

    pub(super) fn samples(&self, inputs: &[i8]) -> usize {
        let e = self.input_elements();
        assert_eq!(
            inputs.len() % e,
            0,
            "{} input values are not a multiple of {e}",
            inputs.len()
        );
        inputs.len() / e
    }

    pub(super) fn input(&self) -> usize {
        self.input
    }

    /// Samples a chunk: few enough for the cache, and enough chunks for all cores.
    pub(super) fn chunk(&self, n: usize) -> usize {
        let tensors: usize = self.tensors.iter().map(|t| t.elements).sum();
        let scratch = self
            .steps
            .iter()
            .map(Step::scratch_bytes)
            .max()
            .unwrap_or(0);
        let cached = CHUNK_BYTES / (tensors + scratch).max(1);
        let shared_out = n.div_ceil(4 * rayon::current_num_threads());
        cached.min(shared_out).clamp(1, 256)
    }

    fn buffers(&self, chunk: usize) -> Vec<Vec<i8>> {
        self.tensors
            .iter()
            .map(|t| vec![0; chunk * t.elements])
            .collect()
    }
}

/// Runs one node of a network that may still be in the making: only this node and its tensors are
/// looked at. `inputs` are its operands, `[n][elements]` each; the result is its output.
///
/// # Errors
/// As [`Engine::new`], for this node.
///
/// # Panics
/// Where operands are not `n` samples each.
pub fn run_node(
    model: &QuantizedModel,
    node: usize,
    inputs: &[&[i8]],
    n: usize,
) -> Result<Vec<i8>, EngineError> {
    check::node(model, &model.nodes[node])?;
    let isa = Isa::detect();
    let step = Step::new(model, node, isa);
    let elements = |i: usize| model.tensors[step.inputs[i]].elements();
    for (i, x) in inputs.iter().enumerate() {
        assert_eq!(x.len(), n * elements(i), "operand {i} of node {node}");
    }
    let out_elements = model.tensors[step.output].elements();
    let mut out = vec![0; n * out_elements];
    let chunk = n.div_ceil(4 * rayon::current_num_threads()).clamp(1, 16);
    out.par_chunks_mut(chunk * out_elements)
        .enumerate()
        .for_each_init(Scratch::default, |scratch, (at, out)| {
            let n = out.len() / out_elements;
            let part: Vec<&[i8]> = inputs
                .iter()
                .enumerate()
                .map(|(i, x)| &x[at * chunk * elements(i)..][..n * elements(i)])
                .collect();
            step.execute(isa, &part, out, n, scratch);
        });
    Ok(out)
}

/// As [`run_node`], but the accumulators of a linear node, bias included, `[n][h][w][out_c]`; empty
/// for a node that has no weights.
///
/// # Errors
/// As [`run_node`].
///
/// # Panics
/// As [`run_node`].
pub fn node_accumulators(
    model: &QuantizedModel,
    node: usize,
    input: &[i8],
    n: usize,
) -> Result<Vec<i32>, EngineError> {
    check::node(model, &model.nodes[node])?;
    let isa = Isa::detect();
    let step = Step::new(model, node, isa);
    let x = model.tensors[step.inputs[0]].elements();
    let y = model.tensors[step.output].elements();
    assert_eq!(input.len(), n * x, "input of node {node}");
    Ok(step.accumulators(
        isa,
        input,
        (x, y),
        n.div_ceil(4 * rayon::current_num_threads()).clamp(1, 16),
    ))
}
