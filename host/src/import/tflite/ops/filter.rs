//! Weights, biases and multipliers of linear operators.

use crate::import::tflite::call::Call;
use crate::import::tflite::file::Constant;
use crate::import::tflite::fixed_point::{activation_range, multiplier};
use crate::import::tflite::network::Activation;
use crate::import::tflite::problem::Problem;
use crate::import::tflite::schema::ElementType;
use crate::model::{Linear, Multiplier};

/// The constant weights of an operator.
pub(super) struct Filter {
    pub shape: Vec<usize>,
    /// One i8 each, in the file's order.
    pub weights: Vec<i8>,
    /// 8, or 4.
    pub bits: u8,
    /// One, or one per output channel.
    pub scales: Vec<f32>,
}

impl Filter {
    /// Operand 1 with `rank` axes and its output channels along one of them.
    pub(super) fn new(call: &mut Call, rank: usize, channel_axis: usize) -> Result<Self, Problem> {
        let c = call.constant(1)?;
        let t = &c.tensor;
        let name = t.label();
        if c.shape.len() != rank {
            return Err(Problem::Damaged(format!(
                "weights `{name}` have {} axes instead of {rank}",
                c.shape.len()
            )));
        }
        let out_c = c.shape[channel_axis];
        let (weights, bits) = integers(&c)?;
        let scales: Vec<f32> = t.scales.iter().take(out_c + 1).collect();
        if scales.len() != 1 && scales.len() != out_c {
            return Err(Problem::Damaged(format!(
                "weights `{name}` have {} scales for {out_c} channels",
                t.scales.len()
            )));
        }
        if scales.len() > 1 && t.quantized_dimension != channel_axis as i32 {
            return Err(Problem::unsupported(
                format!(
                    "weights `{name}` have scales along axis {}",
                    t.quantized_dimension
                ),
                format!(
                    "quantize them along axis {channel_axis}, their output channels, or as one"
                ),
            ));
        }
        if let Some(scale) = scales.iter().find(|s| !(s.is_finite() && **s >= 0.0)) {
            return Err(Problem::Damaged(format!(
                "weights `{name}` have a scale of {scale}"
            )));
        }
        if let Some(zero_point) = t.zero_points.iter().find(|z| *z != 0) {
            return Err(Problem::unsupported(
                format!("weights `{name}` have a zero point of {zero_point}"),
                "quantize weights symmetrically, as the current TFLite converter does",
            ));
        }
        Ok(Self {
            shape: c.shape,
            weights,
            bits,
            scales,
        })
    }

    /// The linear part of an operator with weights in the order `[out_c][taps]`.
    pub(super) fn linear(
        self,
        call: &mut Call,
        multipliers: Vec<Multiplier>,
        activation: i8,
        output: &Activation,
    ) -> Result<Linear, Problem> {
        let bias = bias(call, multipliers.len())?;
        let (act_min, act_max) = activation_range(activation, output.scale, output.zero_point)?;
        Ok(Linear {
            weights: self.weights,
            bits: self.bits,
            bias,
            multipliers,
            act_min,
            act_max,
        })
    }

    /// Multipliers as convolutions compute them, and fully connected layers with a scale a channel:
    /// `input scale * weight scale / output scale`, in f64 throughout.
    pub(super) fn multipliers(
        &self,
        input: &Activation,
        output: &Activation,
        out_c: usize,
    ) -> Result<Vec<Multiplier>, Problem> {
        let one = |scale: f32| multiplier(input.scale as f64 * scale as f64 / output.scale as f64);
        match self.scales[..] {
            [scale] => Ok(vec![one(scale)?; out_c]),
            _ => self.scales.iter().map(|s| one(*s)).collect(),
        }
    }
}

/// Weights as i8, and their width.
fn integers(c: &Constant) -> Result<(Vec<i8>, u8), Problem> {
    match c.tensor.element {
        ElementType::INT8 => Ok((c.bytes.iter().map(|b| *b as i8).collect(), 8)),
        ElementType::INT4 => {
            let count = c.shape.iter().product();
            let halves = c
                .bytes
                .iter()
                .flat_map(|b| [(*b as i8) << 4 >> 4, *b as i8 >> 4]);
            Ok((halves.take(count).collect(), 4))
        }
        other => Err(Problem::unsupported(
            format!("weights `{}` are {other}", c.tensor.label()),
            "convert with the current TFLite converter to int8 weights",
        )),
    }
}

/// Operand 2, or zeros where it is absent.
fn bias(call: &mut Call, out_c: usize) -> Result<Vec<i32>, Problem> {
    if call.operand(2).is_none() {
        return Ok(vec![0; out_c]);
    }
    let c = call.constant(2)?;
    let bias = c.integers()?;
    if bias.len() != out_c {
        return Err(Problem::Damaged(format!(
            "bias `{}` has {} elements for {out_c} channels",
            c.tensor.label(),
            bias.len()
        )));
    }
    Ok(bias)
}
