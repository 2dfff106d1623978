//! From the float graph and the notes of its pairs to the integer network.

use super::linear::{Layer, Problem};
use super::strip::Notes;
use crate::engine::Engine;
use crate::graph::{self, Activation, Graph, ValueId};
use crate::import::{ImportError, Issue};
use crate::model::*;
use crate::quantize::{TensorScale, ops, quantize_multiplier};

const SOFTMAX: TensorScale = TensorScale {
    scale: 1.0 / 256.0,
    zero_point: -128,
};

pub(super) fn build(
    graph: &Graph,
    notes: &Notes,
    file: &str,
) -> Result<QuantizedModel, ImportError> {
    let mut b = Build {
        graph,
        notes,
        tensor_of: vec![None; graph.values.len()],
        fused: vec![None; graph.nodes.len()],
        model: QuantizedModel {
            name: graph.name.clone(),
            rounding: Rounding::Tflm,
            tensors: Vec::new(),
            nodes: Vec::new(),
            input: TensorId(0),
            output: TensorId(0),
            preprocess: Preprocess::default(),
            labels: Vec::new(),
        },
    };
    let input = b
        .noted(graph.input)
        .ok_or_else(|| ImportError::InputShape {
            file: file.into(),
            name: graph.value_name(graph.input).into(),
            reason: "is not quantized: no QuantizeLinear reads it".into(),
        })?;
    b.model.input = b.tensor(graph.input, input);
    b.fuse();
    let mut issues = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        // What reads a node that failed cannot be judged; that node is on the list already.
        if node.inputs.iter().any(|v| b.tensor_of[v.0].is_none()) {
            continue;
        }
        if let Err((reason, remedy)) = b.node(i) {
            let shapes: Vec<String> = node
                .inputs
                .iter()
                .map(|v| format!("{:?}", graph.shape(*v)))
                .collect();
            issues.push(Issue {
                node: node.name.clone(),
                operator: node.op.kind().into(),
                shapes: format!("{} (height, width, channels)", shapes.join(", ")),
                reason,
                remedy,
            });
        }
    }
    if !issues.is_empty() {
        return Err(ImportError::Unsupported {
            file: file.into(),
            issues,
        });
    }
    b.model.output = b.tensor_of[graph.output.0].ok_or_else(|| ImportError::Damaged {
        file: file.into(),
        reason: "nothing makes its output".into(),
    })?;
    Engine::new(&b.model).map_err(|source| ImportError::Integer {
        file: file.into(),
        source: Box::new(source),
    })?;
    Ok(b.model)
}

struct Build<'a> {
    graph: &'a Graph,
    notes: &'a Notes,
    tensor_of: Vec<Option<TensorId>>,
    /// For a node that an activation function is fused into: the function, and what it makes.
    fused: Vec<Option<(Activation, ValueId)>>,
    model: QuantizedModel,
}

impl Build<'_> {
    fn noted(&self, v: ValueId) -> Option<TensorScale> {
        self.notes
            .activations
            .get(self.graph.value_name(v))
            .copied()
    }

    /// Finds the clamps that directly follow an operator without a pair between.
    fn fuse(&mut self) {
        for node in &self.graph.nodes {
            let between = node.inputs[0];
            let graph::Op::Activation(f) = node.op else {
                continue;
            };
            let alone = self.noted(between).is_none()
                && between != self.graph.output
                && self.graph.consumers(between).count() == 1;
            let maker = self.graph.producer(between);
            if let (true, true, Some(maker)) = (alone, f.clamp_range().is_some(), maker)
                && own_clamp(&self.graph.nodes[maker].op) == Some(Activation::Identity)
            {
                self.fused[maker] = Some((f, node.output));
            }
        }
    }

    fn tensor(&mut self, v: ValueId, s: TensorScale) -> TensorId {
        let name = self.graph.value_name(v).to_string();
        let id = self.push_tensor(name, self.graph.shape(v), s);
        self.tensor_of[v.0] = Some(id);
        id
    }

    fn push_tensor(&mut self, name: String, shape: [usize; 3], s: TensorScale) -> TensorId {
        self.model.tensors.push(Tensor {
            name,
            shape,
            scale: s.scale,
            zero_point: s.zero_point,
        });
        TensorId(self.model.tensors.len() - 1)
    }

    fn scale(&self, v: ValueId) -> TensorScale {
        // Only nodes whose operands all exist are built.
        let t = self.model.tensor(self.tensor_of[v.0].expect("built"));
        TensorScale {
            scale: t.scale,
            zero_point: t.zero_point,
        }
    }

    /// Appends a node that gives `output` in the scale `natural`, and a change of scale where the
    /// file wants another.
    fn push(
        &mut self,
        index: usize,
        output: ValueId,
        op: Op,
        natural: TensorScale,
    ) -> Result<(), Problem> {
        let node = &self.graph.nodes[index];
        let inputs = node
            .inputs
            .iter()
            .map(|v| self.tensor_of[v.0].expect("built"))
            .collect();
        let wanted = self.noted(output).unwrap_or(natural);
        let mut first = Node {
            name: node.name.clone(),
            op,
            inputs,
            output: TensorId(0),
        };
        if wanted == natural {
            first.output = self.tensor(output, natural);
            self.model.nodes.push(first);
            return Ok(());
        }
        let multiplier = multiplier(natural.scale as f64 / wanted.scale as f64)?;
        let name = format!("{}/before_rescaling", self.graph.value_name(output));
        first.output = self.push_tensor(name, self.graph.shape(output), natural);
        let rescale = Node {
            name: format!("{}/rescaling", node.name),
            op: Op::Requantize { multiplier },
            inputs: vec![first.output],
            output: self.tensor(output, wanted),
        };
        self.model.nodes.extend([first, rescale]);
        Ok(())
    }

    fn node(&mut self, index: usize) -> Result<(), Problem> {
        let node = &self.graph.nodes[index];
        if self.tensor_of[node.output.0].is_some() {
            // Fused into the node before.
            return Ok(());
        }
        let x = self.scale(node.inputs[0]);
        let (clamp, output) = match self.fused[index] {
            Some((f, v)) => (Some(f), v),
            None => (None, node.output),
        };
        let required = || {
            self.noted(output).ok_or_else(|| {
                (
                    format!(
                        "its result `{}` is not quantized",
                        self.graph.value_name(output)
                    ),
                    format!(
                        "quantize with {} among op_types_to_quantize and not excluded",
                        node.op.kind()
                    ),
                )
            })
        };
        // What is fused here found nothing fused before.
        let both = |own: Activation| clamp.unwrap_or(own);
        match &node.op {
            graph::Op::Conv2d(_) | graph::Op::FullyConnected(_) | graph::Op::Affine(_) => {
                let y = required()?;
                let op = self.linear(node, x, y, both)?;
                self.push(index, output, op, y)
            }
            graph::Op::Add { activation } => {
                let y = required()?;
                let other = self.scale(node.inputs[1]);
                let op = ops::add([x, other], y, both(*activation)).ok_or_else(too_narrow)?;
                let [a, b] = [0, 1].map(|i| self.graph.shape(node.inputs[i]));
                let op = if a == b {
                    Op::Add(op)
                } else {
                    Op::BroadcastAdd(ops::broadcast(op))
                };
                self.push(index, output, op, y)
            }
            graph::Op::Sub { activation } => {
                let y = required()?;
                let other = self.scale(node.inputs[1]);
                let op = ops::add([x, other], y, both(*activation)).ok_or_else(too_narrow)?;
                self.push(index, output, Op::Sub(ops::broadcast(op)), y)
            }
            graph::Op::Mul { activation } => {
                let y = required()?;
                let other = self.scale(node.inputs[1]);
                let op = ops::product([x, other], y, both(*activation)).ok_or_else(too_narrow)?;
                self.push(index, output, Op::Mul(op), y)
            }
            graph::Op::ResizeNearest { rows, columns } => {
                let (rows, columns) = (rows.clone(), columns.clone());
                self.push(index, output, Op::ResizeNearest { rows, columns }, x)
            }
            graph::Op::Activation(Activation::Identity) | graph::Op::Reshape => {
                self.push(index, output, Op::Reshape, x)
            }
            graph::Op::Activation(f) => {
                let y = match f {
                    // A clamp without a pair keeps the scale that it reads.
                    f if f.clamp_range().is_some() => self.noted(output).unwrap_or(x),
                    Activation::Sigmoid => self.noted(output).unwrap_or(SOFTMAX),
                    _ => required()?,
                };
                let table = ops::lut(*f, x, y);
                self.push(index, output, Op::Lut { table }, y)
            }
            graph::Op::MaxPool(p) => self.push(index, output, Op::MaxPool(pool(p)), x),
            graph::Op::AveragePool(p) => self.push(index, output, Op::AveragePool(pool(p)), x),
            graph::Op::GlobalAveragePool => {
                let y = self.noted(output).unwrap_or(x);
                let [h, w, _] = self.graph.shape(node.inputs[0]);
                let multiplier = multiplier(x.scale as f64 / (y.scale as f64 * (h * w) as f64))?;
                self.push(index, output, Op::Mean { multiplier }, y)
            }
            graph::Op::Pad {
                before,
                after,
                value,
            } => {
                let pad = Pad {
                    before: *before,
                    after: *after,
                    value: x.quantize(*value as f64),
                };
                self.push(index, output, Op::Pad(pad), x)
            }
            graph::Op::Concat { axis } => {
                let y = required()?;
                let mut inputs = Vec::new();
                for v in &node.inputs {
                    let from = self.scale(*v);
                    inputs.push(if from == y {
                        ConcatInput::Copy
                    } else {
                        ConcatInput::Rescale(multiplier(from.scale as f64 / y.scale as f64)?)
                    });
                }
                let axis = *axis;
                self.push(index, output, Op::Concat(Concat { axis, inputs }), y)
            }
            graph::Op::Transpose { perm } => {
                self.push(index, output, Op::Transpose { perm: *perm }, x)
            }
            graph::Op::Softmax => self.push(index, output, ops::softmax(x.scale), SOFTMAX),
        }
    }

    fn linear(
        &self,
        node: &graph::Node,
        input: TensorScale,
        output: TensorScale,
        both: impl Fn(Activation) -> Activation,
    ) -> Result<Op, Problem> {
        let layer = |weights, bias, activation| Layer {
            weights,
            bias,
            activation: both(activation),
            input,
            output,
        };
        let note = self
            .notes
            .weights
            .get(self.graph.value_name(node.output))
            .ok_or_else(|| {
                (
                    "its weights are not quantized".to_string(),
                    "quantize weights too (int8, symmetric)".to_string(),
                )
            });
        Ok(match &node.op {
            graph::Op::Conv2d(c) => Op::Conv2d(Conv2d {
                kernel: [c.weights.shape[1], c.weights.shape[2]],
                stride: c.stride,
                dilation: c.dilation,
                pads: c.pads,
                groups: c.groups,
                linear: layer(&c.weights.data, &c.bias, c.activation).quantize(note?)?,
            }),
            graph::Op::FullyConnected(f) => Op::FullyConnected(FullyConnected {
                linear: layer(&f.weights.data, &f.bias, f.activation).quantize(note?)?,
            }),
            graph::Op::Affine(a) => Op::Conv2d(Conv2d {
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                pads: Default::default(),
                groups: a.scale.len(),
                linear: layer(&a.scale, &a.shift, a.activation).affine()?,
            }),
            _ => unreachable!("only linear nodes come here"),
        })
    }
}

/// The function that an operator has fused already, if it can have one.
fn own_clamp(op: &graph::Op) -> Option<Activation> {
    match op {
        graph::Op::Conv2d(c) => Some(c.activation),
        graph::Op::FullyConnected(f) => Some(f.activation),
        graph::Op::Affine(a) => Some(a.activation),
        graph::Op::Add { activation }
        | graph::Op::Sub { activation }
        | graph::Op::Mul { activation } => Some(*activation),
        _ => None,
    }
}

fn too_narrow() -> Problem {
    (
        "its output's range is far narrower than its inputs'".into(),
        "calibrate again with representative data".into(),
    )
}

fn multiplier(ratio: f64) -> Result<Multiplier, Problem> {
    quantize_multiplier(ratio).ok_or_else(too_narrow)
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
