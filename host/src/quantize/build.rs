//! The walk over the graph.

use std::collections::HashMap;

use super::config::QuantizeConfig;
use super::linear::Layer;
use super::patches::{self, Filter};
use super::rounding::{Samples, needs_samples};
use super::tensors::{TensorScale, assign, roots};
use super::{
    QuantizeError, Scales, WeightRounding, bias_correction, mean_multiplier, ops,
    quantize_multiplier,
};
use crate::calibrate::{Calibration, mean_samples};
use crate::engine::{Engine, check_channel, node_accumulators, run_node};
use crate::graph::{self, Activation, Graph, ValueId};
use crate::model::*;

/// Quantizes `graph` with the ranges of `calibration`.
///
/// `inputs` are the calibration samples, `[n][h][w][c]`, preprocessed; the first
/// [`MEAN_SAMPLES`](crate::calibrate::MEAN_SAMPLES) (fewer for huge tensors) are run through the integer network where bias correction or the rounding
/// method asks for it (with neither, they may be empty). `preprocess` is stored with the model.
/// Tensors and nodes keep the names of the graph's values and nodes.
///
/// # Errors
/// Settings that do not exist, a value without a range, parameters that are not finite, samples of
/// the wrong length, and a channel that no weight scale fits into a 32-bit accumulator.
pub fn quantize(
    graph: &Graph,
    calibration: &Calibration,
    config: &QuantizeConfig,
    inputs: &[f32],
    preprocess: Preprocess,
) -> Result<QuantizedModel, QuantizeError> {
    let linear: Vec<&str> = graph
        .nodes
        .iter()
        .filter(|n| n.op.weights().is_some())
        .map(|n| n.name.as_str())
        .collect();
    let bits: HashMap<&str, u8> = linear
        .iter()
        .copied()
        .zip(config.bits_of(&linear)?)
        .collect();
    let mut build = Build::new(graph, calibration, config, preprocess)?;
    build.start_samples(inputs)?;
    for (i, node) in graph.nodes.iter().enumerate() {
        let op = build.op(node, &bits)?;
        build.push(i, node, op)?;
    }
    Engine::new(&build.model)?;
    Ok(build.model)
}

struct Build<'a> {
    graph: &'a Graph,
    calibration: &'a Calibration,
    config: &'a QuantizeConfig,
    roots: Vec<ValueId>,
    scales: Vec<Option<TensorScale>>,
    /// Tensor of each value that is computed.
    tensor_of: Vec<Option<TensorId>>,
    model: QuantizedModel,
    /// Calibration samples in the integer network, `[n][elements]` by value; dropped after the
    /// last reader.
    data: HashMap<ValueId, Vec<i8>>,
    samples: usize,
}

impl<'a> Build<'a> {
    fn new(
        graph: &'a Graph,
        calibration: &'a Calibration,
        config: &'a QuantizeConfig,
        preprocess: Preprocess,
    ) -> Result<Self, QuantizeError> {
        let scales = assign(graph, calibration)?;
        let mut tensor_of = vec![None; graph.values.len()];
        let mut tensors = Vec::new();
        for (value, (scale, tensor)) in graph.values.iter().zip(scales.iter().zip(&mut tensor_of)) {
            if let Some(s) = scale {
                *tensor = Some(TensorId(tensors.len()));
                tensors.push(Tensor {
                    name: value.name.clone(),
                    shape: value.shape,
                    scale: s.scale,
                    zero_point: s.zero_point,
                });
            }
        }
        let id = |v: ValueId| {
            let missing = || QuantizeError::NotCalibrated {
                value: graph.value_name(v).to_string(),
            };
            tensor_of[v.0].ok_or_else(missing)
        };
        let model = QuantizedModel {
            name: graph.name.clone(),
            rounding: config.rounding,
            tensors,
            nodes: Vec::new(),
            input: id(graph.input)?,
            output: id(graph.output)?,
            preprocess,
            labels: Vec::new(),
        };
        let (roots, data) = (roots(graph), HashMap::new());
        Ok(Self {
            graph,
            calibration,
            config,
            roots,
            scales,
            tensor_of,
            model,
            data,
            samples: 0,
        })
    }

    /// Quantizes the samples that are to go through the network, if any are needed.
    fn start_samples(&mut self, inputs: &[f32]) -> Result<(), QuantizeError> {
        let by_rounding = needs_samples(self.config.weight_rounding);
        if !by_rounding && !self.config.bias_correction {
            return Ok(());
        }
        let elements = self.graph.elements(self.graph.input);
        if !inputs.len().is_multiple_of(elements) {
            return Err(QuantizeError::Length {
                got: inputs.len(),
                shape: self.graph.shape(self.graph.input),
            });
        }
        let n = mean_samples(self.graph, inputs.len() / elements);
        if n == 0 {
            let method = if by_rounding {
                self.config.weight_rounding.name()
            } else {
                "bias correction"
            };
            return Err(QuantizeError::NoSamples { method });
        }
        let scale = self.scale(self.graph.input)?;
        let q = inputs[..n * elements]
            .iter()
            .map(|&x| scale.quantize(x as f64))
            .collect();
        self.samples = n;
        self.data.insert(self.graph.input, q);
        Ok(())
    }

    fn scale(&self, id: ValueId) -> Result<TensorScale, QuantizeError> {
        let missing = || QuantizeError::NotCalibrated {
            value: self.graph.value_name(id).to_string(),
        };
        self.scales[id.0].ok_or_else(missing)
    }

    /// Appends a node and, where samples are followed, runs it.
    fn push(&mut self, index: usize, node: &graph::Node, op: Op) -> Result<(), QuantizeError> {
        let id =
            |v: ValueId| self.tensor_of[v.0].expect("scales and tensors are assigned together");
        let (inputs, output) = (
            node.inputs.iter().map(|v| id(*v)).collect(),
            id(node.output),
        );
        self.model.nodes.push(Node {
            name: node.name.clone(),
            op,
            inputs,
            output,
        });
        if self.samples == 0 {
            return Ok(());
        }
        if self.config.bias_correction {
            self.match_outputs(index, node)?;
        }
        let operands: Vec<&[i8]> = node
            .inputs
            .iter()
            .filter_map(|v| self.data.get(v))
            .map(Vec::as_slice)
            .collect();
        let out = run_node(&self.model, index, &operands, self.samples)?;
        self.data.insert(node.output, out);
        let graph = self.graph;
        self.data
            .retain(|v, _| graph.consumers(*v).any(|reader| reader > index));
        Ok(())
    }

    /// Moves the biases of the node just appended, where a clamp follows, to the float network's
    /// mean outputs. A bias that would break the accumulator's bound stays as it is.
    fn match_outputs(&mut self, index: usize, node: &graph::Node) -> Result<(), QuantizeError> {
        let clamps = match &node.op {
            graph::Op::Conv2d(c) => c.activation != Activation::Identity,
            graph::Op::FullyConnected(f) => f.activation != Activation::Identity,
            _ => false,
        };
        let (Some(mean), Some(input), true) = (
            self.calibration.mean(node.output),
            self.data.get(&node.inputs[0]),
            clamps,
        ) else {
            return Ok(());
        };
        let acc = node_accumulators(&self.model, index, input, self.samples)?;
        let y = self.scale(node.output)?;
        let out_c = self.graph.shape(node.output)[2];
        let positions = (mean.len() / out_c) as f64;
        let target: Vec<f64> = (0..out_c)
            .map(|c| mean[c..].iter().step_by(out_c).sum::<f64>() / positions)
            .collect();
        let model = &self.model;
        let l = model.nodes[index]
            .op
            .linear()
            .expect("a node that clamps here is linear");
        let clamp = (y.dequantize(l.act_min), y.dequantize(l.act_max));
        let changes = bias_correction::match_outputs(
            &acc,
            &target,
            |c| model.accumulator_scale(index, c),
            clamp,
        );
        let zx = self.scale(node.inputs[0])?.zero_point;
        if let Some(l) = self.model.nodes[index].op.linear_mut() {
            for (c, change) in changes.into_iter().enumerate() {
                let bias = (l.bias[c] as f64 + change).round() as i32;
                if check_channel(&node.name, c, l.row(c), bias, zx, l.multipliers[c]).is_ok() {
                    l.bias[c] = bias;
                }
            }
        }
        Ok(())
    }

    /// The integer operator of a node.
    fn op(&mut self, node: &graph::Node, bits: &HashMap<&str, u8>) -> Result<Op, QuantizeError> {
        let x = self.scale(node.inputs[0])?;
        let y = self.scale(node.output)?;
        let too_narrow = |ratio: f64| QuantizeError::Multiplier {
            node: node.name.clone(),
            ratio,
        };
        let multiplier = |ratio: f64| quantize_multiplier(ratio).ok_or_else(|| too_narrow(ratio));
        Ok(match &node.op {
            graph::Op::Conv2d(_) | graph::Op::FullyConnected(_) | graph::Op::Affine(_) => {
                self.linear(node, bits.get(node.name.as_str()).copied())?
            }
            graph::Op::Add { activation } => {
                let other = self.scale(node.inputs[1])?;
                let ratio = x.scale.max(other.scale) as f64 / y.scale as f64;
                let add = ops::add([x, other], y, *activation).ok_or_else(|| too_narrow(ratio))?;
                let [a, b] = [0, 1].map(|i| self.graph.shape(node.inputs[i]));
                if a == b {
                    Op::Add(add)
                } else {
                    Op::BroadcastAdd(ops::broadcast(add))
                }
            }
            graph::Op::Sub { activation } => {
                let other = self.scale(node.inputs[1])?;
                let ratio = x.scale.max(other.scale) as f64 / y.scale as f64;
                let add = ops::add([x, other], y, *activation).ok_or_else(|| too_narrow(ratio))?;
                Op::Sub(ops::broadcast(add))
            }
            graph::Op::Mul { activation } => {
                let other = self.scale(node.inputs[1])?;
                let ratio = x.scale as f64 * other.scale as f64 / y.scale as f64;
                let p = ops::product([x, other], y, *activation);
                Op::Mul(p.ok_or_else(|| too_narrow(ratio))?)
            }
            graph::Op::ResizeNearest { rows, columns } => Op::ResizeNearest {
                rows: rows.clone(),
                columns: columns.clone(),
            },
            // Tied to its input's scale: nothing is left to do.
            graph::Op::Activation(Activation::Identity) | graph::Op::Reshape => Op::Reshape,
            graph::Op::Activation(f) => Op::Lut {
                table: ops::table(*f, x, y),
            },
            graph::Op::MaxPool(p) => Op::MaxPool(pool(p)),
            graph::Op::AveragePool(p) => Op::AveragePool(pool(p)),
            graph::Op::GlobalAveragePool => {
                let [h, w, _] = self.graph.shape(node.inputs[0]);
                Op::Mean {
                    multiplier: mean_multiplier(x.scale, y.scale, h * w)
                        .ok_or_else(|| too_narrow(x.scale as f64 / y.scale as f64))?,
                }
            }
            graph::Op::Pad {
                before,
                after,
                value,
            } => Op::Pad(Pad {
                before: *before,
                after: *after,
                value: y.quantize(*value as f64),
            }),
            graph::Op::Concat { axis } => {
                let mut inputs = Vec::new();
                for id in &node.inputs {
                    let from = self.scale(*id)?;
                    inputs.push(if from == y {
                        ConcatInput::Copy
                    } else {
                        ConcatInput::Rescale(multiplier(from.scale as f64 / y.scale as f64)?)
                    });
                }
                Op::Concat(Concat {
                    axis: *axis,
                    inputs,
                })
            }
            graph::Op::Transpose { perm } => Op::Transpose { perm: *perm },
            graph::Op::Softmax => ops::softmax(x.scale),
        })
    }

    /// A layer with weights, or an affine map as a depthwise convolution with one tap of 8 bits.
    fn linear(&mut self, node: &graph::Node, bits: Option<u8>) -> Result<Op, QuantizeError> {
        let (input, output) = (node.inputs[0], node.output);
        let (in_shape, out_shape) = (self.graph.shape(input), self.graph.shape(output));
        let pointwise = |groups| Filter {
            input: in_shape,
            output: out_shape,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Default::default(),
            groups,
        };
        let filter =
            Filter::of(&node.op, in_shape, out_shape).unwrap_or_else(|| pointwise(in_shape[2]));
        let (weights, bias, activation) = match &node.op {
            graph::Op::Conv2d(c) => (&c.weights.data, &c.bias, c.activation),
            graph::Op::FullyConnected(f) => (&f.weights.data, &f.bias, f.activation),
            graph::Op::Affine(a) => (&a.scale, &a.shift, a.activation),
            _ => unreachable!("only linear nodes come here"),
        };
        let x = self.scale(input)?;
        let mut y = self.scale(output)?;
        let q = self.data.get(&input).map(Vec::as_slice);
        let means = match (self.config.bias_correction && bits.is_some(), q) {
            (false, _) => None,
            (true, Some(q)) => {
                let missing = || QuantizeError::NoMeans {
                    node: node.name.clone(),
                };
                let float = self.calibration.mean(input).ok_or_else(missing)?;
                if self.calibration.mean_samples() != self.samples {
                    return Err(missing());
                }
                Some((
                    float,
                    patches::mean_of(q, self.graph.elements(input), x.zero_point),
                ))
            }
            (true, None) => {
                return Err(QuantizeError::NoMeans {
                    node: node.name.clone(),
                });
            }
        };
        let samples = q.map(|q| Samples {
            q,
            zero_point: x.zero_point,
        });
        let layer = Layer {
            node: &node.name,
            kind: node.op.kind(),
            filter: &filter,
            weights,
            bias,
            activation,
            input: x,
            bits: bits.unwrap_or(8),
            scales: bits.map_or(Scales::Max, |b| self.config.scales_at(b)),
            per_tensor: self.config.per_tensor && bits.is_some(),
            rounding: if bits.is_some() {
                self.config.weight_rounding
            } else {
                WeightRounding::Nearest
            },
            samples: samples.as_ref(),
            means: means
                .as_ref()
                .map(|(float, integer)| (*float, integer.as_slice())),
        };
        let linear = layer.quantize(&mut y)?;
        if y.scale != self.scale(output)?.scale {
            self.widen(output, y);
        }
        Ok(match &node.op {
            graph::Op::FullyConnected(_) => Op::FullyConnected(FullyConnected { linear }),
            _ => Op::Conv2d(Conv2d {
                kernel: filter.kernel,
                stride: filter.stride,
                dilation: filter.dilation,
                pads: filter.pads,
                groups: filter.groups,
                linear,
            }),
        })
    }

    /// Gives a node's output, and all that share its scale, another scale before anything reads it.
    fn widen(&mut self, output: ValueId, scale: TensorScale) {
        for (value, root) in self.roots.iter().enumerate() {
            if let (true, Some(tensor)) = (*root == output, self.tensor_of[value]) {
                self.scales[value] = Some(scale);
                self.model.tensors[tensor.0].scale = scale.scale;
                self.model.tensors[tensor.0].zero_point = scale.zero_point;
            }
        }
    }
}

fn pool(p: &graph::Pool) -> Pool {
    Pool {
        kernel: p.kernel,
        stride: p.stride,
        dilation: p.dilation,
        pads: p.pads,
        act_min: -128,
        act_max: 127,
    }
}
