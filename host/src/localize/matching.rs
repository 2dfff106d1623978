//! Which layer of the integer model stands for which value of the float network.
//!
//! A model that was quantized here has the float network's names. One from the field may have
//! others; then layers are matched by structure: two layers stand for each other where they have as
//! many output channels and weights a channel, outputs of one shape, and inputs that come through
//! matching layers from the network's input. Operators without weights (activations, borders,
//! pooling, changes of shape or scale) do not count on that way, since importers and converters
//! fuse and split them; where branches join, all of them count, in any order.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::graph::{Graph, ValueId};
use crate::model::QuantizedModel;

/// Layers of two networks that stand for each other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerMatches {
    /// Linear node of the integer model and value of the float network, in the model's order.
    pub pairs: Vec<(usize, ValueId)>,
    /// How many of them have one name.
    pub by_name: usize,
    /// How many of them were matched by structure.
    pub by_structure: usize,
    /// Linear nodes of the integer model without a partner.
    pub unmatched: Vec<usize>,
}

/// Matches layers by name and, where names differ, by structure.
pub fn match_layers(graph: &Graph, model: &QuantizedModel) -> LayerMatches {
    let mut found: BTreeMap<usize, ValueId> = BTreeMap::new();
    for (node, _) in model.linears() {
        let output = model.tensor(model.nodes[node].output);
        let value = graph.values.iter().position(|v| v.name == output.name);
        if let Some(value) = value.filter(|v| graph.values[*v].shape == output.shape) {
            found.insert(node, ValueId(value));
        }
    }
    let by_name = found.len();
    let linears = model.linears().count();
    if by_name < linears {
        let (ours, theirs) = (signatures_of_model(model), signatures_of_graph(graph));
        for (signature, nodes) in &ours {
            // Equal branches pair up in execution order, if there are as many on both sides.
            let Some(values) = theirs.get(signature).filter(|v| v.len() == nodes.len()) else {
                continue;
            };
            for (node, value) in nodes.iter().zip(values) {
                let shape = model.tensor(model.nodes[*node].output).shape;
                if graph.shape(*value) == shape && !found.values().any(|v| v == value) {
                    found.entry(*node).or_insert(*value);
                }
            }
        }
    }
    LayerMatches {
        by_name,
        by_structure: found.len() - by_name,
        unmatched: model
            .linears()
            .map(|(node, _)| node)
            .filter(|n| !found.contains_key(n))
            .collect(),
        pairs: found.into_iter().collect(),
    }
}

/// [`LayerMatches::pairs`].
pub(crate) fn matched_layers(graph: &Graph, model: &QuantizedModel) -> Vec<(usize, ValueId)> {
    match_layers(graph, model).pairs
}

/// What a layer is and where its input comes from.
fn layer(channels: usize, taps: usize, input: u64) -> u64 {
    let mut h = DefaultHasher::new();
    (channels, taps, input).hash(&mut h);
    h.finish()
}

/// What comes out of an operator without weights.
fn joined(mut inputs: Vec<u64>) -> u64 {
    if let [one] = inputs[..] {
        return one;
    }
    inputs.sort_unstable();
    let mut h = DefaultHasher::new();
    inputs.hash(&mut h);
    h.finish()
}

fn signatures_of_model(model: &QuantizedModel) -> HashMap<u64, Vec<usize>> {
    let mut of = vec![0u64; model.tensors.len()];
    let mut layers: HashMap<u64, Vec<usize>> = HashMap::new();
    for (i, node) in model.nodes.iter().enumerate() {
        let input = joined(node.inputs.iter().map(|t| of[t.0]).collect());
        of[node.output.0] = match node.op.linear() {
            Some(l) => {
                let signature = layer(l.out_channels(), l.taps(), input);
                layers.entry(signature).or_default().push(i);
                signature
            }
            None => input,
        };
    }
    layers
}

fn signatures_of_graph(graph: &Graph) -> HashMap<u64, Vec<ValueId>> {
    let mut of = vec![0u64; graph.values.len()];
    let mut layers: HashMap<u64, Vec<ValueId>> = HashMap::new();
    for node in &graph.nodes {
        let input = joined(node.inputs.iter().map(|v| of[v.0]).collect());
        of[node.output.0] = match node.op.weights() {
            Some(w) => {
                let channels = w.shape.first().copied().unwrap_or(1).max(1);
                let signature = layer(channels, w.data.len() / channels, input);
                layers.entry(signature).or_default().push(node.output);
                signature
            }
            None => input,
        };
    }
    layers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::{Backend, FloatNet};
    use crate::graph::{Activation, Conv2d, Node, Op, Pads, Value, Weights};
    use crate::quantize::{QuantizeConfig, quantize};

    fn conv(in_c: usize, out_c: usize) -> Op {
        Op::Conv2d(Conv2d {
            weights: Weights {
                shape: vec![out_c, 1, 1, in_c],
                data: (0..in_c * out_c).map(|i| (i % 5) as f32 - 1.5).collect(),
            },
            bias: vec![0.25; out_c],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Pads::default(),
            groups: 1,
            activation: Activation::Relu,
        })
    }

    /// Two branches of different widths that are added, and a last layer.
    fn branches() -> Graph {
        let value = |name: &str, c| Value {
            name: name.into(),
            shape: [2, 2, c],
        };
        let node = |name: &str, op, inputs: &[usize], output| Node {
            name: name.into(),
            op,
            inputs: inputs.iter().map(|i| ValueId(*i)).collect(),
            output: ValueId(output),
        };
        let add = Op::Add {
            activation: Activation::Identity,
        };
        Graph {
            name: "branches".into(),
            values: vec![
                value("x", 2),
                value("a", 3),
                value("b", 4),
                value("c", 4),
                value("sum", 4),
                value("y", 4),
            ],
            nodes: vec![
                node("a", conv(2, 3), &[0], 1),
                node("b", conv(3, 4), &[1], 2),
                node("c", conv(2, 4), &[0], 3),
                node("sum", add, &[2, 3], 4),
                node("y", conv(4, 4), &[4], 5),
            ],
            input: ValueId(0),
            output: ValueId(5),
            input_was_nchw: false,
        }
    }

    #[test]
    fn layers_with_other_names_in_another_order_are_matched_by_structure() {
        let graph = branches();
        graph.check().expect("sound");
        let net = FloatNet::new(&graph, Backend::default()).expect("it runs");
        let x: Vec<f32> = (0..80).map(|i| (i % 7) as f32 - 3.0).collect();
        let method = crate::calibrate::Method::default();
        let calibration =
            crate::calibrate::calibrate(&graph, &net, &x, method).expect("calibrated");
        let config = QuantizeConfig::default();
        let mut model =
            quantize(&graph, &calibration, &config, &x, Default::default()).expect("quantized");
        let named = match_layers(&graph, &model);
        assert_eq!((named.by_name, named.by_structure), (4, 0));

        for t in &mut model.tensors {
            t.name = format!("StatefulPartitionedCall/{}", t.name);
        }
        let by_structure = match_layers(&graph, &model);
        assert_eq!(by_structure.pairs, named.pairs);
        assert_eq!((by_structure.by_name, by_structure.by_structure), (0, 4));

        // The shortcut before the long branch, as another converter orders them.
        let mut other = graph.clone();
        other.nodes.swap(1, 2);
        other.nodes.swap(0, 1);
        other.check().expect("sound");
        assert_eq!(match_layers(&other, &model).pairs, named.pairs);

        // A network of another structure has no partner for what differs and what comes after.
        let mut wider = graph.clone();
        wider.nodes[0].op = conv(2, 6);
        wider.values[1].shape[2] = 6;
        wider.nodes[1].op = conv(6, 4);
        let found = match_layers(&wider, &model);
        assert_eq!((found.by_structure, found.unmatched.len()), (1, 3));
    }
}
