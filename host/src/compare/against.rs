//! One integer model under two rounding rules.

use super::xnnpack;
use crate::classes::argmax;
use crate::engine::{Engine, EngineError, run_node};
use crate::model::{QuantizedModel, Rounding};

/// The rule to compare the model's own with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Against {
    /// LiteRT on a desktop with XNNPACK, its default: see [`xnnpack`].
    LitertXnnpack,
    /// LiteRT's reference kernels: fully connected layers round once.
    LitertReference,
    /// TensorFlow Lite for Microcontrollers and CMSIS-NN: two roundings everywhere.
    Tflm,
}

impl Against {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LitertXnnpack, Self::LitertReference, Self::Tflm];
}

impl std::fmt::Display for Against {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.pad(match self {
            Self::LitertXnnpack => "litert-xnnpack",
            Self::LitertReference => "litert-reference",
            Self::Tflm => "tflm",
        })
    }
}

impl std::str::FromStr for Against {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|a| a.to_string() == s)
            .ok_or_else(|| "rules are litert-xnnpack, litert-reference and tflm".into())
    }
}

/// How one node's output differs.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TensorDifference {
    /// Index of the node.
    pub node: usize,
    /// The node's name.
    pub layer: String,
    /// The operator's name.
    pub kind: &'static str,
    /// Elements compared.
    pub elements: u64,
    /// Elements that differ in a run under the one and a run under the other rule.
    pub differing: u64,
    /// Largest difference in levels.
    pub largest: u32,
    /// Elements that differ where the node gets the same operands under both rules: those that it
    /// adds itself.
    pub own: u64,
}

/// What two rules make of a model.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RuleReport {
    /// Samples.
    pub samples: usize,
    /// Elements of all outputs.
    pub output_elements: u64,
    /// Output elements that differ.
    pub differing_outputs: u64,
    /// Samples to which the two give different classes.
    pub differing_classes: usize,
    /// Every node in the order of execution.
    pub layers: Vec<TensorDifference>,
}

impl RuleReport {
    /// The first node whose output differs.
    pub fn first(&self) -> Option<&TensorDifference> {
        self.layers.iter().find(|l| l.differing > 0)
    }
}

/// A comparison under way: samples come in batches, only counts are kept.
pub struct RuleComparison<'a> {
    model: &'a QuantizedModel,
    engine: Engine,
    other: Other,
    report: RuleReport,
}

enum Other {
    Xnnpack,
    Rule(Box<QuantizedModel>),
}

/// Bytes that all tensors of one batch, twice, may take.
const BATCH_BYTES: usize = 32 << 20;

impl<'a> RuleComparison<'a> {
    /// Prepares both.
    ///
    /// # Errors
    /// What the engine refuses about the model.
    pub fn new(model: &'a QuantizedModel, against: Against) -> Result<Self, EngineError> {
        let rule = |rounding| {
            let mut other = model.clone();
            other.rounding = rounding;
            Other::Rule(Box::new(other))
        };
        let layers = model
            .nodes
            .iter()
            .enumerate()
            .map(|(node, n)| TensorDifference {
                node,
                layer: n.name.clone(),
                kind: n.op.kind(),
                elements: 0,
                differing: 0,
                largest: 0,
                own: 0,
            })
            .collect();
        Ok(Self {
            model,
            engine: Engine::new(model)?,
            other: match against {
                Against::LitertXnnpack => Other::Xnnpack,
                Against::LitertReference => rule(Rounding::LiteRtReference),
                Against::Tflm => rule(Rounding::Tflm),
            },
            report: RuleReport {
                samples: 0,
                output_elements: 0,
                differing_outputs: 0,
                differing_classes: 0,
                layers,
            },
        })
    }

    /// The other rule's own network, where reading a file under it gives other multipliers. Nothing
    /// changes for XNNPACK, which is computed from the model itself.
    ///
    /// # Errors
    /// [`EngineError::Wiring`] where it has other nodes than the model.
    pub fn with_other(mut self, other: QuantizedModel) -> Result<Self, EngineError> {
        let kinds = |m: &QuantizedModel| m.nodes.iter().map(|n| n.op.kind()).collect::<Vec<_>>();
        if kinds(&other) != kinds(self.model) {
            return Err(EngineError::Wiring {
                what: format!(
                    "read under the other rule, `{}` has other operators",
                    other.name
                ),
            });
        }
        if matches!(self.other, Other::Rule(_)) {
            self.other = Other::Rule(Box::new(other));
        }
        Ok(self)
    }

    /// Samples that one call of [`Self::add`] should bring for its memory to stay small.
    pub fn batch(&self) -> usize {
        // Accumulators of the largest node count too.
        let all: usize = self.model.tensors.iter().map(|t| t.elements()).sum();
        (BATCH_BYTES / (6 * all).max(1)).clamp(1, 256)
    }

    fn other_node(&self, index: usize, inputs: &[&[i8]], n: usize) -> Result<Vec<i8>, EngineError> {
        match &self.other {
            Other::Xnnpack => xnnpack::node(self.model, &self.engine, index, inputs, n),
            Other::Rule(m) => run_node(m, index, inputs, n),
        }
    }

    /// All tensors under the other rule, by tensor id, `[n][elements]` each.
    fn other_tensors(&self, inputs: &[i8]) -> Result<Vec<Vec<i8>>, EngineError> {
        let n = inputs.len() / self.engine.input_elements();
        let mut tensors: Vec<Vec<i8>> = vec![Vec::new(); self.model.tensors.len()];
        tensors[self.model.input.0] = inputs.to_vec();
        for (i, node) in self.model.nodes.iter().enumerate() {
            let operands: Vec<&[i8]> = node.inputs.iter().map(|t| &tensors[t.0][..]).collect();
            let out = self.other_node(i, &operands, n)?;
            tensors[node.output.0] = out;
        }
        Ok(tensors)
    }

    /// Outputs under the other rule, `[n][elements]`; `inputs` are whole samples.
    ///
    /// # Errors
    /// The engine's.
    ///
    /// # Panics
    /// Where `inputs` are not whole samples.
    pub fn other_outputs(&self, inputs: &[i8]) -> Result<Vec<i8>, EngineError> {
        Ok(self.other_tensors(inputs)?.swap_remove(self.model.output.0))
    }

    /// Takes in samples, `[n][h][w][c]`.
    ///
    /// # Errors
    /// The engine's.
    ///
    /// # Panics
    /// Where `inputs` are not whole samples.
    pub fn add(&mut self, inputs: &[i8]) -> Result<(), EngineError> {
        let ours = self.engine.activations(inputs);
        let theirs = self.other_tensors(inputs)?;
        let n = ours.samples();
        for (i, node) in self.model.nodes.iter().enumerate() {
            let (a, b) = (ours.tensor(node.output), &theirs[node.output.0]);
            let operands: Vec<&[i8]> = node.inputs.iter().map(|&t| ours.tensor(t)).collect();
            let alone = self.other_node(i, &operands, n)?;
            let l = &mut self.report.layers[i];
            l.elements += a.len() as u64;
            l.differing += differing(a, b);
            l.own += differing(a, &alone);
            l.largest = a
                .iter()
                .zip(b)
                .map(|(&a, &b)| a.abs_diff(b) as u32)
                .fold(l.largest, u32::max);
        }
        let (a, b) = (ours.tensor(self.model.output), &theirs[self.model.output.0]);
        let classes = self.engine.output_elements().max(1);
        self.report.samples += n;
        self.report.output_elements += a.len() as u64;
        self.report.differing_outputs += differing(a, b);
        self.report.differing_classes += a
            .chunks_exact(classes)
            .zip(b.chunks_exact(classes))
            .filter(|(a, b)| argmax(a) != argmax(b))
            .count();
        Ok(())
    }

    /// The report.
    pub fn finish(self) -> RuleReport {
        self.report
    }
}

fn differing(a: &[i8], b: &[i8]) -> u64 {
    a.iter().zip(b).filter(|(a, b)| a != b).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::random;

    #[test]
    fn a_model_under_its_own_rule_differs_nowhere() {
        for seed in 0..8 {
            let model = random::random_model(seed, 8);
            let n = 5 * model.tensor(model.input).elements();
            let inputs: Vec<i8> = (0..n).map(|i| (i * 37 + seed as usize) as i8).collect();
            let mut c = RuleComparison::new(&model, Against::Tflm).expect("sound");
            c.add(&inputs[..n / 5]).expect("runs");
            c.add(&inputs[n / 5..]).expect("runs");
            let r = c.finish();
            assert_eq!(r.samples, 5);
            assert_eq!((r.differing_outputs, r.differing_classes), (0, 0));
            assert!(r.first().is_none());
        }
    }

    #[test]
    fn rules_are_read_by_the_names_that_they_print() {
        for a in Against::ALL {
            assert_eq!(a.to_string().parse(), Ok(a));
        }
        assert!(
            "xnnpack"
                .parse::<Against>()
                .unwrap_err()
                .contains("litert-xnnpack")
        );
    }
}
