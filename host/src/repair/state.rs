//! The model under repair, and the rule by which an edit stays.

use super::{Freedom, Tests};
use crate::classes::argmax;
use crate::engine::{Activations, Engine, EngineError};
use crate::model::{Linear, Op, QuantizedModel, TensorId};

/// How well a model does on the repair and holdout sets.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Score {
    /// Repair tests whose class is the wanted one.
    pub repair: usize,
    /// Holdout tests whose class is the wanted one.
    pub holdout: usize,
    /// Sum over repair tests of `max(0, tau - margin)` in real logit units; breaks ties.
    pub loss: f64,
}

/// What became of a proposed edit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It stays.
    Accepted,
    /// It fixed no more than it broke on the repair set.
    NoGain,
    /// Strict mode: it fixed too little for the tests that it broke.
    BrokePassing,
    /// The holdout set got worse.
    HoldoutWorse,
    /// It changed no integer.
    Unchanged,
    /// The new weights could overflow an accumulator.
    Overflow,
    /// Nothing was proposed: a look at how far a search has come.
    Watched,
}

/// New integers for some nodes: `(node, its whole linear part)`.
pub type Proposal = Vec<(usize, Linear)>;

/// The model under repair with everything cached that judging an edit needs.
pub struct State<'a> {
    /// The model as accepted so far.
    model: QuantizedModel,
    engine: Engine,
    activations: Activations,
    repair: &'a Tests,
    holdout: &'a Tests,
    /// Where margins are measured: before a final softmax.
    logits: TensorId,
    /// Wanted margin in real logit units.
    tau: f64,
    strict: bool,
    freedom: Freedom,
    passing: Vec<bool>,
    passed_at_start: Vec<bool>,
    /// Tests that passed at the start and fail under the last proposal.
    broken: Vec<usize>,
    score: Score,
    /// In strict mode, the best model so far that loses nothing.
    best: Option<Snapshot>,
    /// What a lost test weighs against a fixed one.
    lost_weight: usize,
    /// Holdout agreement below which no edit stays.
    holdout_floor: usize,
    holdout_at_start: usize,
}

/// An accepted model with what is known of it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The model.
    pub model: QuantizedModel,
    /// Its score.
    pub score: Score,
    /// Which repair tests it passes.
    pub passing: Vec<bool>,
}

/// In strict mode a test that passed at the start counts this many times, so that the search may
/// cross states in which a few are lost; only a state in which none is can be the result.
const LOST: usize = 5;
/// The same while lost tests are being won back.
const LOST_RESTORING: usize = 100;

impl<'a> State<'a> {
    /// Evaluates the model and starts from it.
    ///
    /// # Errors
    /// [`EngineError`] where the model cannot be run.
    pub fn new(
        model: QuantizedModel,
        repair: &'a Tests,
        holdout: &'a Tests,
        tau: f64,
        strict: bool,
    ) -> Result<Self, EngineError> {
        let engine = Engine::new(&model)?;
        let activations = engine.activations(&repair.integers);
        let logits = logits(&model);
        let mut state = Self {
            model,
            engine,
            activations,
            repair,
            holdout,
            logits,
            tau,
            strict,
            freedom: Freedom::default(),
            passing: Vec::new(),
            passed_at_start: Vec::new(),
            broken: Vec::new(),
            best: None,
            lost_weight: LOST,
            holdout_floor: 0,
            holdout_at_start: 0,
            score: Score {
                repair: 0,
                holdout: 0,
                loss: 0.0,
            },
        };
        let (passing, loss) = state.judge_repair();
        state.score = Score {
            repair: passing.iter().filter(|&&p| p).count(),
            holdout: state.agreeing_holdout(),
            loss,
        };
        state.holdout_floor = state.score.holdout;
        state.holdout_at_start = state.score.holdout;
        state.passed_at_start = passing.clone();
        state.passing = passing;
        Ok(state)
    }

    /// Limits what proposals may change; whatever else they hold is left out of them.
    pub fn limit(&mut self, freedom: Freedom) {
        self.freedom = freedom;
    }

    /// What proposals may change.
    pub fn freedom(&self) -> &Freedom {
        &self.freedom
    }

    /// The model as accepted so far.
    pub fn model(&self) -> &QuantizedModel {
        &self.model
    }

    /// The model as accepted so far, to be chosen from at the end.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            model: self.model.clone(),
            score: self.score,
            passing: self.passing.clone(),
        }
    }

    /// The result. In strict mode it is the best accepted model that loses nothing.
    pub fn into_result(self) -> Snapshot {
        let lossless = self.lost_count() == 0;
        match self.best {
            Some(best) if self.strict && !lossless => best,
            _ => Snapshot {
                model: self.model,
                score: self.score,
                passing: self.passing,
            },
        }
    }

    /// Starts (or ends) winning back lost tests in strict mode: they weigh far more than others, and
    /// the holdout set need only stay as good as it was at the start.
    pub fn restore_lost(&mut self, on: bool) {
        self.lost_weight = if on { LOST_RESTORING } else { LOST };
        self.holdout_floor = if on {
            self.holdout_at_start
        } else {
            self.score.holdout
        };
    }

    /// Goes back to the best accepted model that loses nothing.
    pub fn return_to_lossless(&mut self) {
        let Some(best) = self.best.take() else { return };
        let nodes: Vec<usize> = best.model.linears().map(|(node, _)| node).collect();
        self.model = best.model;
        for &node in &nodes {
            self.engine
                .update_node(&self.model, node)
                .expect("a model that was accepted before still fits");
        }
        self.activations.rerun(&self.engine, 0);
        self.score = best.score;
        self.passing = best.passing;
        self.restore_lost(false);
    }

    /// Whether lost tests are being won back.
    pub fn restoring(&self) -> bool {
        self.lost_weight == LOST_RESTORING
    }

    /// Number of tests that passed at the start and fail now.
    pub fn lost_count(&self) -> usize {
        self.lost(&self.passing).len()
    }

    /// Whether a repair test passed before the repair.
    pub fn passed_at_start(&self, test: usize) -> bool {
        self.passed_at_start[test]
    }

    /// The engine that runs the accepted model.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// All tensors of the accepted model on the repair set.
    pub fn activations(&self) -> &Activations {
        &self.activations
    }

    /// The repair set.
    pub fn repair(&self) -> &'a Tests {
        self.repair
    }

    /// The holdout set.
    pub fn holdout(&self) -> &'a Tests {
        self.holdout
    }

    /// Where margins are measured.
    pub fn logits(&self) -> TensorId {
        self.logits
    }

    /// The wanted margin.
    pub fn tau(&self) -> f64 {
        self.tau
    }

    /// Whether no passing repair test may be lost.
    pub fn strict(&self) -> bool {
        self.strict
    }

    /// The accepted model's score.
    pub fn score(&self) -> Score {
        self.score
    }

    /// Repair tests that passed at the start and fail under the last proposal.
    pub fn broken(&self) -> &[usize] {
        &self.broken
    }

    /// Which repair tests pass.
    pub fn passing(&self) -> &[bool] {
        &self.passing
    }

    /// What an edit would come to, whether or not it would stay; nothing changes. `None` where it
    /// could overflow an accumulator.
    ///
    /// # Errors
    /// [`EngineError`] where the model cannot be run.
    pub fn appraise(&self, proposal: Proposal) -> Result<Option<Snapshot>, EngineError> {
        let mut model = self.model.clone();
        for (node, mut new) in proposal {
            if let Some(slot) = model.nodes[node].op.linear_mut() {
                self.freedom.conform(node, slot, &mut new);
                *slot = new;
            }
        }
        match State::new(model, self.repair, self.holdout, self.tau, self.strict) {
            Ok(state) => Ok(Some(state.snapshot())),
            Err(EngineError::AccumulatorBound { .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Replays an edit bit for bit and keeps it when it fixes more than it breaks on the repair set
    /// (or fixes as many with larger margins) and the holdout agreement does not fall. In strict mode
    /// each lost test counts several times. What may not change ([`State::limit`]) is left out. Otherwise everything is as before.
    pub fn propose(&mut self, proposal: Proposal) -> Verdict {
        let changed: Vec<(usize, Linear)> = proposal
            .into_iter()
            .filter_map(|(node, mut new)| {
                let old = self.model.nodes[node].op.linear()?;
                self.freedom.conform(node, old, &mut new);
                (old != &new).then_some((node, new))
            })
            .collect();
        let Some(first) = changed.iter().map(|(node, _)| *node).min() else {
            return Verdict::Unchanged;
        };
        let nodes: Vec<usize> = changed.iter().map(|(n, _)| *n).collect();

        let before = self.swap(changed);
        if nodes
            .iter()
            .any(|&n| self.engine.update_node(&self.model, n).is_err())
        {
            self.undo(before, &nodes);
            return Verdict::Overflow;
        }
        let rewind = self.activations.rerun(&self.engine, first);
        let (passing, loss) = self.judge_repair();
        let repair = passing.iter().filter(|&&p| p).count();
        let better = repair > self.score.repair
            || (repair == self.score.repair && loss < self.score.loss * (1.0 - 1e-4));
        let lost_before = self.lost(&self.passing);
        self.broken = self.lost(&passing);
        let weight = self.lost_weight;
        let penalty = weight * self.broken.len();
        let pays = repair + weight * lost_before.len() > self.score.repair + penalty
            || (self.broken.len() <= lost_before.len() && better);
        let verdict = if self.strict && !pays && !self.broken.is_empty() {
            Verdict::BrokePassing
        } else if !(better || self.strict && pays) {
            Verdict::NoGain
        } else {
            let holdout = self.agreeing_holdout();
            if holdout < self.holdout_floor {
                Verdict::HoldoutWorse
            } else {
                // What is left behind was the last state without a loss.
                if self.strict && lost_before.is_empty() && !self.broken.is_empty() {
                    let mut model = self.model.clone();
                    for (node, linear) in before {
                        if let Some(slot) = model.nodes[node].op.linear_mut() {
                            *slot = linear;
                        }
                    }
                    let passing = std::mem::take(&mut self.passing);
                    self.best = Some(Snapshot {
                        model,
                        score: self.score,
                        passing,
                    });
                }
                self.score = Score {
                    repair,
                    holdout,
                    loss,
                };
                self.passing = passing;
                self.holdout_floor = if self.restoring() {
                    self.holdout_at_start
                } else {
                    holdout
                };
                return Verdict::Accepted;
            }
        };
        self.undo(before, &nodes);
        self.activations.restore(rewind);
        verdict
    }

    /// Tests that passed at the start and do not under `passing`.
    fn lost(&self, passing: &[bool]) -> Vec<usize> {
        (0..passing.len())
            .filter(|&i| self.passed_at_start[i] && !passing[i])
            .collect()
    }

    /// Exchanges linear parts; gives back what was there.
    fn swap(&mut self, new: Proposal) -> Proposal {
        new.into_iter()
            .map(|(node, l)| {
                let slot = self.model.nodes[node]
                    .op
                    .linear_mut()
                    .expect("edits name linear nodes");
                (node, std::mem::replace(slot, l))
            })
            .collect()
    }

    fn undo(&mut self, before: Proposal, nodes: &[usize]) {
        self.swap(before);
        for &n in nodes {
            self.engine
                .update_node(&self.model, n)
                .expect("the model that was accepted before still fits");
        }
    }

    /// Which repair tests pass, and the hinge loss.
    fn judge_repair(&self) -> (Vec<bool>, f64) {
        let out = self.model.tensor(self.model.output).elements();
        let width = self.model.tensor(self.logits).elements();
        let scale = self.model.tensor(self.logits).scale as f64;
        let outputs = self.activations.tensor(self.model.output);
        let logits = self.activations.tensor(self.logits);
        let mut loss = 0.0;
        let passing = (0..self.repair.len())
            .map(|i| {
                let target = self.repair.targets[i];
                let row = &logits[i * width..(i + 1) * width];
                let rival = (0..width)
                    .filter(|&j| j != target)
                    .map(|j| row[j] as i32)
                    .max()
                    .unwrap_or(-128);
                let margin = scale * (row[target] as i32 - rival) as f64;
                loss += (self.tau - margin).max(0.0);
                argmax(&outputs[i * out..(i + 1) * out]) == target
            })
            .collect();
        (passing, loss)
    }

    fn agreeing_holdout(&self) -> usize {
        let out = self.model.tensor(self.model.output).elements();
        let outputs = self.engine.run(&self.holdout.integers);
        outputs
            .chunks_exact(out.max(1))
            .zip(&self.holdout.targets)
            .filter(|(row, t)| argmax(row) == **t)
            .count()
    }
}

/// The tensor in which classes compete: the output, or the input of a final softmax.
pub fn logits(model: &QuantizedModel) -> TensorId {
    model
        .nodes
        .iter()
        .find(|n| n.output == model.output && matches!(n.op, Op::Softmax { .. }))
        .map_or(model.output, |n| n.inputs[0])
}
