//! What can go wrong while a TFLite file is read.

/// One operator that cannot be imported, with the way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedOperator {
    /// Its place in the file's list of operators.
    pub index: usize,
    /// TFLite's name of the operator.
    pub operator: String,
    /// Name of its first output tensor.
    pub output: String,
    /// Shapes of its operands as the file has them.
    pub shapes: String,
    /// What about it is not supported.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl std::fmt::Display for UnsupportedOperator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            index,
            operator,
            output,
            shapes,
            reason,
            remedy,
        } = self;
        write!(
            f,
            "operator {index} `{output}` ({operator}, inputs {shapes}): {reason}; {remedy}"
        )
    }
}

fn lines(issues: &[UnsupportedOperator]) -> String {
    issues.iter().map(|i| format!("\n  - {i}")).collect()
}

/// Operators that are not supported, behind another reason.
fn also(unknown: &[String]) -> String {
    if unknown.is_empty() {
        return String::new();
    }
    format!(
        " (and of its operators these are not supported at all: {})",
        unknown.join(", ")
    )
}

/// Why a file did not become a [`crate::model::QuantizedModel`] or [`crate::graph::Graph`]. Every
/// variant names the file.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TfliteError {
    /// The bytes are not a whole, sane TFLite file.
    #[error("{file}: damaged or not a .tflite file: {reason}; convert or copy it again")]
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
        what: &'static str,
        /// The limit, with its unit.
        limit: String,
    },
    /// Several subgraphs: control flow, or several entry points.
    #[error(
        "{file}: it holds {count} subgraphs, but exactly one can be imported; convert the model with a single signature and without if and while"
    )]
    Subgraphs {
        /// The file.
        file: String,
        /// Their number.
        count: usize,
    },
    /// Not exactly one input and one output.
    #[error("{file}: the network needs exactly one {what}, but this one has {}: {}; convert one with a single {what}", names.len(), names.join(", "))]
    Ends {
        /// The file.
        file: String,
        /// "input" or "output".
        what: &'static str,
        /// Their names.
        names: Vec<String>,
    },
    /// No activation is int8: a float network, or one with int8 weights and float activations.
    #[error(
        "{file}: no operator computes in int8 (its activations are {kind}); convert the float network to ONNX and quantize it here, or convert with full integer quantization (a representative dataset and the TFLITE_BUILTINS_INT8 operator set)"
    )]
    NotInt8 {
        /// The file.
        file: String,
        /// Element type of the first operator's input.
        kind: String,
    },
    /// Something about the network as a whole that is not supported.
    #[error("{file}: {reason}; {remedy}")]
    Unsuited {
        /// The file.
        file: String,
        /// What is not supported.
        reason: String,
        /// What to do about it.
        remedy: String,
    },
    /// Activations of 16 bits.
    #[error(
        "{file}: its activations are int16 (`{tensor}` of {operator}), and only int8 activations are supported{}; convert with int8 activations (supported_ops = [TFLITE_BUILTINS_INT8], not the 16x8 set EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8), or quantize the float network here",
        also(unknown)
    )]
    Int16 {
        /// The file.
        file: String,
        /// The first such operator.
        operator: String,
        /// Its operand or result.
        tensor: String,
        /// Operators that are not supported with any activations.
        unknown: Vec<String>,
    },
    /// A whole network in uint8 with asymmetric weights, as converters wrote before 2020.
    #[error(
        "{file}: it computes in uint8 (`{tensor}` of {operator}), the old quantization with zero points in its weights, which TensorFlow Lite for Microcontrollers does not run any more either{}; convert the float network again with full integer quantization to int8 (its input and output may stay uint8)",
        also(unknown)
    )]
    Uint8 {
        /// The file.
        file: String,
        /// The first such operator.
        operator: String,
        /// Its operand or result.
        tensor: String,
        /// Operators that are not supported with any activations.
        unknown: Vec<String>,
    },
    /// A network of which weights or activations are quantized, where a float one belongs.
    #[error(
        "{file}: it is no float network: {kind}; convert without any optimization (no converter.optimizations, no supported_types), or give an int8 network as QUANT"
    )]
    NotFloat {
        /// The file.
        file: String,
        /// What is not float32.
        kind: String,
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
    /// Operators that are not supported, all of them.
    #[error("{file}: {} of its operators cannot be imported:{}", operators.len(), lines(operators))]
    Unsupported {
        /// The file.
        file: String,
        /// In the file's order.
        operators: Vec<UnsupportedOperator>,
    },
}
