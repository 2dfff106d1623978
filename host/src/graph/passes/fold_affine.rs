//! Batch normalisation and other per-channel affine maps move into a linear neighbour.

use super::sole_consumer;
use crate::graph::{Activation, Affine, Graph, Op, Pads};

/// Folds each affine map into the convolution or fully connected layer before it, else into an
/// affine map before it, else into the one linear operator that reads it. True if anything changed.
///
/// With `y = s x + t` per channel: behind a linear operator `w' = s w, b' = s b + t`; in front of
/// one `w' = w s, b' = b + sum(w t)`. The latter holds for a convolution only where no zero padding
/// stands in for `y` (padding is zero, not `t`), so one that pads takes in a map only if `t = 0`.
/// Nothing is folded across a fused function.
pub fn fold_affine(graph: &mut Graph) -> bool {
    let mut changed = false;
    let mut i = 0;
    while i < graph.nodes.len() {
        let Op::Affine(map) = &graph.nodes[i].op else {
            i += 1;
            continue;
        };
        let map = map.clone();
        if fold_back(graph, i, &map) || fold_forward(graph, i, &map) {
            changed = true;
        } else {
            i += 1;
        }
    }
    changed
}

fn fold_back(graph: &mut Graph, i: usize, map: &Affine) -> bool {
    let x = graph.nodes[i].inputs[0];
    let (Some(_), Some(before)) = (sole_consumer(graph, x), graph.producer(x)) else {
        return false;
    };
    match &mut graph.nodes[before].op {
        Op::Conv2d(c) if c.activation == Activation::Identity => {
            let row = c.weights.data.len() / c.bias.len().max(1);
            scale_rows(&mut c.weights.data, row, &mut c.bias, map);
            c.activation = map.activation;
        }
        Op::FullyConnected(f) if f.activation == Activation::Identity => {
            let row = f.weights.data.len() / f.bias.len().max(1);
            scale_rows(&mut f.weights.data, row, &mut f.bias, map);
            f.activation = map.activation;
        }
        Op::Affine(a) if a.activation == Activation::Identity => {
            for c in 0..a.scale.len() {
                let [s, t] = [map.scale[c], map.shift[c]].map(f64::from);
                a.shift[c] = (s * f64::from(a.shift[c]) + t) as f32;
                a.scale[c] = (s * f64::from(a.scale[c])) as f32;
            }
            a.activation = map.activation;
        }
        _ => return false,
    }
    let node = graph.nodes.remove(i);
    graph.nodes[before].output = node.output;
    true
}

fn scale_rows(weights: &mut [f32], row: usize, bias: &mut [f32], map: &Affine) {
    for (o, b) in bias.iter_mut().enumerate() {
        let [s, t] = [map.scale[o], map.shift[o]].map(f64::from);
        *b = (s * f64::from(*b) + t) as f32;
        weights[o * row..][..row]
            .iter_mut()
            .for_each(|w| *w = (s * f64::from(*w)) as f32);
    }
}

fn fold_forward(graph: &mut Graph, i: usize, map: &Affine) -> bool {
    if map.activation != Activation::Identity {
        return false;
    }
    let Some(after) = sole_consumer(graph, graph.nodes[i].output) else {
        return false;
    };
    let source = graph.nodes[i].inputs[0];
    match &mut graph.nodes[after].op {
        Op::Conv2d(c) if c.pads == Pads::default() || map.shift.iter().all(|&t| t == 0.0) => {
            let in_per_group = c.weights.shape[3];
            let out_per_group = c.bias.len() / c.groups;
            fold_columns(&mut c.weights.data, &mut c.bias, map, |o, column| {
                o / out_per_group * in_per_group + column % in_per_group
            });
        }
        Op::FullyConnected(f) => {
            let channels = map.scale.len();
            fold_columns(&mut f.weights.data, &mut f.bias, map, |_, column| {
                column % channels
            });
        }
        _ => return false,
    }
    graph.nodes[after].inputs[0] = source;
    graph.nodes.remove(i);
    true
}

/// `channel(output, column)` is the input channel that a weight multiplies.
fn fold_columns(
    weights: &mut [f32],
    bias: &mut [f32],
    map: &Affine,
    channel: impl Fn(usize, usize) -> usize,
) {
    let row = weights.len() / bias.len().max(1);
    for (o, b) in bias.iter_mut().enumerate() {
        let mut sum = f64::from(*b);
        for (column, w) in weights[o * row..][..row].iter_mut().enumerate() {
            let c = channel(o, column);
            sum += f64::from(*w) * f64::from(map.shift[c]);
            *w = (f64::from(*w) * f64::from(map.scale[c])) as f32;
        }
        *b = sum as f32;
    }
}
