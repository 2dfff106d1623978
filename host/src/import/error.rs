//! What can go wrong while a network is read.

use std::path::PathBuf;

/// One operator that cannot be imported, with the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Name of the node in the file (or of its output, where it has none).
    pub node: String,
    /// Operator type, with its domain where that is not ONNX's own.
    pub operator: String,
    /// Shapes of its operands as the file has them; `N` is the batch.
    pub shapes: String,
    /// What about it is not supported.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl std::fmt::Display for Issue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Issue {
            node,
            operator,
            shapes,
            reason,
            remedy,
        } = self;
        write!(
            f,
            "node `{node}` ({operator}, inputs {shapes}): {reason}; {remedy}"
        )
    }
}

fn lines(issues: &[Issue]) -> String {
    issues.iter().map(|i| format!("\n  - {i}")).collect()
}

/// Why a file did not become a [`crate::graph::Graph`]. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file could not be read from disk.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The extension names no format that is known.
    #[error("{}: neither .onnx nor .tflite; export the network as ONNX or as float TFLite", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// A TFLite file that cannot be imported.
    #[error(transparent)]
    Tflite(#[from] super::tflite::TfliteError),
    /// The bytes are not a whole, sane ONNX file.
    #[error("{file}: damaged or not an ONNX file: {reason}; export or copy it again")]
    Damaged {
        /// The file.
        file: String,
        /// What was found.
        reason: String,
    },
    /// More data than a network for a microcontroller can have.
    #[error(
        "{file}: {what} exceeds the importer's limit of {limit}; it is not meant for networks of this size"
    )]
    TooLarge {
        /// The file.
        file: String,
        /// What is too large.
        what: String,
        /// The limit, with its unit.
        limit: String,
    },
    /// An operator set outside the supported range.
    #[error(
        "{file}: operator set {found} is not supported ({low} to {high} are); export with opset_version=17"
    )]
    Opset {
        /// The file.
        file: String,
        /// What the file asks for.
        found: i64,
        /// Oldest supported.
        low: i64,
        /// Newest supported.
        high: i64,
    },
    /// Not exactly one input and one output.
    #[error("{file}: the network needs exactly one {what}, but this one has {}: {}; export one with a single {what}", names.len(), names.join(", "))]
    Ends {
        /// The file.
        file: String,
        /// "input" or "output".
        what: &'static str,
        /// Their names.
        names: Vec<String>,
    },
    /// The input's declared shape or type cannot be used.
    #[error(
        "{file}: input `{name}` {reason}; export with a float input [batch, channels, height, width], [batch, channels, length] or [batch, features] of which only the batch is dynamic"
    )]
    InputShape {
        /// The file.
        file: String,
        /// The input's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An initializer that cannot be used.
    #[error("{file}: initializer `{name}` {reason}")]
    Initializer {
        /// The file.
        file: String,
        /// The initializer's name.
        name: String,
        /// What is wrong with it and what to do.
        reason: String,
    },
    /// A weight that is not a number or infinite.
    #[error(
        "{file}: initializer `{name}` holds {value} at index {index}; the training diverged or the file is damaged: weights must be finite"
    )]
    NonFinite {
        /// The file.
        file: String,
        /// The initializer's name.
        name: String,
        /// Where in the row-major data.
        index: usize,
        /// The value.
        value: f32,
    },
    /// A node that contradicts its operator's definition.
    #[error(
        "{file}: node `{node}` ({operator}, inputs {shapes}) is invalid: {reason}; check the file with onnx.checker.check_model(full_check=True)"
    )]
    Node {
        /// The file.
        file: String,
        /// The node's name.
        node: String,
        /// Its operator.
        operator: String,
        /// Shapes of its operands.
        shapes: String,
        /// The contradiction.
        reason: String,
    },
    /// Operators that are not supported, all of them.
    #[error("{file}: {} of its nodes cannot be imported:{}", issues.len(), lines(issues))]
    Unsupported {
        /// The file.
        file: String,
        /// In the file's order.
        issues: Vec<Issue>,
    },
    /// The finished graph broke a rule (folding overflowed the float range, for example).
    #[error("{file}: {source}")]
    Graph {
        /// The file.
        file: String,
        /// The rule.
        #[source]
        source: crate::graph::GraphError,
    },
    /// The finished integer network cannot be run (an accumulator could overflow, for example).
    #[error("{file}: {source}")]
    Integer {
        /// The file.
        file: String,
        /// The rule.
        #[source]
        source: Box<crate::engine::EngineError>,
    },
}
