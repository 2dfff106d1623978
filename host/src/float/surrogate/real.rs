//! The real-valued graph behind an integer network.

use crate::float::FloatError;
use crate::graph::{self, Graph, Value, ValueId};
use crate::model::{Linear, Op, QuantizedModel};

/// The graph that the integer network approximates; a linear operator's weights and biases stay
/// integers, so that its result is the accumulator (exact in f32 up to 2^24).
pub(super) fn real_graph(model: &QuantizedModel) -> Result<Graph, FloatError> {
    if let Some(t) = model
        .tensors
        .iter()
        .find(|t| !(t.scale > 0.0 && t.scale.is_finite()))
    {
        return Err(FloatError::Scale {
            name: t.name.clone(),
            scale: t.scale,
        });
    }
    let values = model
        .tensors
        .iter()
        .map(|t| Value {
            name: t.name.clone(),
            shape: t.shape,
        })
        .collect();
    let mut nodes = Vec::with_capacity(model.nodes.len());
    for node in &model.nodes {
        if let Some(l) = node
            .op
            .linear()
            .filter(|l| l.multipliers.len() != l.bias.len())
        {
            let problem = format!(
                "{} multipliers for {} output channels",
                l.multipliers.len(),
                l.bias.len()
            );
            return Err(FloatError::Node {
                node: node.name.clone(),
                op: node.op.kind(),
                problem,
            });
        }
        nodes.push(graph::Node {
            name: node.name.clone(),
            op: real_op(model, node),
            inputs: node.inputs.iter().map(|t| ValueId(t.0)).collect(),
            output: ValueId(node.output.0),
        });
    }
    Ok(Graph {
        name: model.name.clone(),
        values,
        nodes,
        input: ValueId(model.input.0),
        output: ValueId(model.output.0),
        input_was_nchw: false,
    })
}

fn real_op(model: &QuantizedModel, node: &crate::model::Node) -> graph::Op {
    let activation = graph::Activation::Identity;
    let weights = |l: &Linear, shape: Vec<usize>| graph::Weights {
        shape,
        data: l.weights.iter().map(|&w| w as f32).collect(),
    };
    let bias = |l: &Linear| l.bias.iter().map(|&b| b as f32).collect();
    let pool = |p: &crate::model::Pool| graph::Pool {
        kernel: p.kernel,
        stride: p.stride,
        dilation: p.dilation,
        pads: p.pads,
    };
    match &node.op {
        Op::Conv2d(c) => {
            let l = &c.linear;
            let [kh, kw] = c.kernel;
            graph::Op::Conv2d(graph::Conv2d {
                weights: weights(
                    l,
                    vec![
                        l.out_channels(),
                        kh,
                        kw,
                        l.taps() / kh.saturating_mul(kw).max(1),
                    ],
                ),
                bias: bias(l),
                stride: c.stride,
                dilation: c.dilation,
                pads: c.pads,
                groups: c.groups,
                activation,
            })
        }
        Op::FullyConnected(f) => {
            let l = &f.linear;
            let [h, w, _] = model.tensors.get(node.output.0).map_or([1; 3], |t| t.shape);
            if h * w > 1 {
                return graph::Op::Conv2d(graph::Conv2d {
                    weights: weights(l, vec![l.out_channels(), 1, 1, l.taps()]),
                    bias: bias(l),
                    stride: [1, 1],
                    dilation: [1, 1],
                    pads: graph::Pads::default(),
                    groups: 1,
                    activation,
                });
            }
            let weights = weights(l, vec![l.out_channels(), l.taps()]);
            graph::Op::FullyConnected(graph::FullyConnected {
                weights,
                bias: bias(l),
                activation,
            })
        }
        Op::Add(_) => graph::Op::Add { activation },
        Op::MaxPool(p) => graph::Op::MaxPool(pool(p)),
        Op::AveragePool(p) => graph::Op::AveragePool(pool(p)),
        Op::Mean { .. } => graph::Op::GlobalAveragePool,
        Op::Pad(p) => {
            let value = model
                .tensors
                .get(node.output.0)
                .map_or(0.0, |t| t.dequantize(p.value));
            graph::Op::Pad {
                before: p.before,
                after: p.after,
                value,
            }
        }
        Op::Concat(c) => graph::Op::Concat { axis: c.axis },
        Op::Reshape => graph::Op::Reshape,
        Op::Transpose { perm } => graph::Op::Transpose { perm: *perm },
        Op::Requantize { .. } | Op::Lut { .. } => graph::Op::Activation(activation),
        Op::Softmax { .. } => graph::Op::Softmax,
        Op::Mul(_) | Op::Sub(_) | Op::BroadcastAdd(_) => elementwise(model, node),
        Op::ResizeNearest { rows, columns } => graph::Op::ResizeNearest {
            rows: rows.clone(),
            columns: columns.clone(),
        },
    }
}

/// A product, difference or sum; one with a constant is an affine map.
fn elementwise(model: &QuantizedModel, node: &crate::model::Node) -> graph::Op {
    let activation = graph::Activation::Identity;
    let Some(c) = node.op.constant() else {
        return match &node.op {
            Op::Mul(_) => graph::Op::Mul { activation },
            Op::Sub(_) => graph::Op::Sub { activation },
            _ => graph::Op::Add { activation },
        };
    };
    let channels = node
        .inputs
        .first()
        .and_then(|t| model.tensors.get(t.0))
        .map_or(1, |t| t.shape[2]);
    let reals = c.reals(channels);
    let ones = |v: f32| vec![v; reals.len()];
    let (scale, shift) = match &node.op {
        Op::Mul(_) => (reals.clone(), ones(0.0)),
        Op::Sub(_) if c.position == 0 => (ones(-1.0), reals.clone()),
        Op::Sub(_) => (ones(1.0), reals.iter().map(|v| -v).collect()),
        _ => (ones(1.0), reals.clone()),
    };
    graph::Op::Affine(graph::Affine {
        scale,
        shift,
        activation,
    })
}
