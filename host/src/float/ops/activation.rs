//! Element-wise functions and softmax.

use crate::graph::Activation;
use burn_tensor::{Tensor, activation};

/// [`Activation::eval`] of every element.
pub fn activate(x: Tensor<4>, a: Activation) -> Tensor<4> {
    match a {
        Activation::Identity => x,
        Activation::Relu => activation::relu(x),
        // One after the other, because the ends may be infinite and need not be in order.
        Activation::Clip { lo, hi } => {
            let x = if lo > f32::NEG_INFINITY {
                x.clamp_min(lo)
            } else {
                x
            };
            if hi < f32::INFINITY {
                x.clamp_max(hi)
            } else {
                x
            }
        }
        Activation::LeakyRelu { alpha } => {
            x.clone().clamp_min(0.0) + x.clamp_max(0.0).mul_scalar(alpha)
        }
        Activation::Sigmoid => activation::sigmoid(x),
        Activation::Tanh => activation::tanh(x),
        Activation::HardSwish => {
            let gate = x.clone().div_scalar(6.0).add_scalar(0.5).clamp(0.0, 1.0);
            x * gate
        }
        Activation::HardSigmoid { alpha, beta } => {
            x.mul_scalar(alpha).add_scalar(beta).clamp(0.0, 1.0)
        }
    }
}

/// Softmax over the channels of each position.
pub fn softmax(x: Tensor<4>) -> Tensor<4> {
    activation::softmax(x, 1)
}
