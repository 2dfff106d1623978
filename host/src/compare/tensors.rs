//! Which tensors of two networks stand for the same thing.

use crate::graph::{Graph, ValueId};
use crate::localize::matched_layers;
use crate::model::{Op, QuantizedModel, TensorId};

/// A tensor of the integer model and its float original.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// The node that makes it; none for the model's input.
    pub node: Option<usize>,
    /// In the integer model.
    pub tensor: TensorId,
    /// In the float network.
    pub value: ValueId,
}

/// All tensors of the integer model that the float network has too, in the order of execution.
///
/// Tensors match where name and shape agree, and where they are the output of layers that
/// localisation matches; the two inputs and the two outputs always do, if their shapes agree. Each
/// value of the float network is used once.
pub fn matched_tensors(graph: &Graph, model: &QuantizedModel) -> Vec<Matched> {
    let layers = matched_layers(graph, model);
    let computed: Vec<bool> = {
        let mut c = vec![false; graph.values.len()];
        graph.nodes.iter().for_each(|n| c[n.output.0] = true);
        c[graph.input.0] = true;
        c
    };
    let find = |node: Option<usize>, tensor: TensorId| -> Option<ValueId> {
        let t = model.tensor(tensor);
        let fits = |v: ValueId| graph.shape(v) == t.shape && computed[v.0];
        let by_name = graph.values.iter().position(|v| v.name == t.name);
        by_name
            .map(ValueId)
            .filter(|v| fits(*v))
            .or_else(|| {
                let (_, v) = layers.iter().find(|(l, _)| Some(*l) == node)?;
                fits(*v).then_some(*v)
            })
            .or_else(|| match tensor {
                t if t == model.input => Some(graph.input).filter(|v| fits(*v)),
                t if t == model.output => Some(graph.output).filter(|v| fits(*v)),
                _ => None,
            })
    };
    let all = std::iter::once((None, model.input)).chain(
        model
            .nodes
            .iter()
            .enumerate()
            .map(|(i, n)| (Some(i), n.output)),
    );
    let mut used = vec![false; graph.values.len()];
    let mut found = Vec::new();
    for (node, tensor) in all {
        if let Some(value) = find(node, tensor).filter(|v| !used[v.0]) {
            used[value.0] = true;
            found.push(Matched {
                node,
                tensor,
                value,
            });
        }
    }
    found
}

/// The ends of what a node's output can hold: those of its fused activation, or of int8.
pub(super) fn output_range(op: Option<&Op>) -> (i8, i8) {
    match op {
        Some(Op::Conv2d(c)) => (c.linear.act_min, c.linear.act_max),
        Some(Op::FullyConnected(f)) => (f.linear.act_min, f.linear.act_max),
        Some(Op::Add(a)) => (a.act_min, a.act_max),
        Some(Op::Mul(p)) => (p.act_min, p.act_max),
        Some(Op::Sub(s) | Op::BroadcastAdd(s)) => (s.act_min, s.act_max),
        Some(Op::MaxPool(p) | Op::AveragePool(p)) => (p.act_min, p.act_max),
        _ => (i8::MIN, i8::MAX),
    }
}
