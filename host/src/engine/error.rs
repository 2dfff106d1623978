//! What can be wrong with a network that is to run.

/// Why a network cannot run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EngineError {
    /// A channel's accumulator can leave 32 bits.
    #[error(
        "node '{node}', output channel {channel}: the accumulator can reach {bound}, beyond 2^31 - 1; \
         use a larger weight scale (fewer or smaller integer weights) or a smaller bias for this channel"
    )]
    AccumulatorBound {
        /// Node name.
        node: String,
        /// Output channel.
        channel: usize,
        /// `(|bias| + sum |w| * max |x - zero point|) * 2^max(exponent, 0)`.
        bound: i128,
    },
    /// Shapes of operands and operator do not fit together.
    #[error("node '{node}' ({kind}): {what}")]
    Shape {
        /// Node name.
        node: String,
        /// Operator.
        kind: &'static str,
        /// What does not fit, with the shapes.
        what: String,
    },
    /// A number is outside the range that the operator allows.
    #[error("node '{node}' ({kind}): {what}")]
    Value {
        /// Node name.
        node: String,
        /// Operator.
        kind: &'static str,
        /// Which number.
        what: String,
    },
    /// Tensor indices or the order of nodes are wrong.
    #[error("the network's wiring is broken: {what}")]
    Wiring {
        /// What is wrong.
        what: String,
    },
}
