//! Exact simplifications of a [`Graph`], one a file.
//!
//! None of them changes what the network computes (beyond the rounding of folded constants, which
//! are combined in `f64`), and none drops a value that something else reads.

mod dead_nodes;
mod drop_identity;
mod fold_affine;
mod fold_pad;
mod fuse_activation;
mod global_pool;
mod hoist_activation;
mod permute_columns;
#[cfg(test)]
mod tests;

use super::{Activation, Graph, Op, ValueId};

pub use dead_nodes::remove_dead_nodes;
pub use drop_identity::drop_identity;
pub use fold_affine::fold_affine;
pub use fold_pad::fold_pad;
pub use fuse_activation::fuse_activation;
pub use global_pool::recognise_global_pool;
pub use hoist_activation::hoist_activation;
pub use permute_columns::permute_columns;

/// Applies all passes until none of them finds anything.
pub fn simplify(graph: &mut Graph) {
    let passes: [fn(&mut Graph) -> bool; 7] = [
        drop_identity,
        recognise_global_pool,
        fold_pad,
        fold_affine,
        fuse_activation,
        hoist_activation,
        permute_columns,
    ];
    let mut changed = true;
    while changed {
        changed = passes
            .iter()
            .fold(false, |changed, pass| pass(graph) | changed);
        // What is dead must not count as a reader in the next round.
        remove_dead_nodes(graph);
    }
}

/// The only node that reads `v`, if `v` is not the graph's output and read only once.
fn sole_consumer(graph: &Graph, v: ValueId) -> Option<usize> {
    if v == graph.output {
        return None;
    }
    let mut readers = graph
        .nodes
        .iter()
        .enumerate()
        .flat_map(|(i, n)| n.inputs.iter().filter(|&&x| x == v).map(move |_| i));
    match (readers.next(), readers.next()) {
        (Some(i), None) => Some(i),
        _ => None,
    }
}

/// Lets every reader of `from`, and the graph's output, read `to`.
fn replace_uses(graph: &mut Graph, from: ValueId, to: ValueId) {
    for v in graph
        .nodes
        .iter_mut()
        .flat_map(|n| &mut n.inputs)
        .filter(|v| **v == from)
    {
        *v = to;
    }
    if graph.output == from {
        graph.output = to;
    }
}

/// The function that an operator can have fused.
fn fusable(op: &mut Op) -> Option<&mut Activation> {
    match op {
        Op::Conv2d(c) => Some(&mut c.activation),
        Op::FullyConnected(f) => Some(&mut f.activation),
        Op::Affine(a) => Some(&mut a.activation),
        Op::Add { activation } | Op::Sub { activation } | Op::Mul { activation } => {
            Some(activation)
        }
        _ => None,
    }
}
