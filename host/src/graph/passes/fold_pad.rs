//! Zero borders become a convolution's own padding.

use crate::graph::{Graph, Op, Pads};

/// Folds a spatial border of zeros into the convolution that reads it. True if anything changed.
pub fn fold_pad(graph: &mut Graph) -> bool {
    let mut changed = false;
    for i in 0..graph.nodes.len() {
        let Some(before) = graph.producer(graph.nodes[i].inputs[0]) else {
            continue;
        };
        let Op::Pad {
            before: [top, left, 0],
            after: [bottom, right, 0],
            value: 0.0,
        } = graph.nodes[before].op
        else {
            continue;
        };
        let source = graph.nodes[before].inputs[0];
        let node = &mut graph.nodes[i];
        if let Op::Conv2d(c) = &mut node.op {
            c.pads = Pads {
                top: c.pads.top + top,
                left: c.pads.left + left,
                bottom: c.pads.bottom + bottom,
                right: c.pads.right + right,
            };
            node.inputs[0] = source;
            changed = true;
        }
    }
    changed
}
