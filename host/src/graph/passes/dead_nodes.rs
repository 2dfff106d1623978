//! Removal of what the output does not depend on.

use crate::graph::{Graph, ValueId};

/// Removes the nodes that the graph's output does not depend on, and the values that are then
/// left over; values keep their order.
pub fn remove_dead_nodes(graph: &mut Graph) {
    let mut live = vec![false; graph.values.len()];
    live[graph.output.0] = true;
    live[graph.input.0] = true;
    for node in graph.nodes.iter().rev() {
        if live[node.output.0] {
            node.inputs.iter().for_each(|v| live[v.0] = true);
        }
    }
    graph.nodes.retain(|n| live[n.output.0]);
    let mut used = vec![false; graph.values.len()];
    used[graph.input.0] = true;
    used[graph.output.0] = true;
    for node in &graph.nodes {
        used[node.output.0] = true;
    }
    let mut next = 0;
    let new_ids: Vec<ValueId> = used
        .iter()
        .map(|&u| {
            let id = ValueId(next);
            next += usize::from(u);
            id
        })
        .collect();
    let mut keep = used.iter();
    graph
        .values
        .retain(|_| keep.next().copied().unwrap_or(false));
    for node in &mut graph.nodes {
        node.inputs.iter_mut().for_each(|v| *v = new_ids[v.0]);
        node.output = new_ids[node.output.0];
    }
    graph.input = new_ids[graph.input.0];
    graph.output = new_ids[graph.output.0];
}
