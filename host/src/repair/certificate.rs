//! The certificate: what was repaired, test by test, in a form that anybody can replay.

use super::{Outcome, RepairConfig, Targets, Tests};
use crate::classes::argmax;
use crate::engine::{Engine, EngineError};
use crate::model::QuantizedModel;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Version of the JSON object.
pub const SCHEMA: u32 = 1;

/// A repair in numbers that can be checked against the image and the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    /// [`SCHEMA`].
    pub schema: u32,
    /// SHA-256 of the repaired image, hex.
    pub image_sha256: String,
    /// SHA-256 of the image before the repair, hex.
    pub original_sha256: String,
    /// SHA-256 of the repair inputs as the integer model takes them, hex.
    pub inputs_sha256: String,
    /// Number of repair tests.
    pub tests: usize,
    /// Where the targets come from: `teacher` or `labels`.
    pub targets: String,
    /// Passing repair tests before and after.
    pub passing: [usize; 2],
    /// Passing holdout tests before and after.
    pub holdout_passing: [usize; 2],
    /// Number of holdout tests.
    pub holdout_tests: usize,
    /// Tests that failed before and pass now.
    pub repaired: Vec<RepairedTest>,
    /// Indices of tests that passed before and fail now.
    pub lost: Vec<usize>,
    /// Indices of tests that could not be mended.
    pub unfixable: Vec<usize>,
    /// Settings, in words.
    pub settings: Settings,
}

/// One mended test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairedTest {
    /// Index in the repair set.
    pub test: usize,
    /// The wanted class.
    pub target: usize,
    /// The class that the integer model gave before.
    pub before: usize,
    /// The class that it gives now: the target.
    pub after: usize,
    /// The integer logits now (before a final softmax).
    pub logits: Vec<i8>,
}

/// The settings that a certificate names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Strategy.
    pub strategy: String,
    /// Metric of localisation.
    pub metric: String,
    /// Limit on neurons, if any.
    pub top: Option<usize>,
    /// Strict mode.
    pub strict: bool,
    /// Seed.
    pub seed: u64,
    /// Version of the tool.
    pub version: String,
}

/// Why a certificate does not hold, or could not be replayed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// Not a certificate.
    #[error("not a certificate: {0}")]
    Format(#[from] serde_json::Error),
    /// A version that this program does not know.
    #[error("certificate schema {0} is not known here (this version reads schema {SCHEMA})")]
    Schema(u32),
    /// The model cannot be run.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// SHA-256 as lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

fn inputs_hash(tests: &Tests) -> String {
    let bytes: Vec<u8> = tests.integers.iter().map(|&q| q as u8).collect();
    sha256_hex(&bytes)
}

impl Certificate {
    /// Writes down an [`Outcome`]: runs both models over the repair set.
    ///
    /// # Errors
    /// [`CertificateError`] where a model cannot be run.
    pub fn new(
        original: (&QuantizedModel, &[u8]),
        outcome: &Outcome,
        image: &[u8],
        repair: &Tests,
        targets: Targets,
        config: &RepairConfig,
    ) -> Result<Self, CertificateError> {
        let before = Replay::run(original.0, &repair.integers)?;
        let after = Replay::run(&outcome.model, &repair.integers)?;
        Ok(Self {
            schema: SCHEMA,
            image_sha256: sha256_hex(image),
            original_sha256: sha256_hex(original.1),
            inputs_sha256: inputs_hash(repair),
            tests: repair.len(),
            targets: match targets {
                Targets::Teacher => "teacher".into(),
                Targets::Labels => "labels".into(),
            },
            passing: [outcome.before.repair, outcome.after.repair],
            holdout_passing: [outcome.before.holdout, outcome.after.holdout],
            holdout_tests: outcome.holdout_tests,
            repaired: outcome
                .repaired
                .iter()
                .map(|&test| RepairedTest {
                    test,
                    target: repair.targets[test],
                    before: before.class(test),
                    after: after.class(test),
                    logits: after.logits(test).to_vec(),
                })
                .collect(),
            lost: outcome.lost.clone(),
            unfixable: outcome.unfixable.clone(),
            settings: Settings {
                strategy: config.strategy.to_string(),
                metric: config.metric.to_string(),
                top: config.top,
                strict: config.strict,
                seed: config.seed,
                version: env!("CARGO_PKG_VERSION").into(),
            },
        })
    }

    /// Reads a certificate's JSON.
    ///
    /// # Errors
    /// [`CertificateError`] where it is none, or of an unknown schema.
    pub fn from_json(text: &str) -> Result<Self, CertificateError> {
        let c: Self = serde_json::from_str(text)?;
        if c.schema == SCHEMA {
            Ok(c)
        } else {
            Err(CertificateError::Schema(c.schema))
        }
    }

    /// The certificate as JSON.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("a certificate has only plain fields");
        text.push('\n');
        text
    }

    /// Replays every repaired test on the host's engine and lists what does not hold; nothing means
    /// that the certificate is true of this image and these inputs.
    ///
    /// # Errors
    /// [`CertificateError`] where the model cannot be run.
    pub fn replay(
        &self,
        model: &QuantizedModel,
        image: &[u8],
        inputs: &[i8],
    ) -> Result<Vec<String>, CertificateError> {
        let mut wrong = Vec::new();
        let hash = sha256_hex(image);
        if hash != self.image_sha256 {
            wrong.push(format!(
                "the image's SHA-256 is {hash}, the certificate speaks of {}",
                self.image_sha256
            ));
        }
        let bytes: Vec<u8> = inputs.iter().map(|&q| q as u8).collect();
        let hash = sha256_hex(&bytes);
        if hash != self.inputs_sha256 {
            wrong.push(format!(
                "the repair inputs' SHA-256 is {hash}, the certificate speaks of {}: give the same data, range and preprocessing",
                self.inputs_sha256
            ));
            return Ok(wrong);
        }
        let replay = Replay::run(model, inputs)?;
        for t in &self.repaired {
            if t.test >= replay.len() {
                wrong.push(format!(
                    "test {}: the data has only {} tests",
                    t.test,
                    replay.len()
                ));
                continue;
            }
            let (class, logits) = (replay.class(t.test), replay.logits(t.test));
            if class != t.after {
                wrong.push(format!(
                    "test {}: class {class}, certified {}",
                    t.test, t.after
                ));
            } else if logits != t.logits {
                wrong.push(format!(
                    "test {}: logits {logits:?}, certified {:?}",
                    t.test, t.logits
                ));
            }
        }
        Ok(wrong)
    }
}

/// A model's answers to a set of inputs.
struct Replay {
    outputs: Vec<i8>,
    width: usize,
    logits: Vec<i8>,
    logit_width: usize,
}

impl Replay {
    fn run(model: &QuantizedModel, inputs: &[i8]) -> Result<Self, EngineError> {
        let logits = super::logits(model);
        let mut kept = Engine::new(model)?.run_keep(inputs, &[model.output, logits]);
        Ok(Self {
            logits: kept.swap_remove(1),
            outputs: kept.swap_remove(0),
            width: model.tensor(model.output).elements(),
            logit_width: model.tensor(logits).elements(),
        })
    }

    fn len(&self) -> usize {
        self.outputs.len() / self.width.max(1)
    }

    fn class(&self, test: usize) -> usize {
        argmax(&self.outputs[test * self.width..(test + 1) * self.width])
    }

    fn logits(&self, test: usize) -> &[i8] {
        &self.logits[test * self.logit_width..(test + 1) * self.logit_width]
    }
}
