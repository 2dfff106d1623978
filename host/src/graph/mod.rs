//! The imported float network: typed operators over NHWC tensors of batch one.
//!
//! An importer builds a [`Graph`]; the float reference runs it; the quantizer turns it into a
//! [`crate::model::QuantizedModel`]. Batch normalisation is folded before a graph gets here.

pub mod interpret;
mod op;
pub mod passes;
mod shapes;

pub use op::{Activation, Affine, Conv2d, FullyConnected, Op, Pads, Pool, Weights};
pub use shapes::{GraphError, broadcast_shape, output_shape};

/// Index into [`Graph::values`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub usize);

/// Height, width, channels. A vector is `[1, 1, n]`; a sequence is `[1, length, channels]`.
pub type Shape = [usize; 3];

/// A tensor of the network (weights are inside operators, not here).
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// The name in the file it came from, unique in the graph.
    pub name: String,
    /// Shape of one sample.
    pub shape: Shape,
}

/// One operator applied to values.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The name in the file it came from (or made from its output's name), unique in the graph.
    pub name: String,
    /// What it computes.
    pub op: Op,
    /// Operands, in the operator's order.
    pub inputs: Vec<ValueId>,
    /// Result.
    pub output: ValueId,
}

/// A float network with one input and one output.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    /// The network's name.
    pub name: String,
    /// All tensors.
    pub values: Vec<Value>,
    /// Operators in execution order: every input is the graph's input or an earlier output.
    pub nodes: Vec<Node>,
    /// Where samples enter.
    pub input: ValueId,
    /// Where results leave.
    pub output: ValueId,
    /// Whether the file's own input was NCHW (so that `--layout auto` knows what its data look like).
    pub input_was_nchw: bool,
}

impl Graph {
    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> Shape {
        self.values[id.0].shape
    }

    /// Number of elements of a value.
    pub fn elements(&self, id: ValueId) -> usize {
        self.shape(id).iter().product()
    }

    /// Name of a value.
    pub fn value_name(&self, id: ValueId) -> &str {
        &self.values[id.0].name
    }

    /// The node that makes a value, if it is not the graph's input.
    pub fn producer(&self, id: ValueId) -> Option<usize> {
        self.nodes.iter().position(|n| n.output == id)
    }

    /// The nodes that read a value.
    pub fn consumers(&self, id: ValueId) -> impl Iterator<Item = usize> + '_ {
        self.nodes
            .iter()
            .enumerate()
            .filter(move |(_, n)| n.inputs.contains(&id))
            .map(|(i, _)| i)
    }

    /// Weights in all linear operators (biases not counted).
    pub fn weight_count(&self) -> usize {
        self.nodes
            .iter()
            .map(|n| n.op.weights().map_or(0, |w| w.data.len()))
            .sum()
    }
}
