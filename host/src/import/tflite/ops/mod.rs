//! One operator a file: each turns a [`Call`] into nodes of the network.

mod arithmetic;
mod concatenation;
mod conv2d;
mod depthwise_conv2d;
mod elementwise;
mod filter;
mod fully_connected;
mod hard_swish;
mod leaky_relu;
mod logistic;
mod mean;
mod pad;
mod pool;
mod quantize;
mod relu;
mod reshape;
mod resize_nearest;
mod softmax;
mod tanh;
mod transpose;

pub(super) use concatenation::concatenation_axis;
pub(crate) use elementwise::kernel_table;
pub(super) use mean::reduced_axes;
pub(super) use pad::hwc_paddings;
pub(super) use resize_nearest::indices as nearest_indices;
pub(crate) use resize_nearest::nearest_positions;
pub(super) use transpose::hwc_permutation;

use super::call::Call;
use super::names;
use super::problem::Problem;
use super::schema::code;

type Convert = fn(&mut Call) -> Result<(), Problem>;

/// Every operator that can be imported.
const OPERATORS: [(i32, Convert); 27] = [
    (code::ADD, arithmetic::add),
    (code::AVERAGE_POOL_2D, pool::average),
    (code::CONCATENATION, concatenation::convert),
    (code::CONV_2D, conv2d::convert),
    (code::DEPTHWISE_CONV_2D, depthwise_conv2d::convert),
    (code::DEQUANTIZE, quantize::dequantize),
    (code::EXPAND_DIMS, reshape::convert),
    (code::FULLY_CONNECTED, fully_connected::convert),
    (code::HARD_SWISH, hard_swish::convert),
    (code::LEAKY_RELU, leaky_relu::convert),
    (code::LOGISTIC, logistic::convert),
    (code::MAX_POOL_2D, pool::max),
    (code::MEAN, mean::convert),
    (code::MUL, arithmetic::mul),
    (code::PAD, pad::convert),
    (code::PADV2, pad::convert),
    (code::QUANTIZE, quantize::quantize),
    (code::RELU, relu::relu),
    (code::RELU6, relu::relu6),
    (code::RELU_N1_TO_1, relu::relu_n1_to_1),
    (code::RESHAPE, reshape::convert),
    (code::RESIZE_NEAREST_NEIGHBOR, resize_nearest::convert),
    (code::SOFTMAX, softmax::convert),
    (code::SQUEEZE, reshape::convert),
    (code::SUB, arithmetic::sub),
    (code::TANH, tanh::convert),
    (code::TRANSPOSE, transpose::convert),
];

/// Names of the TFLite operators that can be imported.
pub fn supported_operators() -> Vec<String> {
    OPERATORS
        .iter()
        .map(|(code, _)| names::operator(*code))
        .collect()
}

/// Whether there is a converter for a builtin code.
pub(super) fn is_supported(code: i32) -> bool {
    OPERATORS.iter().any(|(c, _)| *c == code)
}

/// Converts an operator by its builtin code.
pub(super) fn convert(call: &mut Call) -> Result<(), Problem> {
    match OPERATORS.iter().find(|(c, _)| *c == call.code) {
        Some((_, convert)) => convert(call),
        None => Err(Problem::unknown_operator(&supported_operators())),
    }
}
