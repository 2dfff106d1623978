//! float32 weight scales that give a model's multipliers.

use crate::model::{Linear, Multiplier};
use crate::quantize::quantize_multiplier;

/// What weights belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weights {
    /// CONV_2D.
    Conv,
    /// DEPTHWISE_CONV_2D.
    Depthwise,
    /// FULLY_CONNECTED.
    Dense,
}

/// Scales, one for all channels or one each.
pub(super) struct Found {
    pub scales: Vec<f32>,
    /// Channels for which no float32 gives the multiplier; their scales are the nearest.
    pub rounded: usize,
}

/// Steps of the last bit that are tried around the nearest scale.
const NEIGHBOURS: i32 = 3;

/// Weight scales for which `input scale * weight scale / output scale` becomes each multiplier.
pub(super) fn weight_scales(l: &Linear, input: f32, output: f32, kind: Weights) -> Found {
    let in_f64 = |s: f32| quantize_multiplier(input as f64 * s as f64 / output as f64);
    if kind == Weights::Dense && l.multipliers.windows(2).all(|m| m[0] == m[1]) {
        // With one scale for all, TFLM multiplies input and weight scale in float32.
        let in_f32 = |s: f32| quantize_multiplier((input * s) as f64 / output as f64);
        if let Some(&m) = l.multipliers.first() {
            match scale(m, input, output, in_f32) {
                (s, true) => {
                    return Found {
                        scales: vec![s],
                        rounded: 0,
                    };
                }
                (s, false) if l.multipliers.len() == 1 => {
                    return Found {
                        scales: vec![s],
                        rounded: 1,
                    };
                }
                _ => {}
            }
        }
    }
    let mut rounded = 0;
    let scales = l
        .multipliers
        .iter()
        .map(|m| {
            let (s, exact) = scale(*m, input, output, in_f64);
            rounded += usize::from(!exact);
            s
        })
        .collect();
    Found { scales, rounded }
}

/// The float32 nearest to a multiplier's weight scale, or one of its neighbours if that gives
/// exactly the multiplier; and whether it does.
fn scale(
    m: Multiplier,
    input: f32,
    output: f32,
    becomes: impl Fn(f32) -> Option<Multiplier>,
) -> (f32, bool) {
    let real = m.mantissa as f64 * 2f64.powi(m.exponent as i32 - 31);
    // A dead channel needs a positive scale too.
    let nearest = ((real * output as f64 / input as f64) as f32).max(f32::MIN_POSITIVE);
    (-NEIGHBOURS..=NEIGHBOURS)
        .map(|step| f32::from_bits(nearest.to_bits().saturating_add_signed(step)))
        .filter(|s| s.is_normal())
        .find(|s| becomes(*s) == Some(m))
        .map_or((nearest, false), |s| (s, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_made_of_float32_scales_are_met_exactly_and_others_nearly() {
        let linear = |multipliers: Vec<Multiplier>| Linear {
            weights: vec![0; multipliers.len()],
            bits: 8,
            bias: vec![0; multipliers.len()],
            multipliers,
            act_min: -128,
            act_max: 127,
        };
        let (x, y) = (0.0471f32, 0.113f32);
        let scales: Vec<f32> = (1..200).map(|i| 0.001_37 * i as f32).collect();
        let made =
            |s: &f32| quantize_multiplier(x as f64 * *s as f64 / y as f64).expect("in range");
        let multipliers: Vec<Multiplier> = scales.iter().map(made).collect();
        let found = weight_scales(&linear(multipliers.clone()), x, y, Weights::Conv);
        assert_eq!(found.rounded, 0);
        assert_eq!(
            found.scales.iter().map(made).collect::<Vec<_>>(),
            multipliers
        );

        let mut edited = multipliers[7];
        edited.mantissa += 1;
        let found = weight_scales(&linear(vec![edited, Multiplier::ZERO]), x, y, Weights::Conv);
        assert_eq!(found.rounded, 1, "the dead channel is exact");
        assert!((found.scales[0] / scales[7] - 1.0).abs() < 1e-6);

        let one = quantize_multiplier((x * 0.01f32) as f64 / y as f64).expect("in range");
        let found = weight_scales(&linear(vec![one; 5]), x, y, Weights::Dense);
        assert_eq!((found.scales.len(), found.rounded), (1, 0));
    }
}
