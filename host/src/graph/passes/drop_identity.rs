//! Removal of operators that change nothing.

use super::replace_uses;
use crate::graph::{Activation, Graph, Op, Shape};

/// Removes operators that give their operand back, joins reshapes and transpositions that follow
/// each other, and turns transpositions that only move axes of length one into reshapes.
/// True if anything changed.
pub fn drop_identity(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut i = 0;
    while i < graph.nodes.len() {
        changed |= shorten(graph, i);
        let node = &graph.nodes[i];
        let same = graph.shape(node.inputs[0]) == graph.shape(node.output);
        if same && node.inputs.len() == 1 && is_identity(&node.op) {
            let node = graph.nodes.remove(i);
            replace_uses(graph, node.output, node.inputs[0]);
            changed = true;
        } else {
            i += 1;
        }
    }
    changed
}

fn is_identity(op: &Op) -> bool {
    match op {
        Op::Activation(Activation::Identity) | Op::Reshape | Op::Concat { .. } => true,
        Op::Activation(Activation::Clip { lo, hi }) => {
            *lo == f32::NEG_INFINITY && *hi == f32::INFINITY
        }
        Op::Transpose { perm } => *perm == [0, 1, 2],
        Op::Pad { before, after, .. } => *before == [0; 3] && *after == [0; 3],
        Op::Affine(a) => {
            a.activation == Activation::Identity
                && a.scale.iter().all(|&s| s == 1.0)
                && a.shift.iter().all(|&s| s == 0.0)
        }
        _ => false,
    }
}

/// Whether a permutation leaves the elements' order as it is.
fn keeps_order(shape: Shape, perm: [usize; 3]) -> bool {
    perm.iter().filter(|&&axis| shape[axis] != 1).is_sorted()
}

/// Lets reshape `i` read past a reshape and transposition `i` past a transposition.
fn shorten(graph: &mut Graph, i: usize) -> bool {
    let node = &graph.nodes[i];
    if let Op::Transpose { perm } = node.op
        && perm != [0, 1, 2]
        && keeps_order(graph.shape(node.inputs[0]), perm)
    {
        graph.nodes[i].op = Op::Reshape;
        return true;
    }
    let Some(before) = graph.producer(node.inputs[0]) else {
        return false;
    };
    match (&graph.nodes[before].op, &node.op) {
        (Op::Reshape, Op::Reshape) => {}
        (Op::Transpose { perm: first }, Op::Transpose { perm: second }) => {
            let perm = second.map(|axis| first[axis]);
            graph.nodes[i].op = Op::Transpose { perm };
        }
        _ => return false,
    }
    graph.nodes[i].inputs[0] = graph.nodes[before].inputs[0];
    true
}
