//! The certificate: what was repaired, test by test, in a form that anybody can replay.

use super::robust::Robust;
use super::{Outcome, RepairConfig, Targets, Tests};
use crate::classes::argmax;
use crate::engine::{Engine, EngineError};
use crate::model::QuantizedModel;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Version of the JSON object.
pub const SCHEMA: u32 = 2;

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
    /// What every test wants and gets, so that none of the lists above can be changed by itself.
    pub classes: Classes,
    /// What inputs near the repaired tests do, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robust: Option<RobustSummary>,
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
    /// The most quantization steps that it is certified to keep its class for, where that was asked
    /// for; absent too where not even the test itself is (two logits are equal).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub robust_steps: Option<u8>,
}

/// Classes of all repair tests, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// The wanted class.
    pub wanted: Vec<usize>,
    /// What the model gave before the repair.
    pub before: Vec<usize>,
    /// What it gives now.
    pub after: Vec<usize>,
}

/// How many repaired tests keep their class for every input within so many quantization steps. Of
/// the others nothing is known: the method is sound and not complete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RobustSummary {
    /// Steps of the input's integers that were asked for.
    pub steps: u8,
    /// Where classes were compared: `output`, or `logits` before a final softmax.
    pub decided_on: String,
    /// Repaired tests that are certified for at least these steps.
    pub certified: usize,
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
                    robust_steps: None,
                })
                .collect(),
            lost: outcome.lost.clone(),
            unfixable: outcome.unfixable.clone(),
            classes: Classes {
                wanted: repair.targets.clone(),
                before: (0..repair.len()).map(|i| before.class(i)).collect(),
                after: (0..repair.len()).map(|i| after.class(i)).collect(),
            },
            robust: None,
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

    /// Adds what is certified of inputs within `steps` quantization steps of the repaired tests.
    ///
    /// # Errors
    /// [`CertificateError`] where the model cannot be run.
    ///
    /// # Panics
    /// Where `inputs` are not those of the certificate.
    pub fn add_robust(
        &mut self,
        model: &QuantizedModel,
        inputs: &[i8],
        steps: u8,
    ) -> Result<(), CertificateError> {
        let robust = Robust::new(model)?;
        let largest = self.largest_steps(&robust, inputs);
        for (t, k) in self.repaired.iter_mut().zip(&largest) {
            t.robust_steps = *k;
        }
        self.robust = Some(RobustSummary {
            steps,
            decided_on: robust.decided_on().into(),
            certified: largest.iter().flatten().filter(|k| **k >= steps).count(),
        });
        Ok(())
    }

    fn largest_steps(&self, robust: &Robust, inputs: &[i8]) -> Vec<Option<u8>> {
        let sample = inputs.len() / self.tests.max(1);
        let x: Vec<i8> = self
            .repaired
            .iter()
            .flat_map(|t| {
                inputs[t.test * sample..(t.test + 1) * sample]
                    .iter()
                    .copied()
            })
            .collect();
        let targets: Vec<usize> = self.repaired.iter().map(|t| t.target).collect();
        robust.largest(&x, &targets)
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

    /// Replays every repair test on the host's engine and lists what does not hold, contradictions
    /// within the certificate first; nothing means that the certificate is true of this image and
    /// these inputs. What the model gave *before* only [`Self::replay_original`] can tell.
    ///
    /// # Errors
    /// [`CertificateError`] where the model cannot be run.
    pub fn replay(
        &self,
        model: &QuantizedModel,
        image: &[u8],
        inputs: &[i8],
    ) -> Result<Vec<String>, CertificateError> {
        let mut wrong = contradictions(self);
        check_hash(&mut wrong, "image", &self.image_sha256, image);
        if !self.same_inputs(&mut wrong, inputs) || !wrong.is_empty() {
            return Ok(wrong);
        }
        let replay = Replay::run(model, inputs)?;
        for (test, &certified) in self.classes.after.iter().enumerate() {
            let class = replay.class(test);
            if class != certified {
                wrong.push(format!("test {test}: class {class}, certified {certified}"));
            }
        }
        for t in &self.repaired {
            let logits = replay.logits(t.test);
            if logits != t.logits {
                wrong.push(format!(
                    "test {}: logits {logits:?}, certified {:?}",
                    t.test, t.logits
                ));
            }
        }
        if self.robust.is_some() {
            let mut again = self.clone();
            again.add_robust(model, inputs, self.robust.as_ref().map_or(0, |r| r.steps))?;
            if again.robust != self.robust {
                wrong.push(format!(
                    "of boxes around the tests: {:?}, certified {:?}",
                    again.robust, self.robust
                ));
            }
            for (is, said) in again.repaired.iter().zip(&self.repaired) {
                if is.robust_steps != said.robust_steps {
                    wrong.push(format!(
                        "test {}: keeps its class for {:?} steps, certified {:?}",
                        is.test, is.robust_steps, said.robust_steps
                    ));
                }
            }
        }
        Ok(wrong)
    }

    /// Replays every repair test on the model before the repair, and lists what does not hold.
    ///
    /// # Errors
    /// [`CertificateError`] where the model cannot be run.
    pub fn replay_original(
        &self,
        model: &QuantizedModel,
        image: &[u8],
        inputs: &[i8],
    ) -> Result<Vec<String>, CertificateError> {
        let mut wrong = Vec::new();
        check_hash(&mut wrong, "original image", &self.original_sha256, image);
        if !self.same_inputs(&mut wrong, inputs) || self.classes.before.len() != self.tests {
            return Ok(wrong);
        }
        let replay = Replay::run(model, inputs)?;
        for (test, &certified) in self.classes.before.iter().enumerate() {
            let class = replay.class(test);
            if class != certified {
                wrong.push(format!(
                    "test {test}: class {class} before the repair, certified {certified}"
                ));
            }
        }
        Ok(wrong)
    }

    fn same_inputs(&self, wrong: &mut Vec<String>, inputs: &[i8]) -> bool {
        let bytes: Vec<u8> = inputs.iter().map(|&q| q as u8).collect();
        let same = sha256_hex(&bytes) == self.inputs_sha256;
        if !same {
            wrong.push(format!(
                "the repair inputs' SHA-256 is {}, the certificate speaks of {}: give the same data, range and preprocessing",
                sha256_hex(&bytes),
                self.inputs_sha256
            ));
        }
        same
    }
}

fn check_hash(wrong: &mut Vec<String>, what: &str, said: &str, bytes: &[u8]) {
    let hash = sha256_hex(bytes);
    if hash != said {
        wrong.push(format!(
            "the {what}'s SHA-256 is {hash}, the certificate speaks of {said}"
        ));
    }
}

/// What in a certificate cannot be true whatever the models compute: its lists and counts follow
/// from the classes of its tests.
pub fn contradictions(c: &Certificate) -> Vec<String> {
    let mut wrong = Vec::new();
    let Classes {
        wanted,
        before,
        after,
    } = &c.classes;
    if [wanted.len(), before.len(), after.len()] != [c.tests; 3] {
        wrong.push(format!(
            "{} wanted classes, {} before and {} after are not those of {} tests",
            wanted.len(),
            before.len(),
            after.len(),
            c.tests
        ));
        return wrong;
    }
    for t in &c.repaired {
        if t.test >= c.tests
            || [t.target, t.before, t.after] != [wanted[t.test], before[t.test], after[t.test]]
        {
            wrong.push(format!(
                "test {}: class {} before and {} after, where {} is wanted, is not what the classes say",
                t.test, t.before, t.after, t.target
            ));
        }
    }
    let which = |f: &dyn Fn(bool, bool) -> bool| -> Vec<usize> {
        (0..c.tests)
            .filter(|&i| f(before[i] == wanted[i], after[i] == wanted[i]))
            .collect()
    };
    let repaired: Vec<usize> = c.repaired.iter().map(|t| t.test).collect();
    for (name, said, is) in [
        ("repaired", &repaired, which(&|was, is| !was && is)),
        ("lost", &c.lost, which(&|was, is| was && !is)),
        ("unfixable", &c.unfixable, which(&|_, is| !is)),
    ] {
        if *said != is {
            wrong.push(format!(
                "{} tests are listed as {name}, and the classes say {}",
                said.len(),
                is.len()
            ));
        }
    }
    let passing = [which(&|was, _| was).len(), which(&|_, is| is).len()];
    if passing != c.passing {
        wrong.push(format!(
            "{} passing tests before and {} after, and the classes say {} and {}",
            c.passing[0], c.passing[1], passing[0], passing[1]
        ));
    }
    if c.settings.strict && !c.lost.is_empty() {
        wrong.push("a strict repair lost tests".into());
    }
    let [before, after] = c.holdout_passing;
    if after < before || after > c.holdout_tests {
        wrong.push(format!(
            "{before} passing holdout tests before and {after} after, of {}",
            c.holdout_tests
        ));
    }
    let asked = c.robust.as_ref().map(|r| r.steps);
    let certified = c
        .repaired
        .iter()
        .filter(|t| {
            t.robust_steps
                .is_some_and(|k| asked.is_some_and(|s| k >= s))
        })
        .count();
    if certified != c.robust.as_ref().map_or(0, |r| r.certified) {
        wrong.push(format!(
            "{certified} tests are certified for the steps asked for, and the count says otherwise"
        ));
    }
    wrong
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

    fn class(&self, test: usize) -> usize {
        argmax(&self.outputs[test * self.width..(test + 1) * self.width])
    }

    fn logits(&self, test: usize) -> &[i8] {
        &self.logits[test * self.logit_width..(test + 1) * self.logit_width]
    }
}
