//! What can go wrong in the float reference.

/// An error of [`super::FloatNet`] or [`super::Surrogate`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FloatError {
    /// The name is of no backend.
    #[error("unknown float backend `{name}`; there are `flex` and, where built in, `ndarray`")]
    UnknownBackend {
        /// What was asked for.
        name: String,
    },
    /// The backend exists but is not in this build.
    #[error(
        "the float backend `{name}` is not in this build; build with `--features {name}`, or use `--backend flex`"
    )]
    BackendNotBuilt {
        /// Its name, which is also the feature's.
        name: &'static str,
    },
    /// The network takes nothing, or too much.
    #[error("the network's input is {shape:?} (HWC); it must have 1 to {limit} elements")]
    Input {
        /// Its shape.
        shape: crate::graph::Shape,
        /// Most elements.
        limit: usize,
    },
    /// A node cannot be computed as it stands.
    #[error(
        "node `{node}` ({op}): {problem}; a network from the importer or the quantizer cannot look like this, so mend whatever else made it"
    )]
    Node {
        /// The node's name.
        node: String,
        /// The operator.
        op: &'static str,
        /// What is wrong, with shapes.
        problem: String,
    },
    /// The network names a value that it does not have.
    #[error("{what} is value {id}, but the network has only {count} values")]
    NoSuchValue {
        /// Who names it.
        what: &'static str,
        /// The number that it names.
        id: usize,
        /// How many there are.
        count: usize,
    },
    /// A value is asked for that no node computes.
    #[error("value `{name}` is computed by no node")]
    NeverComputed {
        /// Its name.
        name: String,
    },
    /// The samples do not fill a whole number of inputs.
    #[error("{what} has {got} elements, expected {expected} ({detail})")]
    Length {
        /// Which slice.
        what: String,
        /// Its length.
        got: usize,
        /// The length that it should have, in words.
        expected: String,
        /// Why.
        detail: String,
    },
    /// A scale that divides nothing.
    #[error("tensor `{name}` has scale {scale}; a scale must be positive and finite")]
    Scale {
        /// The tensor.
        name: String,
        /// Its scale.
        scale: f32,
    },
    /// The integer engine refuses the model to differentiate.
    #[error(transparent)]
    Engine(#[from] crate::engine::EngineError),
    /// Burn could not hand a result over.
    #[error("the float backend failed: {0}")]
    Backend(String),
}

impl From<burn_tensor::TensorReadError> for FloatError {
    fn from(e: burn_tensor::TensorReadError) -> Self {
        FloatError::Backend(e.to_string())
    }
}
