//! The operators' numbers and names, and which are built in.

use super::op::Op;

/// Names of the operators by number, and of the features that build them in: `Conv2d` is `conv2d`,
/// `MaxPool` is `max-pool`.
pub const OPERATORS: [&str; 18] = [
    "Conv2d",
    "DepthwiseConv2d",
    "FullyConnected",
    "Add",
    "MaxPool",
    "AveragePool",
    "Mean",
    "Pad",
    "Concat",
    "Reshape",
    "Transpose",
    "Requantize",
    "Lut",
    "Softmax",
    "Mul",
    "Sub",
    "BroadcastAdd",
    "ResizeNearest",
];

/// Bit *n* is set where the operator of number *n* is built in.
pub const BUILT_IN: u32 = (cfg!(feature = "conv2d") as u32)
    | (cfg!(feature = "depthwise-conv2d") as u32) << 1
    | (cfg!(feature = "fully-connected") as u32) << 2
    | (cfg!(feature = "add") as u32) << 3
    | (cfg!(feature = "max-pool") as u32) << 4
    | (cfg!(feature = "average-pool") as u32) << 5
    | (cfg!(feature = "mean") as u32) << 6
    | (cfg!(feature = "pad") as u32) << 7
    | (cfg!(feature = "concat") as u32) << 8
    | (cfg!(feature = "reshape") as u32) << 9
    | (cfg!(feature = "transpose") as u32) << 10
    | (cfg!(feature = "requantize") as u32) << 11
    | (cfg!(feature = "lut") as u32) << 12
    | (cfg!(feature = "softmax") as u32) << 13
    | (cfg!(feature = "mul") as u32) << 14
    | (cfg!(feature = "sub") as u32) << 15
    | (cfg!(feature = "broadcast-add") as u32) << 16
    | (cfg!(feature = "resize-nearest") as u32) << 17;

/// Whether the operator of this number is built in.
pub const fn is_built_in(number: u32) -> bool {
    number < 32 && BUILT_IN >> number & 1 == 1
}

impl Op<'_> {
    /// The number that its message in an image begins with.
    pub const fn number(&self) -> u8 {
        match self {
            Op::Conv2d(_) => 0,
            Op::DepthwiseConv2d(_) => 1,
            Op::FullyConnected(_) => 2,
            Op::Add(_) => 3,
            Op::MaxPool(_) => 4,
            Op::AveragePool(_) => 5,
            Op::Mean(_) => 6,
            Op::Pad(_) => 7,
            Op::Concat(_) => 8,
            Op::Reshape(_) => 9,
            Op::Transpose(_) => 10,
            Op::Requantize(_) => 11,
            Op::Lut(_) => 12,
            Op::Softmax(_) => 13,
            Op::Mul(_) => 14,
            Op::Sub(_) => 15,
            Op::BroadcastAdd(_) => 16,
            Op::ResizeNearest(_) => 17,
        }
    }

    /// The operator's name, for people.
    pub fn kind(&self) -> &'static str {
        OPERATORS[self.number() as usize]
    }
}
