//! Operators that only move elements. Their axes are those of HWC.

use crate::float::layout::{nchw_to_nhwc, nhwc_to_nchw};
use crate::graph::Shape;
use burn_tensor::{Tensor, ops::PadMode};

/// Constant border on H, W, C.
pub fn pad(x: Tensor<4>, before: [usize; 3], after: [usize; 3], value: f32) -> Tensor<4> {
    x.pad(
        [
            (before[2], after[2]),
            (before[0], after[0]),
            (before[1], after[1]),
        ],
        PadMode::Constant(value),
    )
}

/// Side by side along 0 = H, 1 = W, 2 = C.
pub fn concat(xs: Vec<Tensor<4>>, axis: usize) -> Tensor<4> {
    Tensor::cat(xs, [2, 3, 1][axis])
}

/// The HWC-ordered elements as `[h, w, c]`.
pub fn reshape(x: Tensor<4>, [h, w, c]: Shape) -> Tensor<4> {
    let [n, ci, hi, wi] = x.dims();
    // A vector, or a map of one position, has one order.
    if h * w == 1 && (hi * wi == 1 || ci == 1) {
        return x.reshape([n, c, h, w]);
    }
    nhwc_to_nchw(nchw_to_nhwc(x).reshape([n, h, w, c]))
}

/// Output axis `i` is input axis `perm[i]`, axes of HWC.
pub fn transpose(x: Tensor<4>, perm: [usize; 3]) -> Tensor<4> {
    let [h, w, c] = perm.map(|p| p + 1);
    nhwc_to_nchw(nchw_to_nhwc(x).permute([0, h, w, c]))
}
