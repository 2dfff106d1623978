//! Element-wise functions do not care about the order of elements.

use super::sole_consumer;
use crate::graph::{Graph, Op};

/// Moves functions in front of the reshape or transposition that they alone read, so that the
/// latter can join what follows ([`super::permute_columns`]). True if anything changed.
pub fn hoist_activation(graph: &mut Graph) -> bool {
    let mut changed = false;
    for i in 0..graph.nodes.len() {
        if !matches!(graph.nodes[i].op, Op::Activation(_)) {
            continue;
        }
        let between = graph.nodes[i].inputs[0];
        let (Some(_), Some(before)) = (sole_consumer(graph, between), graph.producer(between))
        else {
            continue;
        };
        if !matches!(graph.nodes[before].op, Op::Reshape | Op::Transpose { .. }) {
            continue;
        }
        let source = graph.nodes[before].inputs[0];
        graph.values[between.0].shape = graph.shape(source);
        graph.nodes[i].inputs[0] = source;
        let result = std::mem::replace(&mut graph.nodes[i].output, between);
        graph.nodes[before].inputs[0] = between;
        graph.nodes[before].output = result;
        graph.nodes.swap(before, i);
        changed = true;
    }
    changed
}
