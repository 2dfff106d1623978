//! Scale and zero point of every tensor.

use super::QuantizeError;
use crate::calibrate::{Calibration, Range};
use crate::graph::{Activation, Graph, Op, ValueId};

/// Scale and zero point of an int8 tensor: real = scale * (q - zero_point).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TensorScale {
    /// Positive, finite.
    pub scale: f32,
    /// The integer of real zero.
    pub zero_point: i8,
}

impl TensorScale {
    /// 256 levels over a range that is widened to hold zero, which gets a level of its own.
    ///
    /// The zero point is the rounded one of the lower end, so either end may be off by half a
    /// level. A range of nothing but zero becomes 0 to 1: any scale represents it.
    pub fn of_range(range: Range) -> Self {
        let (lo, hi) = ((range.lo as f64).min(0.0), (range.hi as f64).max(0.0));
        let scale = ((hi - lo) / 255.0) as f32;
        // Scales this small leave no room for the products of scales in f32.
        if scale < 1e-20 {
            return Self {
                scale: 1.0 / 255.0,
                zero_point: -128,
            };
        }
        let zero = (-128.0 - lo / scale as f64).round();
        Self {
            scale,
            zero_point: zero.clamp(-128.0, 127.0) as i8,
        }
    }

    /// The level nearest to a real value, ties away from zero, clamped.
    pub fn quantize(&self, real: f64) -> i8 {
        let q = (real / self.scale as f64).round() + self.zero_point as f64;
        q.clamp(-128.0, 127.0) as i8
    }

    /// The real value of a level.
    pub fn dequantize(&self, q: i8) -> f64 {
        self.scale as f64 * (q as i32 - self.zero_point as i32) as f64
    }

    /// The output range that a fused activation leaves: its ends as levels.
    pub fn clamp_range(&self, activation: Activation) -> Option<(i8, i8)> {
        let (lo, hi) = activation.clamp_range()?;
        let end = |v: f32, open: i8| {
            if v.is_finite() {
                self.quantize(v as f64)
            } else {
                open
            }
        };
        Some((end(lo, -128), end(hi, 127)))
    }
}

/// For each value the one whose scale and zero point it must share (often itself): operators that
/// move or select elements keep the integers as they are.
pub(super) fn roots(graph: &Graph) -> Vec<ValueId> {
    let mut root: Vec<ValueId> = (0..graph.values.len()).map(ValueId).collect();
    for node in &graph.nodes {
        let tied = matches!(
            node.op,
            Op::MaxPool(_)
                | Op::AveragePool(_)
                | Op::Pad { .. }
                | Op::Reshape
                | Op::Transpose { .. }
                | Op::ResizeNearest { .. }
                | Op::Activation(Activation::Identity)
        );
        if tied {
            root[node.output.0] = root[node.inputs[0].0];
        }
    }
    root
}

/// Scale and zero point of each value; `None` for one that nothing computes.
///
/// A value takes its root's, whose range is the root's own (operators behind it only select from
/// it, or average) and the constants of borders.
pub(super) fn assign(
    graph: &Graph,
    calibration: &Calibration,
) -> Result<Vec<Option<TensorScale>>, QuantizeError> {
    let roots = roots(graph);
    let mut ranges: Vec<Option<Range>> = vec![None; graph.values.len()];
    let mut fixed: Vec<Option<TensorScale>> = vec![None; graph.values.len()];
    let computed = || std::iter::once(graph.input).chain(graph.nodes.iter().map(|n| n.output));
    for id in computed().filter(|id| roots[id.0] == *id) {
        let range = calibration.range(id);
        ranges[id.0] = Some(range.ok_or_else(|| QuantizeError::NotCalibrated {
            value: graph.value_name(id).to_string(),
        })?);
    }
    for node in &graph.nodes {
        match &node.op {
            Op::Pad { value, .. } => {
                if !value.is_finite() {
                    return Err(QuantizeError::NotFinite {
                        node: node.name.clone(),
                        what: "border value",
                        found: *value,
                    });
                }
                if let Some(r) = &mut ranges[roots[node.output.0].0] {
                    r.lo = r.lo.min(*value);
                    r.hi = r.hi.max(*value);
                }
            }
            // The ranges of these are known without looking; TFLite fixes the same scales.
            Op::Softmax | Op::Activation(Activation::Sigmoid) => {
                fixed[node.output.0] = Some(TensorScale {
                    scale: 1.0 / 256.0,
                    zero_point: -128,
                });
            }
            Op::Activation(Activation::Tanh) => {
                fixed[node.output.0] = Some(TensorScale {
                    scale: 1.0 / 128.0,
                    zero_point: 0,
                });
            }
            _ => {}
        }
    }
    let mut scales = vec![None; graph.values.len()];
    for id in computed() {
        let root = roots[id.0].0;
        scales[id.0] = fixed[root].or(ranges[root].map(TensorScale::of_range));
    }
    Ok(scales)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_over_255_become_themselves_less_128() {
        let t = TensorScale::of_range(Range { lo: 0.0, hi: 1.0 });
        for p in 0..=255 {
            assert_eq!(t.quantize((p as f32 / 255.0) as f64) as i32, p - 128);
        }
        let bytes = TensorScale::of_range(Range { lo: 0.0, hi: 255.0 });
        assert_eq!(
            bytes,
            TensorScale {
                scale: 1.0,
                zero_point: -128
            }
        );
    }

    #[test]
    fn zero_has_a_level_whatever_the_range() {
        for (lo, hi) in [
            (-1.0, 2.0),
            (0.5, 2.0),
            (-3.0, -1.0),
            (0.0, 0.0),
            (-1e-30, 1e-30),
            (-1e30, 1e30),
        ] {
            let t = TensorScale::of_range(Range { lo, hi });
            assert!(t.scale > 0.0 && t.scale.is_finite(), "{lo} {hi}");
            assert_eq!(t.dequantize(t.quantize(0.0)), 0.0, "{lo} {hi}");
            let slack = t.scale as f64 * 0.5001;
            if (hi - lo) as f64 > 1e-10 {
                assert!(
                    t.dequantize(-128) <= lo as f64 + slack
                        && t.dequantize(127) >= hi as f64 - slack
                );
            }
        }
    }

    #[test]
    fn fused_clamps_end_on_levels() {
        let t = TensorScale {
            scale: 0.05,
            zero_point: -28,
        };
        assert_eq!(t.clamp_range(Activation::Relu), Some((-28, 127)));
        assert_eq!(
            t.clamp_range(Activation::Clip { lo: 0.0, hi: 6.0 }),
            Some((-28, 92))
        );
        assert_eq!(t.clamp_range(Activation::Identity), Some((-128, 127)));
        assert_eq!(t.clamp_range(Activation::Tanh), None);
    }
}
