//! Pooling. Padding never counts.

use super::conv::pad_if_asymmetric;
use crate::graph::Pads;
use burn_tensor::ops::{AvgPoolOptions, MaxPoolOptions, PadMode};
use burn_tensor::{Device, Tensor, TensorData, module};

/// A pooling window.
#[derive(Clone, Copy, Debug)]
pub struct PoolGeometry {
    /// Height, width.
    pub kernel: [usize; 2],
    /// Down, right.
    pub stride: [usize; 2],
    /// Down, right.
    pub dilation: [usize; 2],
    /// Border that never counts.
    pub pads: Pads,
}

/// Maximum of each window; the border is minus infinity.
pub fn max_pool(x: Tensor<4>, g: &PoolGeometry) -> Tensor<4> {
    let (x, padding) = pad_if_asymmetric(x, g.pads, f32::NEG_INFINITY);
    let mut options = MaxPoolOptions::new(g.kernel);
    options.stride = g.stride;
    options.dilation = g.dilation;
    options.padding = padding.map(|p| (p, p));
    module::max_pool2d(x, options)
}

/// Mean of each window over what is inside the input. `factor` is [`average_pool_factor`]'s.
pub fn average_pool(x: Tensor<4>, g: &PoolGeometry, factor: Option<Tensor<4>>) -> Tensor<4> {
    let p = g.pads;
    let x = match factor {
        Some(_) => x.pad(
            [(p.top, p.bottom), (p.left, p.right)],
            PadMode::Constant(0.0),
        ),
        None => x,
    };
    let mut options = AvgPoolOptions::new(g.kernel);
    options.stride = g.stride;
    let y = module::avg_pool2d(x, options);
    match factor {
        Some(factor) => y * factor,
        None => y,
    }
}

/// `[1, 1, oh, ow]`: size of the window over the number of its positions inside an `h x w` input;
/// none where no border exists.
pub fn average_pool_factor(
    g: &PoolGeometry,
    [h, w]: [usize; 2],
    [oh, ow]: [usize; 2],
    device: &Device,
) -> Option<Tensor<4>> {
    if g.pads == Pads::default() {
        return None;
    }
    let inside = |o: usize, k: usize, stride: usize, before: usize, size: usize| {
        let start = o * stride;
        (start + k)
            .min(before + size)
            .saturating_sub(start.max(before))
            .max(1)
    };
    let [kh, kw] = g.kernel;
    let area = (kh * kw) as f32;
    let mut data = Vec::with_capacity(oh * ow);
    for y in 0..oh {
        let rows = inside(y, kh, g.stride[0], g.pads.top, h);
        data.extend(
            (0..ow).map(|x| area / (rows * inside(x, kw, g.stride[1], g.pads.left, w)) as f32),
        );
    }
    Some(Tensor::from_data(
        TensorData::new(data, [1, 1, oh, ow]),
        device,
    ))
}

/// Mean over height and width: `[n, c, 1, 1]`.
pub fn global_average(x: Tensor<4>) -> Tensor<4> {
    let [n, c, h, w] = x.dims();
    x.reshape([n, c, h * w]).mean_dim(2).reshape([n, c, 1, 1])
}
