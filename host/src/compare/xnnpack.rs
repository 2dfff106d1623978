//! What LiteRT computes on a desktop, where XNNPACK runs the operators it takes: an evaluation for
//! explaining differences, never for making images.
//!
//! Modelled, as XNNPACK's x86-64 kernels do it (facts of its published sources):
//! - convolution, depthwise convolution, fully connected: `clamp(zy + rint(f32(acc) * f32(M)))`, one
//!   rounding to nearest with ties to even, the product in f32 ("fp32 requantization");
//! - mean over height and width: the same over the sum;
//! - sum of two tensors: both ratios of scales to integers with one common shift,
//!   `clamp(zy + (a * Ma + b * Mb + 2^(s-1) >> s))`, the larger multiplier in 2^20 ..= 2^21;
//! - softmax, which XNNPACK leaves to LiteRT's optimised kernel: a table of f32 exponentials, their
//!   sum in f32, one rounding half away from zero.
//!
//! Not modelled, and computed by the engine's own rule: changes of scale (alone, or in a
//! concatenation), functions by table, pooling (which has no other rule), and the exact f32 value of
//! `M`, here the Q31 multiplier rounded to f32, where XNNPACK multiplies and divides f32 scales. On
//! Arm, XNNPACK has other kernels. [`VERIFIED`] says how far this model was found to hold.

use rayon::prelude::*;

use crate::engine::{Engine, EngineError, run_node};
use crate::model::{Add, Multiplier, Node, Op, QuantizedModel, Tensor};

/// A recording of LiteRT with XNNPACK, and how much of it this model of XNNPACK gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recording {
    /// The network.
    pub model: &'static str,
    /// Output elements that agree.
    pub met: usize,
    /// Recorded output elements.
    pub recorded: usize,
}

/// Recordings that a test compares with (LiteRT 2.3.0, x86-64, 200 inputs a network).
pub const VERIFIED: [Recording; 4] = [
    Recording {
        model: "hello_world_sine_int8",
        met: 200,
        recorded: 200,
    },
    Recording {
        model: "resnet8_cifar10_int8",
        met: 2000,
        recorded: 2000,
    },
    Recording {
        model: "kws_dscnn_official_int8",
        met: 2400,
        recorded: 2400,
    },
    Recording {
        model: "kws_dscnn_v20210322_int8",
        met: 2400,
        recorded: 2400,
    },
];

/// The outputs of node `index` for `n` samples, given its operands `[n][elements]`.
///
/// # Errors
/// The engine's, for nodes that it computes.
pub fn node(
    model: &QuantizedModel,
    engine: &Engine,
    index: usize,
    inputs: &[&[i8]],
    n: usize,
) -> Result<Vec<i8>, EngineError> {
    let node = &model.nodes[index];
    let x = model.tensor(node.inputs[0]);
    let y = model.tensor(node.output);
    Ok(match &node.op {
        Op::Conv2d(_) | Op::FullyConnected(_) => linear(node, engine, index, inputs[0], y),
        Op::Mean { multiplier } => mean(*multiplier, x, y, inputs[0]),
        Op::Add(a) => {
            let scales = [x.scale, model.tensor(node.inputs[1]).scale];
            let zeros = [x.zero_point, model.tensor(node.inputs[1]).zero_point];
            add(a, scales, zeros, y, [inputs[0], inputs[1]])
        }
        Op::Softmax { .. } => softmax(x, y, inputs[0]),
        _ => run_node(model, index, inputs, n)?,
    })
}

/// The multiplier as XNNPACK holds it.
fn real(m: Multiplier) -> f32 {
    (m.mantissa as f64 * 2f64.powi(m.exponent as i32 - 31)) as f32
}

/// One rounding, to nearest with ties to even, of a product in f32.
fn requantize(acc: i32, scale: f32, zero_point: i8, (lo, hi): (i8, i8)) -> i8 {
    let rounded = (acc as f32 * scale).round_ties_even() as i32;
    rounded
        .saturating_add(zero_point as i32)
        .clamp(lo as i32, hi as i32) as i8
}

fn linear(node: &Node, engine: &Engine, index: usize, input: &[i8], y: &Tensor) -> Vec<i8> {
    let Some(l) = node.op.linear() else {
        return Vec::new();
    };
    let scales: Vec<f32> = l.multipliers.iter().map(|&m| real(m)).collect();
    // A range whose ends cross would make the clamp panic; the engine has refused it.
    let range = (l.act_min, l.act_max.max(l.act_min));
    engine
        .accumulators(index, input)
        .par_chunks(scales.len())
        .flat_map_iter(|accs| {
            accs.iter()
                .zip(&scales)
                .map(move |(&acc, &s)| requantize(acc, s, y.zero_point, range))
        })
        .collect()
}

fn mean(m: Multiplier, x: &Tensor, y: &Tensor, input: &[i8]) -> Vec<i8> {
    let [h, w, c] = x.shape;
    let scale = real(m);
    let mut out = Vec::with_capacity(input.len() / (h * w));
    for sample in input.chunks_exact(h * w * c) {
        for channel in 0..c {
            let sum: i32 = sample[channel..]
                .iter()
                .step_by(c)
                .map(|&q| q as i32 - x.zero_point as i32)
                .sum();
            out.push(requantize(sum, scale, y.zero_point, (i8::MIN, i8::MAX)));
        }
    }
    out
}

fn add(a: &Add, scales: [f32; 2], zeros: [i8; 2], y: &Tensor, inputs: [&[i8]; 2]) -> Vec<i8> {
    let ratios = scales.map(|s| s / y.scale);
    let largest = ratios[0].max(ratios[1]);
    // floor(log2) of a normal positive number; others would be no scale.
    let exponent = (largest.to_bits() >> 23) as i32 - 127;
    let shift = (20 - exponent).clamp(1, 60);
    let multipliers = ratios.map(|r| (r as f64 * 2f64.powi(shift)).round_ties_even() as i64);
    let (lo, hi) = (a.act_min as i64, a.act_max.max(a.act_min) as i64);
    let zero = y.zero_point as i64;
    let term = |q: i8, i: usize| (q as i64 - zeros[i] as i64) * multipliers[i];
    inputs[0]
        .iter()
        .zip(inputs[1])
        .map(|(&p, &q)| {
            let sum = term(p, 0) + term(q, 1) + (1 << (shift - 1));
            ((sum >> shift) + zero).clamp(lo, hi) as i8
        })
        .collect()
}

fn softmax(x: &Tensor, y: &Tensor, input: &[i8]) -> Vec<i8> {
    // table[255 - d] = exp(-scale * d) for a difference d to the row's largest.
    let table: Vec<f32> = (0..256).map(|d| (-x.scale * d as f32).exp()).collect();
    let mut out = Vec::with_capacity(input.len());
    for row in input.chunks_exact(x.shape[2].max(1)) {
        let largest = row.iter().copied().max().unwrap_or(0) as i32;
        let power = |q: i8| table[(largest - q as i32) as usize];
        let sum: f32 = row.iter().map(|&q| power(q)).sum();
        let factor = 1.0 / (sum * y.scale);
        out.extend(row.iter().map(|&q| {
            let level = (power(q) * factor).round() as i32 + y.zero_point as i32;
            level.clamp(i8::MIN as i32, i8::MAX as i32) as i8
        }));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{Against, RuleComparison};
    use crate::data::{LoadOptions, load};
    use crate::import::tflite::import_tflite_int8;
    use std::path::Path;

    /// The named recording: inputs, and one of its outputs.
    fn recorded(file: &Path, key: &str, shape: [usize; 3]) -> Vec<i8> {
        let options = LoadOptions {
            x_key: Some(key.into()),
            y_key: None,
            expected: Some(shape),
            ..Default::default()
        };
        let data = load(file, &options).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        match data.values {
            crate::data::Values::I8(v) => v,
            other => panic!("{}: {key} is {}", file.display(), other.dtype()),
        }
    }

    #[test]
    fn recorded_desktop_outputs_are_met_as_far_as_the_commands_text_says() {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
        if !folder.is_dir() {
            println!("skipped: {} is not there", folder.display());
            return;
        }
        for r in VERIFIED {
            let bytes = std::fs::read(folder.join("models").join(format!("{}.tflite", r.model)))
                .expect("a model beside its recording");
            let model = import_tflite_int8(&bytes, r.model).expect("an int8 network");
            let file = folder.join("golden").join(format!("{}.npz", r.model));
            let input = recorded(&file, "input", model.tensor(model.input).shape);
            let want = recorded(&file, "out_xnn", model.tensor(model.output).shape);
            let c = RuleComparison::new(&model, Against::LitertXnnpack).expect("an engine");
            let got = c.other_outputs(&input).expect("it runs");
            let met = got.iter().zip(&want).filter(|(a, b)| a == b).count();
            println!("{}: {met} of {}", r.model, want.len());
            assert_eq!((met, want.len()), (r.met, r.recorded), "{}", r.model);
        }
    }

    #[test]
    fn a_tie_goes_to_the_even_level() {
        assert_eq!(requantize(1, 0.5, 0, (-128, 127)), 0);
        assert_eq!(requantize(3, 0.5, 0, (-128, 127)), 2);
        assert_eq!(requantize(-1, 0.5, 3, (-128, 127)), 3);
        assert_eq!(requantize(i32::MAX, 1.0, 127, (-128, 99)), 99);
    }
}
