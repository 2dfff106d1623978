//! Weights and biases back on the lattice that the file has them on.

use super::strip::WeightNote;
use crate::graph::Activation;
use crate::model::Linear;
use crate::quantize::{TensorScale, quantize_multiplier};

/// How far a weight may be from a whole number of scales: products of scales and integers are
/// rounded to f32, which moves them by less than 2^-16.
const OFF_LATTICE: f64 = 1e-3;

/// A float layer with the scales of its surroundings.
pub(super) struct Layer<'a> {
    /// `[out_c][taps]`
    pub weights: &'a [f32],
    pub bias: &'a [f32],
    pub activation: Activation,
    pub input: TensorScale,
    pub output: TensorScale,
}

/// Reason and remedy.
pub(super) type Problem = (String, String);

impl Layer<'_> {
    /// The integer layer with the file's weight scales.
    pub(super) fn quantize(&self, note: &WeightNote) -> Result<Linear, Problem> {
        let out_c = self.bias.len();
        let scales: Vec<f32> = match note.scales[..] {
            [scale] => vec![scale; out_c],
            _ if note.scales.len() == out_c => note.scales.clone(),
            _ => {
                return Err((
                    format!(
                        "weights `{}` have scales along another axis than their output channels",
                        note.name
                    ),
                    "quantize them with per_channel=True along output channels, or per_channel=False".into(),
                ));
            }
        };
        let taps = self.weights.len() / out_c.max(1);
        let mut weights = Vec::with_capacity(self.weights.len());
        for (i, &w) in self.weights.iter().enumerate() {
            let level = w as f64 / scales[i / taps.max(1)] as f64;
            let q = level.round();
            if (level - q).abs() > OFF_LATTICE {
                return Err((
                    format!(
                        "weights `{}` are multiplied by something after they were quantized",
                        note.name
                    ),
                    "fold such factors before quantizing (onnxruntime.quantization.quant_pre_process)".into(),
                ));
            }
            if !(-128.0..=127.0).contains(&q) {
                return Err((
                    format!(
                        "weights `{}` are asymmetric: a weight is {q} scales from zero, and int8 with zero point 0 ends at -128 and 127",
                        note.name
                    ),
                    "quantize weights symmetrically (weight_type=QuantType.QInt8, extra_options={'WeightSymmetric': True})".into(),
                ));
            }
            weights.push(q as i8);
        }
        self.finish(weights, &scales)
    }

    /// A layer whose weights, one a channel, are float: each is 127 or -127 scales, so nothing is
    /// lost.
    pub(super) fn affine(&self) -> Result<Linear, Problem> {
        let scales: Vec<f32> = self
            .weights
            .iter()
            .map(|w| (w.abs() / 127.0).max(f32::MIN_POSITIVE))
            .collect();
        let weights = self
            .weights
            .iter()
            .map(|&w| match w {
                0.0 => 0,
                w if w > 0.0 => 127,
                _ => -127,
            })
            .collect();
        self.finish(weights, &scales)
    }

    fn finish(&self, weights: Vec<i8>, scales: &[f32]) -> Result<Linear, Problem> {
        let sx = self.input.scale as f64;
        let mut bias = Vec::with_capacity(scales.len());
        let mut multipliers = Vec::with_capacity(scales.len());
        for (c, (&b, &s)) in self.bias.iter().zip(scales).enumerate() {
            let unit = sx * s as f64;
            let q = (b as f64 / unit).round();
            if q.abs() > i32::MAX as f64 || !q.is_finite() {
                return Err((
                    format!(
                        "the bias of channel {c}, {b}, does not fit 32 bits at input scale * weight scale"
                    ),
                    "quantize with larger weight scales for this layer (per_channel=False)".into(),
                ));
            }
            bias.push(q as i32);
            multipliers.push(
                quantize_multiplier(unit / self.output.scale as f64).ok_or_else(|| {
                    (
                        format!("its output scale {} is too small", self.output.scale),
                        "calibrate again with representative data".to_string(),
                    )
                })?,
            );
        }
        let (act_min, act_max) = self.output.clamp_range(self.activation).ok_or_else(|| {
            (
                format!("{:?} cannot be fused", self.activation),
                "quantize the activation function as an operator of its own".to_string(),
            )
        })?;
        Ok(Linear {
            weights,
            bits: 8,
            bias,
            multipliers,
            act_min,
            act_max,
        })
    }
}
