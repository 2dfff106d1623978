//! Flattening in another order costs nothing in front of a fully connected layer.

use crate::graph::{Graph, Op};

/// Lets fully connected layers read past reshapes (they take their input's elements in HWC order
/// whatever its shape) and past transpositions, whose permutation moves into the weights' columns.
/// True if anything changed.
pub fn permute_columns(graph: &mut Graph) -> bool {
    let mut changed = false;
    for i in 0..graph.nodes.len() {
        if !matches!(graph.nodes[i].op, Op::FullyConnected(_)) {
            continue;
        }
        while let Some(before) = graph.producer(graph.nodes[i].inputs[0]) {
            let source = graph.nodes[before].inputs[0];
            match graph.nodes[before].op {
                Op::Reshape => {}
                Op::Transpose { perm } => {
                    let order = transposed_order(graph.shape(source), perm);
                    if let Op::FullyConnected(f) = &mut graph.nodes[i].op {
                        for row in f.weights.data.chunks_mut(order.len()) {
                            let old = row.to_vec();
                            order
                                .iter()
                                .zip(old)
                                .for_each(|(&column, w)| row[column] = w);
                        }
                    }
                }
                _ => break,
            }
            graph.nodes[i].inputs[0] = source;
            changed = true;
        }
    }
    changed
}

/// For each element of the transposed tensor in its row-major order, its index before.
fn transposed_order(shape: [usize; 3], perm: [usize; 3]) -> Vec<usize> {
    let strides = [shape[1] * shape[2], shape[2], 1];
    let mut order = Vec::with_capacity(shape.iter().product());
    for a in 0..shape[perm[0]] {
        for b in 0..shape[perm[1]] {
            for c in 0..shape[perm[2]] {
                order.push(a * strides[perm[0]] + b * strides[perm[1]] + c * strides[perm[2]]);
            }
        }
    }
    order
}
