//! Fully connected layer.

use crate::graph::Shape;
use burn_tensor::{Device, Tensor, TensorData};

/// Weights `[in, out]` with `in` in CHW order from `[out, in]` with `in` in HWC order, so that the
/// activations need no reordering.
pub fn flatten_weights(data: &[f32], out: usize, [h, w, c]: Shape, device: &Device) -> Tensor<2> {
    let taps = h * w * c;
    let mut reordered = Vec::with_capacity(data.len());
    for ci in 0..c {
        for p in 0..h * w {
            reordered.extend((0..out).map(|o| data[o * taps + p * c + ci]));
        }
    }
    Tensor::from_data(TensorData::new(reordered, [taps, out]), device)
}

/// `x [n, c, h, w]`, weights of [`flatten_weights`], bias `[1, out]`; the result is `[n, out, 1, 1]`.
pub fn fully_connected(x: Tensor<4>, weights: Tensor<2>, bias: Tensor<2>) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    let [_, out] = weights.dims();
    let y = x.reshape([n, c * h * w]).matmul(weights) + bias;
    y.reshape([n, out, 1, 1])
}
