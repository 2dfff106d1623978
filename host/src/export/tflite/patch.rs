//! New weights and biases, and on request multipliers, in an old file.

use std::collections::BTreeSet;
use std::ops::Range;

use super::TfliteExportError;
use crate::import::tflite::place::{Bytes, Place, Scales};
use crate::import::tflite::{import_tflite_int8, read};
use crate::model::{Linear, QuantizedModel};
use crate::quantize::scaled_multiplier;
use crate::repair::Freedom;

/// Smallest weight of TFLite's specification of int8, which leaves out -128.
const SMALLEST_WEIGHT: i8 = -127;

/// An int8 .tflite whose weights and biases can be replaced.
#[derive(Debug)]
pub struct Patchable {
    file: String,
    bytes: Vec<u8>,
    model: QuantizedModel,
    places: Vec<Place>,
    multipliers: bool,
}

/// How much of a file was replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Replaced {
    /// Layers of which something was replaced.
    pub layers: usize,
    /// Bytes that differ from the original's.
    pub bytes: usize,
}

impl Patchable {
    /// Reads the original; `name` stands for it in messages.
    ///
    /// # Errors
    /// [`TfliteExportError::Import`], as `import_tflite_int8`.
    pub fn new(bytes: &[u8], name: &str) -> Result<Self, TfliteExportError> {
        let (model, places) = read(bytes, name)?;
        Ok(Self {
            file: name.to_string(),
            bytes: bytes.to_vec(),
            model,
            places,
            multipliers: false,
        })
    }

    /// Lets multipliers change as well, by the weight scales of their channels (and the scales of
    /// the biases, which follow).
    #[must_use]
    pub fn with_multipliers(self) -> Self {
        Self {
            multipliers: true,
            ..self
        }
    }

    /// What a repair may change so that the result fits into the file.
    ///
    /// Constants that something else reads stay, and biases that the file does not have. Multipliers
    /// follow from float32 scales: they stay, or, [`with_multipliers`](Self::with_multipliers), those
    /// of layers with a scale a channel may become what such a scale gives.
    pub fn freedom(&self) -> Freedom {
        let nodes = |fixed: &dyn Fn(&Place) -> bool| -> BTreeSet<usize> {
            let found = self.places.iter().filter(|p| fixed(p));
            found.map(|p| p.node).collect()
        };
        let ends = |p: &Place| {
            let node = &self.model.nodes[p.node];
            let scale = |t| self.model.tensor(t).scale;
            (p.node, [scale(node.inputs[0]), scale(node.output)])
        };
        Freedom {
            multipliers: self.multipliers,
            fixed_multipliers: nodes(&|p| p.scales.is_none()),
            scaled_multipliers: self.places.iter().map(ends).collect(),
            smallest_weight: SMALLEST_WEIGHT,
            fixed_weights: nodes(&|p| p.weights.shared),
            fixed_biases: nodes(&|p| p.bias.as_ref().is_none_or(|b| b.shared)),
        }
    }

    /// The file with the weights and biases of `model`, and how much that changes.
    ///
    /// # Errors
    /// [`TfliteExportError`] where anything else differs, or a constant is shared.
    pub fn patch(&self, model: &QuantizedModel) -> Result<(Vec<u8>, Replaced), TfliteExportError> {
        self.same_but_integers(model)?;
        let mut bytes = self.bytes.clone();
        let mut replaced = Replaced::default();
        for place in &self.places {
            let node = &model.nodes[place.node];
            let (Some(old), Some(new)) =
                (self.model.nodes[place.node].op.linear(), node.op.linear())
            else {
                continue;
            };
            if old == new {
                continue;
            }
            replaced.layers += 1;
            let fixed = |what, reason: String| TfliteExportError::Fixed {
                file: self.file.clone(),
                what,
                node: node.name.clone(),
                reason,
            };
            let shared = |b: &Bytes| format!("something else reads `{}` too", b.name);
            if old.multipliers != new.multipliers {
                let Some(scales) = &place.scales else {
                    return Err(fixed(
                        "multipliers",
                        "its weights have one scale, or share their scales".into(),
                    ));
                };
                let ends = [node.inputs[0], node.output].map(|t| model.tensor(t).scale);
                if !rescale(&mut bytes, scales, old, new, ends) {
                    return Err(fixed(
                        "multipliers",
                        "no float32 scale gives one of them".into(),
                    ));
                }
            }
            if old.weights != new.weights {
                if place.weights.shared {
                    return Err(fixed("weights", shared(&place.weights)));
                }
                let weights = ordered(new, place.depthwise);
                put(
                    &mut bytes,
                    &place.weights,
                    weights.iter().map(|w| i64::from(*w)),
                );
            }
            if old.bias != new.bias {
                let Some(at) = &place.bias else {
                    return Err(fixed("biases", "the file holds none for it".into()));
                };
                if at.shared {
                    return Err(fixed("biases", shared(at)));
                }
                put(&mut bytes, at, new.bias.iter().map(|b| i64::from(*b)));
            }
        }
        replaced.bytes = bytes
            .iter()
            .zip(&self.bytes)
            .filter(|(a, b)| a != b)
            .count();
        let back = import_tflite_int8(&bytes, &self.file)?;
        if back.nodes != model.nodes || back.tensors != model.tensors {
            return Err(TfliteExportError::NotFaithful {
                file: self.file.clone(),
            });
        }
        Ok((bytes, replaced))
    }

    fn same_but_integers(&self, model: &QuantizedModel) -> Result<(), TfliteExportError> {
        let differs = |what: String| {
            Err(TfliteExportError::OtherModel {
                file: self.file.clone(),
                what,
            })
        };
        let ours = &self.model;
        if ours.tensors != model.tensors {
            return differs("a tensor's shape, scale or zero point".into());
        }
        let ends = (ours.input, ours.output, ours.nodes.len());
        if ends != (model.input, model.output, model.nodes.len()) {
            return differs("the structure".into());
        }
        for (a, b) in ours.nodes.iter().zip(&model.nodes) {
            let mut with_ours = b.clone();
            if let (Some(ours), Some(theirs)) = (a.op.linear(), with_ours.op.linear_mut()) {
                if self.multipliers && ours.multipliers.len() == theirs.multipliers.len() {
                    theirs.multipliers.clone_from(&ours.multipliers);
                }
                if ours.multipliers != theirs.multipliers {
                    return differs(format!("a multiplier of `{}`", b.name));
                }
                let lengths = (ours.weights.len(), ours.bias.len());
                if lengths == (theirs.weights.len(), theirs.bias.len()) {
                    theirs.weights.clone_from(&ours.weights);
                    theirs.bias.clone_from(&ours.bias);
                }
            }
            if *a != with_ours {
                return differs(format!("operator `{}`", b.name));
            }
        }
        Ok(())
    }
}

/// Weights in the file's order.
fn ordered(linear: &Linear, depthwise: bool) -> Vec<i8> {
    if !depthwise {
        return linear.weights.clone();
    }
    let (channels, taps) = (linear.out_channels(), linear.taps());
    (0..taps)
        .flat_map(|t| (0..channels).map(move |c| linear.weights[c * taps + t]))
        .collect()
}

/// Writes the scales of the channels whose multiplier changed; whether there are such scales.
fn rescale(
    file: &mut [u8],
    at: &Scales,
    old: &Linear,
    new: &Linear,
    [input, output]: [f32; 2],
) -> bool {
    for (c, (old, new)) in old.multipliers.iter().zip(&new.multipliers).enumerate() {
        if old == new {
            continue;
        }
        let Some((scale, given)) = scaled_multiplier(*new, input, output) else {
            return false;
        };
        let mut write = |range: &Range<usize>, value: f32| {
            if let Some(to) = file[range.clone()].chunks_exact_mut(4).nth(c) {
                to.copy_from_slice(&value.to_le_bytes());
            }
        };
        if given != *new {
            return false;
        }
        write(&at.weights, scale);
        if let Some(bias) = &at.bias {
            write(bias, scale * input);
        }
    }
    true
}

/// Writes numbers over a constant's bytes.
fn put(file: &mut [u8], at: &Bytes, numbers: impl Iterator<Item = i64>) {
    let part = &mut file[at.range.clone()];
    match at.bits {
        4 => {
            for (i, n) in numbers.enumerate() {
                let shift = 4 * (i % 2);
                let byte = &mut part[i / 2];
                *byte = *byte & !(0xf << shift) | ((n as u8 & 0xf) << shift);
            }
        }
        bits => {
            let size = usize::from(bits / 8);
            for (to, n) in part.chunks_exact_mut(size).zip(numbers) {
                to.copy_from_slice(&n.to_le_bytes()[..size]);
            }
        }
    }
}
