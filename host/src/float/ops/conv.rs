//! Convolution.

use crate::graph::Pads;
use burn_tensor::{Tensor, module, ops::ConvOptions, ops::PadMode};

/// Everything of a convolution but its weights.
#[derive(Clone, Copy, Debug)]
pub struct ConvGeometry {
    /// Down, right.
    pub stride: [usize; 2],
    /// Down, right.
    pub dilation: [usize; 2],
    /// Zeros around.
    pub pads: Pads,
    /// Groups of channels.
    pub groups: usize,
}

/// `x [n, in_c, h, w]`, `weights [out_c, in_c / groups, kh, kw]`, `bias [out_c]`.
pub fn conv2d(
    x: Tensor<4>,
    weights: Tensor<4>,
    bias: Option<Tensor<1>>,
    g: &ConvGeometry,
) -> Tensor<4> {
    let (x, padding) = pad_if_asymmetric(x, g.pads, 0.0);
    module::conv2d(
        x,
        weights,
        bias,
        ConvOptions::new(g.stride, padding, g.dilation, g.groups),
    )
}

/// Leaves a symmetric border to the operator and makes an asymmetric one here.
pub(super) fn pad_if_asymmetric(x: Tensor<4>, p: Pads, value: f32) -> (Tensor<4>, [usize; 2]) {
    if p.top == p.bottom && p.left == p.right {
        (x, [p.top, p.left])
    } else {
        (
            x.pad(
                [(p.top, p.bottom), (p.left, p.right)],
                PadMode::Constant(value),
            ),
            [0, 0],
        )
    }
}
