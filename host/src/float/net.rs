//! The float network, ready to run.

use super::check::check_graph;
use super::kernel::Kernel;
use super::layout::{tensor_from_nhwc, tensor_to_nhwc};
use super::ops::activate;
use super::{Backend, FloatError};
use crate::graph::{Activation, Graph, Shape, ValueId};
use burn_tensor::{Device, Tensor};
use rayon::prelude::*;
use std::ops::Range;

/// Most samples that go through the network at once. Small, so that activations stay in the cache
/// and blocks in the allocator: 4,000 images of a 1.1-MMAC CNN take 0.47 CPU seconds at 16, 0.49 at
/// 128 (and 0.62 with mimalloc, which is why there is no allocator of our own).
const MAX_BATCH: usize = 16;
/// Bytes that the activations of all batches under way may take, as far as one sample a batch
/// allows.
const MEMORY_BUDGET: usize = 512 << 20;

/// A [`Graph`] on a backend.
///
/// All slices are `f32` in NHWC order, samples one after the other.
///
/// ```
/// # use qmend::float::{Backend, FloatNet};
/// # use qmend::graph::{Activation, Graph, Node, Op, Value, ValueId};
/// # let value = |n: &str| Value { name: n.into(), shape: [1, 1, 2] };
/// # let graph = Graph {
/// #     name: "relu".into(), values: vec![value("x"), value("y")],
/// #     nodes: vec![Node { name: "r".into(), op: Op::Activation(Activation::Relu), inputs: vec![ValueId(0)], output: ValueId(1) }],
/// #     input: ValueId(0), output: ValueId(1), input_was_nchw: false };
/// let net = FloatNet::new(&graph, Backend::Flex)?; // a ReLU over two channels
/// assert_eq!(net.run(&[-1.0, 2.0, 3.0, -4.0])?, [0.0, 2.0, 3.0, 0.0]);
/// # Ok::<(), qmend::float::FloatError>(())
/// ```
pub struct FloatNet {
    device: Device,
    steps: Vec<Step>,
    shapes: Vec<Shape>,
    names: Vec<String>,
    input: ValueId,
    output: ValueId,
}

struct Step {
    kernel: Kernel,
    activation: Activation,
    inputs: Vec<usize>,
    output: usize,
}

impl FloatNet {
    /// Checks the graph and puts its weights on the backend.
    ///
    /// # Errors
    /// [`FloatError::Node`] for an operator whose parameters or shapes do not fit together, and for
    /// a value that is read before it is computed.
    pub fn new(graph: &Graph, backend: Backend) -> Result<Self, FloatError> {
        check_graph(graph)?;
        let device = backend.device();
        let steps = graph
            .nodes
            .iter()
            .map(|node| {
                let input_shape = graph.shape(node.inputs[0]);
                let output_shape = graph.shape(node.output);
                let (kernel, activation) =
                    Kernel::build(&node.op, input_shape, output_shape, &device);
                Step {
                    kernel,
                    activation,
                    inputs: node.inputs.iter().map(|v| v.0).collect(),
                    output: node.output.0,
                }
            })
            .collect();
        Ok(Self {
            device,
            steps,
            shapes: graph.values.iter().map(|v| v.shape).collect(),
            names: graph.values.iter().map(|v| v.name.clone()).collect(),
            input: graph.input,
            output: graph.output,
        })
    }

    /// Elements of one sample of a value.
    fn elements(&self, id: ValueId) -> usize {
        self.shapes[id.0].iter().product()
    }

    /// The outputs `[n][elements]` of `n` samples `x`.
    ///
    /// # Errors
    /// [`FloatError::Length`] if `x` is not a whole number of samples.
    pub fn run(&self, x: &[f32]) -> Result<Vec<f32>, FloatError> {
        let mut kept = self.run_keep(x, &[self.output])?;
        Ok(kept.pop().unwrap_or_default())
    }

    /// The values `keep`, each `[n][h][w][c]`, of `n` samples `x`, in the order asked for.
    ///
    /// # Errors
    /// As [`Self::run`]; also if a value of `keep` does not exist or is never computed.
    pub fn run_keep(&self, x: &[f32], keep: &[ValueId]) -> Result<Vec<Vec<f32>>, FloatError> {
        let mut all: Vec<Vec<f32>> = vec![Vec::new(); keep.len()];
        self.for_each_batch(x, keep, |_, values| {
            for (all, batch) in all.iter_mut().zip(values) {
                all.extend_from_slice(batch);
            }
        })?;
        Ok(all)
    }

    /// Calls `each` for every batch of samples in order, with the samples' numbers and the values
    /// `keep` of these samples, each `[samples][h][w][c]`: for statistics over values that would
    /// not fit memory all at once.
    ///
    /// # Errors
    /// As [`Self::run_keep`].
    pub fn for_each_batch(
        &self,
        x: &[f32],
        keep: &[ValueId],
        mut each: impl FnMut(Range<usize>, &[Vec<f32>]),
    ) -> Result<(), FloatError> {
        let last_use = self.last_use(keep)?;
        let sample = self.elements(self.input);
        if !x.len().is_multiple_of(sample) {
            let [h, w, c] = self.shapes[self.input.0];
            return Err(FloatError::Length {
                what: "the input".into(),
                got: x.len(),
                expected: format!("a multiple of {sample}"),
                detail: format!(
                    "one sample of `{}` is {h}x{w}x{c}, NHWC",
                    self.names[self.input.0]
                ),
            });
        }
        // Burn leaves parts of an operator on one thread, so batches also run beside each other.
        let threads = rayon::current_num_threads();
        let samples = x.len() / sample;
        let batch = self
            .batch_size(&last_use, threads)
            .min(samples.div_ceil(threads))
            .max(1);
        let batches: Vec<Range<usize>> = (0..samples)
            .step_by(batch)
            .map(|s| s..(s + batch).min(samples))
            .collect();
        for group in batches.chunks(threads) {
            let results: Vec<_> = group
                .par_iter()
                .map(|range| {
                    self.forward(
                        &x[range.start * sample..range.end * sample],
                        range.len(),
                        keep,
                        &last_use,
                    )
                })
                .collect();
            for (range, values) in group.iter().zip(results) {
                each(range.clone(), &values?);
            }
        }
        Ok(())
    }

    /// For each value, the last step that reads it (`usize::MAX` for those to be kept).
    fn last_use(&self, keep: &[ValueId]) -> Result<Vec<usize>, FloatError> {
        let mut last = vec![0; self.shapes.len()];
        let mut computed = vec![false; self.shapes.len()];
        computed[self.input.0] = true;
        for (i, step) in self.steps.iter().enumerate() {
            step.inputs.iter().for_each(|&v| last[v] = i);
            computed[step.output] = true;
        }
        for id in keep {
            match computed.get(id.0) {
                None => {
                    return Err(FloatError::NoSuchValue {
                        what: "a value to keep",
                        id: id.0,
                        count: computed.len(),
                    });
                }
                Some(false) => {
                    return Err(FloatError::NeverComputed {
                        name: self.names[id.0].clone(),
                    });
                }
                Some(true) => last[id.0] = usize::MAX,
            }
        }
        Ok(last)
    }

    /// Samples a batch, from the largest total of elements that are alive at one step.
    fn batch_size(&self, last_use: &[usize], threads: usize) -> usize {
        let size = |v: usize| self.shapes[v].iter().product::<usize>();
        let mut alive = vec![false; self.shapes.len()];
        alive[self.input.0] = true;
        let mut live = size(self.input.0);
        let mut peak = live;
        for (i, step) in self.steps.iter().enumerate() {
            live += size(step.output);
            alive[step.output] = true;
            // The operator's own copies: NHWC input, padded input, result before activation.
            let work =
                2 * (step.inputs.iter().map(|&v| size(v)).sum::<usize>() + size(step.output));
            peak = peak.max(live + work);
            for &v in &step.inputs {
                if alive[v] && last_use[v] <= i {
                    alive[v] = false;
                    live -= size(v);
                }
            }
        }
        (MEMORY_BUDGET / threads / (4 * peak)).clamp(1, MAX_BATCH)
    }

    fn forward(
        &self,
        x: &[f32],
        rows: usize,
        keep: &[ValueId],
        last_use: &[usize],
    ) -> Result<Vec<Vec<f32>>, FloatError> {
        let mut values: Vec<Option<Tensor<4>>> = vec![None; self.shapes.len()];
        values[self.input.0] = Some(tensor_from_nhwc(
            x,
            rows,
            self.shapes[self.input.0],
            &self.device,
            |v| v,
        ));
        for (i, step) in self.steps.iter().enumerate() {
            // Moved out at its last use, so that Burn may work in place.
            let inputs = (0..step.inputs.len())
                .map(|k| {
                    let v = step.inputs[k];
                    let again = step.inputs[k + 1..].contains(&v);
                    let t = if last_use[v] == i && !again {
                        values[v].take()
                    } else {
                        values[v].clone()
                    };
                    t.expect("check_graph: inputs are computed before they are read")
                })
                .collect();
            let y = step.kernel.apply(inputs);
            values[step.output] = Some(activate(y, step.activation));
        }
        keep.iter()
            .map(|id| {
                tensor_to_nhwc(
                    values[id.0]
                        .clone()
                        .expect("last_use: kept values are computed and not dropped"),
                )
            })
            .collect()
    }
}
