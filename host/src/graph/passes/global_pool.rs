//! A mean over the whole map is a global mean.

use crate::graph::{Graph, Op, Pads};

/// Turns average pooling whose one window is the whole map into [`Op::GlobalAveragePool`].
/// True if anything changed.
pub fn recognise_global_pool(graph: &mut Graph) -> bool {
    let mut changed = false;
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let [h, w, _] = graph.shape(node.inputs[0]);
        let [oh, ow, _] = graph.shape(node.output);
        if let Op::AveragePool(p) = &node.op
            && p.kernel == [h, w]
            && [oh, ow] == [1, 1]
            && p.pads == Pads::default()
        {
            graph.nodes[i].op = Op::GlobalAveragePool;
            changed = true;
        }
    }
    changed
}
