//! From TFLite's operators to those of the graph.

mod activation;
mod arithmetic;
mod linear;
mod pool;
mod shape;

use super::network::Call;
use crate::graph::Activation;
use crate::import::tflite::names;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::code;

type Convert = fn(&mut Call) -> Result<(), Problem>;

/// Every operator that can be imported.
const OPERATORS: [(i32, Convert); 25] = [
    (code::ADD, arithmetic::add),
    (code::AVERAGE_POOL_2D, pool::average),
    (code::CONCATENATION, shape::concatenation),
    (code::CONV_2D, linear::conv_2d),
    (code::DEPTHWISE_CONV_2D, linear::depthwise_conv_2d),
    (code::EXPAND_DIMS, shape::reshape),
    (code::FULLY_CONNECTED, linear::fully_connected),
    (code::HARD_SWISH, activation::hard_swish),
    (code::LEAKY_RELU, activation::leaky_relu),
    (code::LOGISTIC, activation::logistic),
    (code::MAX_POOL_2D, pool::max),
    (code::MEAN, pool::mean),
    (code::MUL, arithmetic::mul),
    (code::PAD, shape::pad),
    (code::PADV2, shape::pad),
    (code::RELU, activation::relu),
    (code::RELU6, activation::relu6),
    (code::RELU_N1_TO_1, activation::relu_n1_to_1),
    (code::RESHAPE, shape::reshape),
    (code::RESIZE_NEAREST_NEIGHBOR, shape::resize_nearest),
    (code::SOFTMAX, activation::softmax),
    (code::SQUEEZE, shape::reshape),
    (code::SUB, arithmetic::sub),
    (code::TANH, activation::tanh),
    (code::TRANSPOSE, shape::transpose),
];

/// Names of the TFLite operators that can be imported from a float network.
pub fn supported_float_operators() -> Vec<String> {
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
pub(super) fn convert(code: i32, call: &mut Call) -> Result<(), Problem> {
    match OPERATORS.iter().find(|(c, _)| *c == code) {
        Some((_, convert)) => convert(call),
        None => Err(Problem::unknown_operator(&supported_float_operators())),
    }
}

/// A fused activation: 0 none, 1 RELU, 2 RELU_N1_TO_1, 3 RELU6, 4 TANH.
fn fused(activation: i8) -> Result<Activation, Problem> {
    Ok(match activation {
        0 => Activation::Identity,
        1 => Activation::Relu,
        2 => Activation::Clip { lo: -1.0, hi: 1.0 },
        3 => Activation::Clip { lo: 0.0, hi: 6.0 },
        4 => Activation::Tanh,
        other => {
            return Err(Problem::unsupported(
                format!("its fused activation has number {other}"),
                "use no activation, RELU, RELU6, RELU_N1_TO_1 or TANH",
            ));
        }
    })
}
