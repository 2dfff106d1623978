//! One linear layer: scales, levels, biases, multipliers, and the proof that they fit.

use super::patches::Filter;
use super::rounding::{self, Problem, Samples};
use super::scales;
use super::tensors::TensorScale;
use super::{QuantizeError, Scales, WeightRounding, bias_correction, quantize_multiplier};
use crate::engine::check_channel;
use crate::graph::Activation;
use crate::model::{Linear, Multiplier};

/// A float layer and all that decides how it is quantized.
pub(super) struct Layer<'a> {
    pub node: &'a str,
    pub kind: &'static str,
    pub filter: &'a Filter,
    /// `[out_c][taps]`
    pub weights: &'a [f32],
    pub bias: &'a [f32],
    pub activation: Activation,
    pub input: TensorScale,
    pub bits: u8,
    pub scales: Scales,
    pub per_tensor: bool,
    pub rounding: WeightRounding,
    /// Integer inputs, where the rounding method needs them.
    pub samples: Option<&'a Samples<'a>>,
    /// Means of the float and the integer input, where biases are to be corrected.
    pub means: Option<(&'a [f64], &'a [f64])>,
}

/// Times that scales are doubled before a channel is given up.
const ATTEMPTS: usize = 24;

/// A real bias may take half of an accumulator's range.
const LARGEST_BIAS: f64 = (1u32 << 30) as f64;

impl Layer<'_> {
    /// Quantizes the layer. `output` is its output's scale; it is widened in the rare case that it
    /// is so narrow that rescaling would overflow.
    pub(super) fn quantize(&self, output: &mut TensorScale) -> Result<Linear, QuantizeError> {
        self.check()?;
        let mut weight_scales = self.weight_scales(output);
        for _ in 0..ATTEMPTS {
            let linear = self.at(&weight_scales, output)?;
            let failing = self.failing(&linear);
            if failing.is_empty() {
                return Ok(linear);
            }
            if failing.iter().any(|&c| linear.multipliers[c].exponent > 0) {
                output.scale *= 2.0;
            } else if self.per_tensor {
                weight_scales.iter_mut().for_each(|s| *s *= 2.0);
            } else {
                failing.iter().for_each(|&c| weight_scales[c] *= 2.0);
            }
        }
        let linear = self.at(&weight_scales, output)?;
        match self.failing(&linear).first() {
            None => Ok(linear),
            Some(&channel) => Err(QuantizeError::Channel {
                node: self.node.to_string(),
                channel,
                bias: self.bias[channel],
                input_scale: self.input.scale,
            }),
        }
    }

    fn check(&self) -> Result<(), QuantizeError> {
        let node = || self.node.to_string();
        let taps = self.filter.taps();
        if self.weights.len() != taps * self.bias.len()
            || self.bias.is_empty()
            || !self.bias.len().is_multiple_of(self.filter.groups)
        {
            return Err(QuantizeError::Shape {
                node: node(),
                kind: self.kind,
                what: format!(
                    "{} weights and {} biases for {taps} taps",
                    self.weights.len(),
                    self.bias.len()
                ),
            });
        }
        for (what, values) in [("weight", self.weights), ("bias", self.bias)] {
            if let Some(&found) = values.iter().find(|v| !v.is_finite()) {
                return Err(QuantizeError::NotFinite {
                    node: node(),
                    what,
                    found,
                });
            }
        }
        Ok(())
    }

    fn weight_scales(&self, output: &TensorScale) -> Vec<f32> {
        let choose = |w: &[f32]| scales::choose(w, self.bits, self.scales);
        let mut chosen: Vec<f32> = if self.per_tensor {
            vec![choose(self.weights); self.bias.len()]
        } else {
            self.weights
                .chunks_exact(self.filter.taps())
                .map(choose)
                .collect()
        };
        // A channel without weights takes a neighbour's scale: any would do, as long as its bias
        // can be told in it.
        let sx = self.input.scale as f64;
        let largest = chosen.iter().copied().fold(0.0, f32::max);
        let spare = if largest > 0.0 {
            largest
        } else {
            (output.scale as f64 / sx / 256.0) as f32
        };
        for (s, b) in chosen.iter_mut().zip(self.bias) {
            if *s == 0.0 {
                *s = spare;
            }
            let for_bias = (b.abs() as f64 / (sx * LARGEST_BIAS)) as f32;
            *s = s.max(for_bias).max(f32::MIN_POSITIVE);
        }
        if self.per_tensor {
            let all = chosen.iter().copied().fold(0.0, f32::max);
            chosen.fill(all);
        }
        chosen
    }

    /// The integer layer with given weight scales.
    fn at(&self, weight_scales: &[f32], output: &TensorScale) -> Result<Linear, QuantizeError> {
        let taps = self.filter.taps();
        let unit = |c: usize| self.input.scale as f64 * weight_scales[c] as f64;
        let in_levels: Vec<f64> = self
            .weights
            .iter()
            .enumerate()
            .map(|(i, &w)| w as f64 / weight_scales[i / taps] as f64)
            .collect();
        let units: Vec<f64> = (0..self.bias.len()).map(unit).collect();
        let real_bias: Vec<f64> = self.bias.iter().map(|&b| b as f64).collect();
        let levels = rounding::round(
            self.rounding,
            &Problem {
                filter: self.filter,
                weights: &in_levels,
                lattice: scales::lattice(self.bits, self.scales),
                samples: self.samples,
                free_bias: self.means.is_some(),
                units: &units,
                bias: &real_bias,
                clamp: self
                    .activation
                    .clamp_range()
                    .unwrap_or((f32::NEG_INFINITY, f32::INFINITY)),
            },
        );
        let biases: Vec<f64> = match self.means {
            Some((float, integer)) => bias_correction::biases(
                self.filter,
                (self.weights, self.bias, float),
                (&levels, integer),
                unit,
            ),
            None => self
                .bias
                .iter()
                .enumerate()
                .map(|(c, &b)| b as f64 / unit(c))
                .collect(),
        };
        let ratio = |c: usize| unit(c) / output.scale as f64;
        let multipliers: Result<Vec<Multiplier>, QuantizeError> = (0..self.bias.len())
            .map(|c| {
                quantize_multiplier(ratio(c)).ok_or_else(|| QuantizeError::Multiplier {
                    node: self.node.to_string(),
                    ratio: ratio(c),
                })
            })
            .collect();
        let (act_min, act_max) =
            output
                .clamp_range(self.activation)
                .ok_or_else(|| QuantizeError::Shape {
                    node: self.node.to_string(),
                    kind: self.kind,
                    what: format!(
                        "{:?} cannot be fused into an integer operator",
                        self.activation
                    ),
                })?;
        Ok(Linear {
            weights: levels,
            bits: self.bits,
            // A float-to-integer cast saturates, and a saturated bias fails the bound.
            bias: biases.iter().map(|b| b.round() as i32).collect(),
            multipliers: multipliers?,
            act_min,
            act_max,
        })
    }

    /// Channels whose accumulator could leave 32 bits.
    fn failing(&self, linear: &Linear) -> Vec<usize> {
        (0..linear.out_channels())
            .filter(|&c| {
                let saturated = matches!(linear.bias[c], i32::MIN | i32::MAX);
                let (row, zero_point) = (linear.row(c), self.input.zero_point);
                let bound = check_channel(
                    self.node,
                    c,
                    row,
                    linear.bias[c],
                    zero_point,
                    linear.multipliers[c],
                );
                saturated || bound.is_err()
            })
            .collect()
    }
}
