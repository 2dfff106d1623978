//! The backward pass.

use super::real::real_graph;
use super::rule::{Rule, clamped};
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
/// The differentiable stand-in of a [`QuantizedModel`].
///
/// It holds a copy of the weights: make a new one after an edit.
pub struct Surrogate {
    device: Device,
    nodes: Vec<Node>,
    tensors: Vec<QTensor>,
    /// Whether a linear node lies upstream, so that a gradient is worth having.
    depends: Vec<bool>,
}

struct Node {
    name: String,
    kernel: Kernel,
    inputs: Vec<usize>,
    output: usize,
    rule: Rule,
}

/// A batch's result: per linear node, its number and the gradient `[rows][h][w][out_c]`.
type Gradients = Vec<(usize, Vec<f32>)>;

impl Surrogate {
    /// Checks the model and puts it on the backend.
    ///
    /// # Errors
    /// [`FloatError::Node`] for an operator whose parameters or shapes do not fit together.
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
            let shape = |t: TensorId| model.tensor(t).shape;
            let (kernel, _) =
                Kernel::build(&real.op, shape(node.inputs[0]), shape(node.output), &device);
            nodes.push(Node {
                name: node.name.clone(),
                kernel,
                inputs: node.inputs.iter().map(|t| t.0).collect(),
                output,
                rule: Rule::of(model, i, &device),
            });
        }
        Ok(Self {
            device,
            nodes,
            tensors: model.tensors.clone(),
            depends,
        })
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
        self.for_each_batch(acts, rows, at, seeds, |range, batch| {
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

    /// As [`Self::preactivation_gradients`], batch by batch: `each` gets the samples' numbers and
    /// their gradients, and memory stays bounded however many samples there are.
    ///
    /// # Errors
    /// As [`Self::preactivation_gradients`].
    pub fn for_each_batch(
        &self,
        acts: &[&[i8]],
        rows: usize,
        at: TensorId,
        seeds: &[f32],
        mut each: impl FnMut(Range<usize>, &[(usize, Vec<f32>)]),
    ) -> Result<(), FloatError> {
        let path = self.path(at)?;
        self.check_lengths(acts, rows, at, seeds, &path)?;
        let threads = rayon::current_num_threads();
        let batch = self
            .batch_size(&path, threads)
            .min(rows.div_ceil(threads))
            .max(1);
        let batches: Vec<Range<usize>> = (0..rows)
            .step_by(batch)
            .map(|s| s..(s + batch).min(rows))
            .collect();
        for group in batches.chunks(threads) {
            let results: Vec<_> = group
                .par_iter()
                .map(|range| self.backward(acts, range.clone(), at, seeds, &path))
                .collect();
            for (range, gradients) in group.iter().zip(results) {
                each(range.clone(), &gradients?);
            }
        }
        Ok(())
    }

    /// The nodes between any linear node and `at`, in execution order.
    fn path(&self, at: TensorId) -> Result<Vec<usize>, FloatError> {
        let count = self.tensors.len();
        if at.0 >= count {
            return Err(FloatError::NoSuchValue {
                what: "the tensor to differentiate",
                id: at.0,
                count,
            });
        }
        let mut wanted = vec![false; count];
        wanted[at.0] = true;
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

    fn check_lengths(
        &self,
        acts: &[&[i8]],
        rows: usize,
        at: TensorId,
        seeds: &[f32],
        path: &[usize],
    ) -> Result<(), FloatError> {
        let fail = |what: String, got: usize, want: usize, detail: String| {
            Err(FloatError::Length {
                what,
                got,
                expected: want.to_string(),
                detail,
            })
        };
        let rows_of = |t: usize| format!("{rows} samples of {:?} HWC", self.tensors[t].shape);
        if acts.len() != self.tensors.len() {
            return fail(
                "the list of activations".into(),
                acts.len(),
                self.tensors.len(),
                "one slice a tensor".into(),
            );
        }
        for &t in path.iter().flat_map(|&i| &self.nodes[i].inputs) {
            let want = rows * self.elements(t);
            if acts[t].len() != want {
                return fail(
                    format!("tensor `{}`", self.tensors[t].name),
                    acts[t].len(),
                    want,
                    rows_of(t),
                );
            }
        }
        let want = rows * self.elements(at.0);
        if seeds.len() != want {
            return fail("the list of seeds".into(), seeds.len(), want, rows_of(at.0));
        }
        Ok(())
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

    fn backward(
        &self,
        acts: &[&[i8]],
        range: Range<usize>,
        at: TensorId,
        seeds: &[f32],
        path: &[usize],
    ) -> Result<Gradients, FloatError> {
        let rows = range.len();
        let plain = self.device.clone().without_autodiff();
        let slice = |t: usize| range.start * self.elements(t)..range.end * self.elements(t);
        let mut gradient: Vec<Option<Tensor<4>>> = vec![None; self.tensors.len()];
        gradient[at.0] = Some(tensor_from_nhwc(
            &seeds[slice(at.0)],
            rows,
            self.tensors[at.0].shape,
            &plain,
            |v| v,
        ));
        let mut results = Vec::new();
        for &i in path.iter().rev() {
            let node = &self.nodes[i];
            let Some(g) = gradient[node.output].take() else {
                continue;
            };
            let leaf = |t: usize, real: &dyn Fn(i8) -> f32| {
                let x = tensor_from_nhwc(
                    &acts[t][slice(t)],
                    rows,
                    self.tensors[t].shape,
                    &self.device,
                    real,
                );
                x.set_require_grad(self.depends[t])
            };
            let leaves: Vec<Tensor<4>> = node
                .inputs
                .iter()
                .map(|&t| {
                    let q = &self.tensors[t];
                    match node.rule {
                        Rule::Linear { .. } => {
                            leaf(t, &|v| (v as i32 - q.zero_point as i32) as f32)
                        }
                        _ => leaf(t, &|v| q.dequantize(v)),
                    }
                })
                .collect();
            let through: Vec<Option<Tensor<4>>> = match &node.rule {
                Rule::Linear { unit, clamp } => {
                    let pre = node.kernel.apply(leaves.clone()) * unit.as_ref().clone();
                    // A zero whose gradient is the pre-activation's.
                    let probe = pre.zeros_like().require_grad();
                    let y = clamped(pre + probe.clone(), *clamp);
                    let mut grads = (y * g.autodiff()).sum().backward();
                    let at_pre = probe
                        .grad_remove(&mut grads)
                        .ok_or_else(|| no_gradient(node))?;
                    results.push((i, tensor_to_nhwc(at_pre)?));
                    // From a unit of the integer to a unit of the real input.
                    let scale = self.tensors[node.inputs[0]].scale;
                    leaves
                        .iter()
                        .map(|x| x.grad_remove(&mut grads).map(|g| g.div_scalar(scale)))
                        .collect()
                }
                Rule::Real { clamp } => {
                    let mut y = node.kernel.apply(leaves.clone());
                    if let Some(clamp) = clamp {
                        y = clamped(y, *clamp);
                    }
                    let mut grads = (y * g.autodiff()).sum().backward();
                    leaves.iter().map(|x| x.grad_remove(&mut grads)).collect()
                }
                Rule::Table(slopes) => {
                    let t = node.inputs[0];
                    let slope = tensor_from_nhwc(
                        &acts[t][slice(t)],
                        rows,
                        self.tensors[t].shape,
                        &plain,
                        |q| slopes[(q as i32 + 128) as usize],
                    );
                    let y = leaves[0].clone() * slope.autodiff();
                    let mut grads = (y * g.autodiff()).sum().backward();
                    leaves.iter().map(|x| x.grad_remove(&mut grads)).collect()
                }
            };
            for (&t, g) in node.inputs.iter().zip(through) {
                if let Some(g) = g {
                    gradient[t] = Some(match gradient[t].take() {
                        Some(sum) => sum + g,
                        None => g,
                    });
                }
            }
        }
        results.reverse();
        Ok(results)
    }
}

fn no_gradient(node: &Node) -> FloatError {
    FloatError::Backend(format!(
        "no gradient came back through node `{}`",
        node.name
    ))
}
