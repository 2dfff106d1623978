//! The backward pass.

use super::linear::LinearRule;
use super::real::real_graph;
use super::rule::{Rule, clamped};
use crate::engine::{Engine, EngineError};
use crate::float::check::check_graph;
use crate::float::kernel::Kernel;
use crate::float::layout::{tensor_from_nhwc, tensor_to_nhwc};
use crate::float::{Backend, FloatError};
use crate::model::{QuantizedModel, Tensor as QTensor, TensorId};
use burn_tensor::{Device, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Most samples of one backward pass; see the float network's.
const MAX_BATCH: usize = 16;
/// Bytes that all passes under way may take, as far as one sample a pass allows.
const MEMORY_BUDGET: usize = 512 << 20;
/// Spans for each thread in [`Surrogate::fold_batches`]: a thread that is held up leaves the rest to the others.
const SPANS: usize = 2;

/// The differentiable stand-in of a [`QuantizedModel`].
///
/// It holds a copy of the weights: tell it of an edit ([`Surrogate::update_node`]).
pub struct Surrogate {
    device: Device,
    /// Gives accumulators.
    engine: Engine,
    nodes: Vec<Node>,
    tensors: Vec<QTensor>,
    /// Whether a linear node lies upstream, so that a gradient is worth having.
    depends: Vec<bool>,
}

struct Node {
    name: String,
    inputs: Vec<usize>,
    output: usize,
    rule: Rule,
}

/// A tensor and what its real values are weighed with, `[rows][h][w][c]`.
pub type Seeds<'a> = (TensorId, &'a [f32]);

/// A batch's result: per linear node, its number and the gradient `[rows][h][w][out_c]`.
type Gradients = Vec<(usize, Vec<f32>)>;

impl Surrogate {
    /// Checks the model and puts it on the backend.
    ///
    /// # Errors
    /// [`FloatError::Node`] for an operator whose parameters or shapes do not fit together,
    /// [`FloatError::Engine`] for a model that the integer engine refuses.
    pub fn new(model: &QuantizedModel, backend: Backend) -> Result<Self, FloatError> {
        let graph = real_graph(model)?;
        check_graph(&graph)?;
        let device = backend.device().autodiff();
        let mut depends = vec![false; model.tensors.len()];
        let mut nodes = Vec::with_capacity(model.nodes.len());
        for (i, (node, real)) in model.nodes.iter().zip(&graph.nodes).enumerate() {
            let output = node.output.0;
            depends[output] =
                node.op.linear().is_some() || node.inputs.iter().any(|t| depends[t.0]);
            nodes.push(Node {
                name: node.name.clone(),
                inputs: node.inputs.iter().map(|t| t.0).collect(),
                output,
                rule: Rule::of(model, i, &real.op, &device),
            });
        }
        Ok(Self {
            device,
            engine: Engine::new(model)?,
            nodes,
            tensors: model.tensors.clone(),
            depends,
        })
    }

    /// The integer engine of the same network.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Follows an edit of a node's weights, biases or multipliers in `model`, which is otherwise the
    /// one that this was made of.
    ///
    /// # Errors
    /// [`EngineError`] where the engine refuses the node; then nothing has changed.
    pub fn update_node(&mut self, model: &QuantizedModel, node: usize) -> Result<(), EngineError> {
        self.engine.update_node(model, node)?;
        if let (Some(linear), Rule::Linear(rule)) =
            (model.nodes[node].op.linear(), &mut self.nodes[node].rule)
        {
            **rule = LinearRule::of(model, node, linear);
        }
        Ok(())
    }

    /// Straight-through gradient of `sum(seeds * real(at))` with respect to the pre-activation
    /// (accumulator times its real unit) of each linear node that `at` depends on, per sample:
    /// `(node, [rows][h][w][out_c])` in the order of the nodes.
    ///
    /// `acts[t]` is the integer tensor `t` of all samples, `[rows][h][w][c]`; those that `at` does not
    /// depend on may be empty. `seeds` is `[rows][h][w][c]` of `at`.
    ///
    /// # Errors
    /// [`FloatError::Length`] for a slice that does not hold `rows` samples,
    /// [`FloatError::NoSuchValue`] if there is no tensor `at`.
    pub fn preactivation_gradients(
        &self,
        acts: &[&[i8]],
        rows: usize,
        at: TensorId,
        seeds: &[f32],
    ) -> Result<Gradients, FloatError> {
        let mut all: Gradients = Vec::new();
        self.for_each_batch(acts, rows, &[(at, seeds)], |range, batch| {
            if range.start == 0 {
                all = batch
                    .iter()
                    .map(|(node, g)| (*node, Vec::with_capacity(g.len() / range.len() * rows)))
                    .collect();
            }
            for ((_, all), (_, g)) in all.iter_mut().zip(batch) {
                all.extend_from_slice(g);
            }
        })?;
        Ok(all)
    }

    /// As [`Self::preactivation_gradients`] of the sum over several tensors, one entry each, and batch
    /// by batch: `each` gets the samples' numbers and their gradients, and memory stays bounded however
    /// many samples there are.
    ///
    /// # Errors
    /// As [`Self::preactivation_gradients`].
    pub fn for_each_batch(
        &self,
        acts: &[&[i8]],
        rows: usize,
        seeds: &[Seeds<'_>],
        mut each: impl FnMut(Range<usize>, &[(usize, Vec<f32>)]),
    ) -> Result<(), FloatError> {
        let at: Vec<TensorId> = seeds.iter().map(|(t, _)| *t).collect();
        let path = self.path(&at)?;
        self.check_lengths(acts, rows, &path)?;
        self.check_seeds(rows, seeds)?;
        let threads = rayon::current_num_threads();
        let batches = self.batches(0..rows, rows.div_ceil(threads), &path);
        for group in batches.chunks(threads) {
            let results: Vec<_> = group
                .par_iter()
                .map(|range| {
                    let of_range = |(t, s): &Seeds<'_>| s[self.part(t.0, range)].to_vec();
                    let seeds = at.iter().zip(seeds.iter().map(of_range));
                    self.backward(acts, range.clone(), seeds, &path)
                })
                .collect();
            for (range, gradients) in group.iter().zip(results) {
                each(range.clone(), &gradients?);
            }
        }
        Ok(())
    }

    /// Sums up where the gradients are made: the samples fall into a few spans, which run side by side,
    /// each with a `new` sum to which `add` adds batch after batch.
    ///
    /// `seeds` gives those of some samples, a list for each tensor of `at`. The sums come in the order
    /// of the samples, and are the same in every run on the same number of threads.
    ///
    /// # Errors
    /// As [`Self::preactivation_gradients`].
    pub fn fold_batches<T: Send>(
        &self,
        acts: &[&[i8]],
        rows: usize,
        at: &[TensorId],
        seeds: impl Fn(Range<usize>) -> Vec<Vec<f32>> + Sync,
        new: impl Fn() -> T + Sync,
        add: impl Fn(&mut T, Range<usize>, &[(usize, Vec<f32>)]) + Sync,
    ) -> Result<Vec<T>, FloatError> {
        let path = self.path(at)?;
        self.check_lengths(acts, rows, &path)?;
        let span = rows.div_ceil(SPANS * rayon::current_num_threads()).max(1);
        (0..rows.div_ceil(span))
            .into_par_iter()
            .map(|k| {
                let all = k * span..((k + 1) * span).min(rows);
                let mut sum = new();
                for range in self.batches(all, span, &path) {
                    let seeds = seeds(range.clone());
                    let of_range: Vec<Seeds<'_>> = at
                        .iter()
                        .copied()
                        .zip(seeds.iter().map(Vec::as_slice))
                        .collect();
                    self.check_seeds(range.len(), &of_range)?;
                    let gradients =
                        self.backward(acts, range.clone(), at.iter().zip(seeds), &path)?;
                    add(&mut sum, range, &gradients);
                }
                Ok(sum)
            })
            .collect()
    }

    /// Batches of some samples, of at most `most`.
    fn batches(&self, rows: Range<usize>, most: usize, path: &[usize]) -> Vec<Range<usize>> {
        let batch = self
            .batch_size(path, rayon::current_num_threads())
            .min(most)
            .max(1);
        let end = rows.end;
        rows.step_by(batch)
            .map(|s| s..(s + batch).min(end))
            .collect()
    }

    /// Where the values of some samples of tensor `t` lie.
    fn part(&self, t: usize, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.elements(t)..rows.end * self.elements(t)
    }

    /// The nodes between any linear node and the seeds' tensors, in execution order.
    fn path(&self, seeds: &[TensorId]) -> Result<Vec<usize>, FloatError> {
        let count = self.tensors.len();
        let mut wanted = vec![false; count];
        for at in seeds {
            if at.0 >= count {
                return Err(FloatError::NoSuchValue {
                    what: "the tensor to differentiate",
                    id: at.0,
                    count,
                });
            }
            wanted[at.0] = true;
        }
        let mut path = Vec::new();
        for (i, node) in self.nodes.iter().enumerate().rev() {
            if wanted[node.output] && self.depends[node.output] {
                path.push(i);
                node.inputs.iter().for_each(|&t| wanted[t] = true);
            }
        }
        path.reverse();
        Ok(path)
    }

    fn elements(&self, t: usize) -> usize {
        self.tensors[t].elements()
    }

    fn check_lengths(&self, acts: &[&[i8]], rows: usize, path: &[usize]) -> Result<(), FloatError> {
        let (have, want) = (acts.len(), self.tensors.len());
        if have != want {
            let what = "the list of activations".into();
            return Err(wrong_length(what, have, want, "one slice a tensor".into()));
        }
        for &t in path.iter().flat_map(|&i| &self.nodes[i].inputs) {
            let want = rows * self.elements(t);
            if acts[t].len() != want {
                let what = format!("tensor `{}`", self.tensors[t].name);
                return Err(wrong_length(what, acts[t].len(), want, self.form(rows, t)));
            }
        }
        Ok(())
    }

    fn check_seeds(&self, rows: usize, seeds: &[Seeds<'_>]) -> Result<(), FloatError> {
        for (at, seeds) in seeds {
            let want = rows * self.elements(at.0);
            if seeds.len() != want {
                let what = "the list of seeds".into();
                return Err(wrong_length(what, seeds.len(), want, self.form(rows, at.0)));
            }
        }
        Ok(())
    }

    fn form(&self, rows: usize, t: usize) -> String {
        format!("{rows} samples of {:?} HWC", self.tensors[t].shape)
    }

    /// Samples a pass: what is returned, the gradients between nodes, and one node's tape.
    fn batch_size(&self, path: &[usize], threads: usize) -> usize {
        let sizes = |i: &usize| {
            let node = &self.nodes[*i];
            (
                self.elements(node.output),
                node.inputs.iter().map(|&t| self.elements(t)).sum::<usize>(),
            )
        };
        let held: usize = path.iter().map(sizes).map(|(out, _)| 2 * out).sum();
        let tape = path
            .iter()
            .map(sizes)
            .map(|(out, input)| 8 * (out + input))
            .max()
            .unwrap_or(0);
        (MEMORY_BUDGET / threads / (4 * (held + tape)).max(1)).clamp(1, MAX_BATCH)
    }

    fn backward<'a>(
        &self,
        acts: &[&[i8]],
        range: Range<usize>,
        seeds: impl Iterator<Item = (&'a TensorId, Vec<f32>)>,
        path: &[usize],
    ) -> Result<Gradients, FloatError> {
        let rows = range.len();
        let mut gradient: Vec<Option<Vec<f32>>> = vec![None; self.tensors.len()];
        for (at, seeds) in seeds {
            gradient[at.0] = Some(seeds);
        }
        let mut results = Vec::new();
        for &i in path.iter().rev() {
            let node = &self.nodes[i];
            let Some(mut g) = gradient[node.output].take() else {
                continue;
            };
            let first = node.inputs[0];
            let inputs: Vec<&[i8]> = node
                .inputs
                .iter()
                .map(|&t| &acts[t][self.part(t, &range)])
                .collect();
            let through: Vec<Option<Vec<f32>>> = match &node.rule {
                Rule::Linear(linear) => {
                    let accumulators = self.engine.accumulators(i, inputs[0]);
                    linear.at_preactivation(&accumulators, &mut g);
                    let at_input = self.depends[first].then(|| linear.at_input(&g, rows));
                    results.push((i, g));
                    vec![at_input]
                }
                Rule::Sum { clamp } => {
                    let [a, b] = [0, 1].map(|k| &self.tensors[node.inputs[k]]);
                    for ((g, &x), &y) in g.iter_mut().zip(inputs[0]).zip(inputs[1]) {
                        hold(g, a.dequantize(x) + b.dequantize(y), *clamp);
                    }
                    node.inputs
                        .iter()
                        .map(|&t| self.depends[t].then(|| g.clone()))
                        .collect()
                }
                Rule::Same => vec![Some(g)],
                Rule::Mean { clamp } => {
                    vec![Some(self.through_mean(first, inputs[0], g, *clamp))]
                }
                Rule::Table(slopes) => {
                    for (g, &q) in g.iter_mut().zip(inputs[0]) {
                        *g *= slopes[(q as i32 + 128) as usize];
                    }
                    vec![Some(g)]
                }
                Rule::Burn { kernel, clamp } => {
                    self.through_burn(node, kernel, &inputs, &g, *clamp)?
                }
            };
            for (&t, g) in node.inputs.iter().zip(through) {
                if let Some(g) = g {
                    match &mut gradient[t] {
                        Some(sum) => sum.iter_mut().zip(g).for_each(|(s, g)| *s += g),
                        empty => *empty = Some(g),
                    }
                }
            }
        }
        results.reverse();
        Ok(results)
    }

    /// Through the mean over the positions of tensor `t`.
    fn through_mean(&self, t: usize, x: &[i8], g: Vec<f32>, clamp: [f32; 2]) -> Vec<f32> {
        let tensor = &self.tensors[t];
        let [h, w, c] = tensor.shape;
        let positions = h * w;
        let mut all = Vec::with_capacity(x.len());
        for (x, g) in x.chunks_exact(positions * c).zip(g.chunks_exact(c)) {
            let mut part: Vec<f32> = g.iter().map(|g| g / positions as f32).collect();
            for (k, part) in part.iter_mut().enumerate() {
                let sum: i64 = x[k..].iter().step_by(c).map(|&q| q as i64).sum();
                let mean = sum as f64 / positions as f64 - tensor.zero_point as f64;
                hold(part, (tensor.scale as f64 * mean) as f32, clamp);
            }
            for _ in 0..positions {
                all.extend_from_slice(&part);
            }
        }
        all
    }

    /// Through an operator that Burn differentiates.
    fn through_burn(
        &self,
        node: &Node,
        kernel: &Kernel,
        inputs: &[&[i8]],
        g: &[f32],
        clamp: Option<[f32; 2]>,
    ) -> Result<Vec<Option<Vec<f32>>>, FloatError> {
        let rows = g.len() / self.elements(node.output).max(1);
        let leaves: Vec<Tensor<4>> = node
            .inputs
            .iter()
            .zip(inputs)
            .map(|(&t, x)| {
                let q = &self.tensors[t];
                tensor_from_nhwc(x, rows, q.shape, &self.device, |v| q.dequantize(v))
                    .set_require_grad(self.depends[t])
            })
            .collect();
        let mut y = kernel.apply(leaves.clone());
        if let Some(clamp) = clamp {
            y = clamped(y, clamp);
        }
        let plain = self.device.clone().without_autodiff();
        let g = tensor_from_nhwc(g, rows, self.tensors[node.output].shape, &plain, |v| v);
        let mut grads = (y * g.autodiff()).sum().backward();
        let mut all = Vec::with_capacity(leaves.len());
        for (x, &t) in leaves.iter().zip(&node.inputs) {
            all.push(match (self.depends[t], x.grad_remove(&mut grads)) {
                (false, _) => None,
                (true, Some(g)) => Some(tensor_to_nhwc(g)?),
                (true, None) => return Err(no_gradient(node)),
            });
        }
        Ok(all)
    }
}

/// A clamp stops the gradient of what lies beyond it.
fn hold(gradient: &mut f32, value: f32, [lo, hi]: [f32; 2]) {
    if value < lo || value > hi {
        *gradient = 0.0;
    }
}

fn wrong_length(what: String, got: usize, want: usize, detail: String) -> FloatError {
    FloatError::Length {
        what,
        got,
        expected: want.to_string(),
        detail,
    }
}

fn no_gradient(node: &Node) -> FloatError {
    FloatError::Backend(format!(
        "no gradient came back through node `{}`",
        node.name
    ))
}
