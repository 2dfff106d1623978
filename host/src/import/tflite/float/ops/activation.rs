//! Element-wise functions and SOFTMAX.

use crate::graph::{Activation, Affine, Op};
use crate::import::tflite::float::network::Call;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::options;

fn apply(call: &mut Call, function: Activation) -> Result<(), Problem> {
    let x = call.value(0)?;
    call.emit(Op::Activation(function), &[x.id], Activation::Identity)
}

pub(super) fn relu(call: &mut Call) -> Result<(), Problem> {
    apply(call, Activation::Relu)
}

pub(super) fn relu6(call: &mut Call) -> Result<(), Problem> {
    apply(call, Activation::Clip { lo: 0.0, hi: 6.0 })
}

pub(super) fn relu_n1_to_1(call: &mut Call) -> Result<(), Problem> {
    apply(call, Activation::Clip { lo: -1.0, hi: 1.0 })
}

pub(super) fn logistic(call: &mut Call) -> Result<(), Problem> {
    apply(call, Activation::Sigmoid)
}

pub(super) fn tanh(call: &mut Call) -> Result<(), Problem> {
    apply(call, Activation::Tanh)
}

pub(super) fn hard_swish(call: &mut Call) -> Result<(), Problem> {
    apply(call, Activation::HardSwish)
}

pub(super) fn leaky_relu(call: &mut Call) -> Result<(), Problem> {
    let alpha = call.operator.options(options::LEAKY_RELU)?.f32(0)?;
    if !alpha.is_finite() {
        return Err(Problem::Damaged(format!("its slope is {alpha}")));
    }
    apply(call, Activation::LeakyRelu { alpha })
}

/// Over the last axis, of `beta` times the input.
pub(super) fn softmax(call: &mut Call) -> Result<(), Problem> {
    let beta = call.operator.options(options::SOFTMAX)?.f32(0)?;
    if !(beta.is_finite() && beta > 0.0) {
        return Err(Problem::Damaged(format!("its beta is {beta}")));
    }
    let mut x = call.value(0)?.id;
    if beta != 1.0 {
        let channels = call.value(0)?.shape[2];
        call.network.file.spend(2 * channels)?;
        let op = Op::Affine(Affine {
            scale: vec![beta; channels],
            shift: vec![0.0; channels],
            activation: Activation::Identity,
        });
        x = call.part("beta", op, &[x])?;
    }
    call.emit(Op::Softmax, &[x], Activation::Identity)
}
