//! Between NHWC slices outside and NCHW tensors inside.

use super::FloatError;
use crate::graph::Shape;
use burn_tensor::{Device, Tensor, TensorData};

/// A tensor `[rows, c, h, w]` from NHWC elements, each mapped to its real value.
pub(super) fn tensor_from_nhwc<T: Copy>(
    src: &[T],
    rows: usize,
    shape: Shape,
    device: &Device,
    real: impl Fn(T) -> f32,
) -> Tensor<4> {
    let [h, w, c] = shape;
    let positions = h * w;
    let data: Vec<f32> = if c == 1 || positions == 1 {
        src.iter().map(|&v| real(v)).collect()
    } else {
        let mut data = vec![0.0; src.len()];
        for (from, to) in src
            .chunks_exact(positions * c)
            .zip(data.chunks_exact_mut(positions * c))
        {
            for (ci, plane) in to.chunks_exact_mut(positions).enumerate() {
                for (v, pixel) in plane.iter_mut().zip(from.chunks_exact(c)) {
                    *v = real(pixel[ci]);
                }
            }
        }
        data
    };
    Tensor::from_data(TensorData::new(data, [rows, c, h, w]), device)
}

/// NHWC elements of a tensor `[rows, c, h, w]`.
pub(super) fn tensor_to_nhwc(t: Tensor<4>) -> Result<Vec<f32>, FloatError> {
    let [_, c, h, w] = t.dims();
    let positions = h * w;
    let src = t.try_into_vec_as::<f32>()?;
    if c == 1 || positions == 1 {
        return Ok(src);
    }
    let mut out = vec![0.0; src.len()];
    for (from, to) in src
        .chunks_exact(positions * c)
        .zip(out.chunks_exact_mut(positions * c))
    {
        for (ci, plane) in from.chunks_exact(positions).enumerate() {
            for (v, pixel) in plane.iter().zip(to.chunks_exact_mut(c)) {
                pixel[ci] = *v;
            }
        }
    }
    Ok(out)
}

/// `[n, c, h, w]` as `[n, h, w, c]`.
pub(super) fn nchw_to_nhwc(t: Tensor<4>) -> Tensor<4> {
    t.permute([0, 2, 3, 1])
}

/// `[n, h, w, c]` as `[n, c, h, w]`.
pub(super) fn nhwc_to_nchw(t: Tensor<4>) -> Tensor<4> {
    t.permute([0, 3, 1, 2])
}

/// Weights `[o, h, w, i]` reordered to `[o, i, h, w]`.
pub(super) fn ohwi_to_oihw(data: &[f32], [o, h, w, i]: [usize; 4]) -> Vec<f32> {
    let positions = h * w;
    let mut out = Vec::with_capacity(data.len());
    for filter in data.chunks_exact(positions * i).take(o) {
        for ii in 0..i {
            out.extend(filter.chunks_exact(i).map(|tap| tap[ii]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::Backend;

    #[test]
    fn nhwc_survives_the_way_in_and_out() {
        let x: Vec<f32> = (0..2 * 3 * 4 * 5).map(|v| v as f32).collect();
        let t = tensor_from_nhwc(&x, 2, [3, 4, 5], &Backend::Flex.device(), |v| v);
        assert_eq!(t.dims(), [2, 5, 3, 4]);
        assert_eq!(tensor_to_nhwc(t.clone()).unwrap(), x);
        let back = nhwc_to_nchw(nchw_to_nhwc(t));
        assert_eq!(tensor_to_nhwc(back).unwrap(), x);
    }

    #[test]
    fn filters_are_reordered_tap_by_tap() {
        // One filter, 1x2 positions, 3 channels: position-major becomes channel-major.
        assert_eq!(
            ohwi_to_oihw(&[0., 1., 2., 10., 11., 12.], [1, 1, 2, 3]),
            [0., 10., 1., 11., 2., 12.]
        );
    }
}
