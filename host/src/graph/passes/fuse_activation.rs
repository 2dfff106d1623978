//! Clamps move into the operator that makes their operand.

use super::{fusable, sole_consumer};
use crate::graph::{Activation, Graph, Op, ValueId};

/// Fuses functions that only clamp (ReLU, ReLU6, clip) into the convolution, fully connected
/// layer, addition, affine map or clamp before them, where nothing else reads what is between.
///
/// A maximum, a reshape and a transposition in between do not matter: a clamp never decreases, so
/// the clamp of a maximum is the maximum of the clamps. True if anything changed.
pub fn fuse_activation(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut i = 0;
    while i < graph.nodes.len() {
        if let Op::Activation(outer) = graph.nodes[i].op
            && outer.clamp_range().is_some()
            && let Some(source) = find_source(graph, graph.nodes[i].inputs[0])
            && let Some(both) = inner(&mut graph.nodes[source].op).and_then(|a| compose(*a, outer))
        {
            if let Some(a) = inner(&mut graph.nodes[source].op) {
                *a = both;
            }
            let node = graph.nodes.remove(i);
            for n in &mut graph.nodes {
                if n.output == node.inputs[0] {
                    n.output = node.output;
                }
            }
            changed = true;
        } else {
            i += 1;
        }
    }
    changed
}

fn inner(op: &mut Op) -> Option<&mut Activation> {
    match op {
        Op::Activation(a) => Some(a),
        op => fusable(op),
    }
}

/// The node to fuse into: the maker of `v` or what is above it, with one reader each.
fn find_source(graph: &Graph, mut v: ValueId) -> Option<usize> {
    loop {
        sole_consumer(graph, v)?;
        let i = graph.producer(v)?;
        match graph.nodes[i].op {
            Op::MaxPool(_) | Op::Reshape | Op::Transpose { .. } => v = graph.nodes[i].inputs[0],
            _ => return Some(i),
        }
    }
}

/// First `first`, then `second`, as one clamp.
fn compose(first: Activation, second: Activation) -> Option<Activation> {
    let ((a, b), (lo, hi)) = (first.clamp_range()?, second.clamp_range()?);
    let clamp = |x: f32| x.max(lo).min(hi);
    Some(match (clamp(a), clamp(b)) {
        (f32::NEG_INFINITY, f32::INFINITY) => Activation::Identity,
        (0.0, f32::INFINITY) => Activation::Relu,
        (lo, hi) => Activation::Clip { lo, hi },
    })
}
