//! Real numbers of a file made integer as TFLM's `Prepare` functions do it.

use super::problem::Problem;
use super::schema::Options;
use crate::model::Multiplier;
use crate::quantize::quantize_multiplier;

/// The fixed-point number nearest to a real multiplier.
pub(super) fn multiplier(real: f64) -> Result<Multiplier, Problem> {
    quantize_multiplier(real).ok_or_else(|| {
        Problem::unsupported(
            format!("its scales give the multiplier {real:e}, which is not in 0..2^30"),
            "quantize the model again with calibration data that reaches this layer",
        )
    })
}

/// Smallest and largest output of a fused activation: 0 none, 1 RELU, 2 RELU_N1_TO_1, 3 RELU6.
/// Ends are rounded in f32, half away from zero.
pub(super) fn activation_range(
    activation: i8,
    scale: f32,
    zero_point: i8,
) -> Result<(i8, i8), Problem> {
    let quantized = |real: f32| -> Result<i64, Problem> {
        let q = (real / scale).round();
        if q >= i32::MIN as f32 && q < i32::MAX as f32 {
            Ok(zero_point as i64 + q as i64)
        } else {
            Err(Problem::unsupported(
                format!(
                    "its output scale {scale:e} puts the end {real} of its activation beyond 32 bits"
                ),
                "quantize the model again with calibration data that reaches this layer",
            ))
        }
    };
    let at_least = |q: i64| q.clamp(-128, 127) as i8;
    Ok(match activation {
        0 => (i8::MIN, i8::MAX),
        1 => (at_least(quantized(0.0)?), i8::MAX),
        2 => (at_least(quantized(-1.0)?), at_least(quantized(1.0)?)),
        3 => (at_least(quantized(0.0)?), at_least(quantized(6.0)?)),
        other => {
            let name = ["TANH", "SIGN_BIT"]
                .get((other as usize).wrapping_sub(4))
                .copied()
                .unwrap_or("unknown");
            return Err(Problem::unsupported(
                format!("its fused activation is {name} ({other})"),
                "use no activation, RELU, RELU6 or RELU_N1_TO_1, or one that stands alone",
            ));
        }
    })
}

/// The fused activation that limits an operator's outputs to a range, if there is one.
pub(crate) fn fused_activation(min: i8, max: i8, scale: f32, zero_point: i8) -> Option<i8> {
    (0..4).find(|a| activation_range(*a, scale, zero_point) == Ok((min, max)))
}

/// One axis of a sliding window, resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slide {
    pub output: usize,
    pub before: usize,
    pub after: usize,
}

/// Kernel, stride and dilation of a window, each down and right.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    same: bool,
}

/// A window's dimension cannot be larger; nor could the device's format hold it.
const MAX_WINDOW: i32 = u8::MAX as i32;

impl Window {
    /// A window of a kernel's size with padding and strides from options; `dilation` names the
    /// fields (w, h), where the operator has any.
    pub(super) fn new(
        options: &Options,
        kernel: [usize; 2],
        dilation: Option<[usize; 2]>,
    ) -> Result<Self, Problem> {
        let same = match options.i8(0)? {
            0 => true,
            1 => false,
            other => {
                return Err(Problem::Damaged(format!(
                    "its padding is {other}; 0 (SAME) and 1 (VALID) exist"
                )));
            }
        };
        let step = |field: usize, default: i32| -> Result<usize, Problem> {
            let value = options.i32(field, default)?;
            if (1..=MAX_WINDOW).contains(&value) {
                Ok(value as usize)
            } else {
                Err(Problem::Damaged(format!(
                    "a stride or dilation is {value}; 1 to {MAX_WINDOW} are possible"
                )))
            }
        };
        if kernel
            .iter()
            .any(|k| !(1..=MAX_WINDOW as usize).contains(k))
        {
            return Err(Problem::unsupported(
                format!("its window is {} x {}", kernel[0], kernel[1]),
                format!("use windows of 1 to {MAX_WINDOW} positions a side"),
            ));
        }
        Ok(Self {
            kernel,
            stride: [step(2, 0)?, step(1, 0)?],
            dilation: match dilation {
                Some([w, h]) => [step(h, 1)?, step(w, 1)?],
                None => [1, 1],
            },
            same,
        })
    }

    /// Output length and padding along an axis (0 = H, 1 = W) over an input of a length.
    pub(super) fn slide(&self, axis: usize, input: usize) -> Result<Slide, Problem> {
        let stride = self.stride[axis];
        let extent = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
        if self.same {
            let output = input.div_ceil(stride);
            let total = ((output - 1) * stride + extent).saturating_sub(input);
            return Ok(Slide {
                output,
                before: total / 2,
                after: total - total / 2,
            });
        }
        if extent > input {
            return Err(Problem::Damaged(format!(
                "its window of {extent} is larger than its input of {input}"
            )));
        }
        Ok(Slide {
            output: (input - extent) / stride + 1,
            before: 0,
            after: 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activation_ends_are_rounded_half_away_from_zero_and_clamped() {
        assert_eq!(activation_range(0, 0.1, -5), Ok((-128, 127)));
        assert_eq!(activation_range(1, 0.1, -5), Ok((-5, 127)));
        assert_eq!(activation_range(3, 0.1, -5), Ok((-5, 55)));
        assert_eq!(activation_range(3, 0.01, -5), Ok((-5, 127)));
        assert_eq!(activation_range(2, 0.4, 10), Ok((7, 13)), "1 / 0.4 = 2.5");
        assert!(activation_range(4, 0.1, 0).is_err());
        assert!(activation_range(3, 1e-30, 0).is_err());
    }

    #[test]
    fn same_padding_puts_the_odd_position_after_the_input() {
        let window = |kernel, stride, same| Window {
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            same,
        };
        let slide = |kernel, stride, same, input| {
            window(kernel, stride, same)
                .slide(0, input)
                .expect("it fits")
        };
        assert_eq!(
            slide(3, 2, true, 32),
            Slide {
                output: 16,
                before: 0,
                after: 1
            }
        );
        assert_eq!(
            slide(3, 1, true, 32),
            Slide {
                output: 32,
                before: 1,
                after: 1
            }
        );
        assert_eq!(
            slide(10, 2, true, 49),
            Slide {
                output: 25,
                before: 4,
                after: 5
            }
        );
        assert_eq!(
            slide(1, 2, true, 33),
            Slide {
                output: 17,
                before: 0,
                after: 0
            }
        );
        assert_eq!(
            slide(3, 2, false, 32),
            Slide {
                output: 15,
                before: 0,
                after: 0
            }
        );
        assert!(window(5, 1, false).slide(0, 4).is_err());
    }
}
