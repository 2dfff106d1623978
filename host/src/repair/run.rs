//! A whole repair: settings, strategies in turn, and what came of it.

use super::choice::{Judge, choose};
use super::lp::{LpError, Means, Solver};
use super::margin::SHORTEST_LP;
use super::teacher::probabilities;
use super::{Chain, Freedom, Score, State, Strategy, Tests, Variations, Verdict, chain, descent};
use crate::engine::EngineError;
use crate::float::{Backend, FloatError, FloatNet};
use crate::graph::Graph;
use crate::localize::{Localization, LocalizeError, Metric, localize};
use crate::model::QuantizedModel;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use thiserror::Error;

/// Settings of a repair.
#[derive(Clone, Debug)]
pub struct RepairConfig {
    /// How weights are found.
    pub strategy: Chain,
    /// Which metric ranks neurons.
    pub metric: Metric,
    /// Only the most suspicious so many neurons may change; `None` for all (`neuron`: 30).
    pub top: Option<usize>,
    /// Keep every passing repair test passing.
    pub strict: bool,
    /// Stop after this long with the best so far.
    pub time_budget: Option<Duration>,
    /// What solves the programs.
    pub solver: Solver,
    /// Longest time for one program.
    pub lp_limit: Duration,
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// Margins in one program of `margin`.
    pub rows: usize,
    /// Wanted margin in real logit units.
    pub tau: f64,
    /// First trust region of fine edits, in pre-activation deviations (biases) and relative
    /// (multipliers).
    pub radius: f64,
    /// Most rounds of each kind.
    pub rounds: usize,
    /// Whether `margin` also moves weights.
    pub weight_steps: bool,
    /// Most weight steps in one round.
    pub weight_budget: usize,
    /// Random roundings of a round's weight steps that are tried where the plain one is refused.
    pub draws: usize,
    /// How often the whole of it is done, each time from the model as given and with a seed of its own; the
    /// holdout set chooses. Starts share the time budget.
    pub starts: usize,
    /// Weights that enter a program.
    pub weight_candidates: usize,
    /// Rows of one neuron's program in `layer` and `neuron`.
    pub neuron_rows: usize,
    /// How the repair samples are varied for `descent`; `None` for what suits the input's shape.
    pub augment: Option<Variations>,
    /// Of `descent`.
    pub descent: descent::Settings,
    /// The repair is kept only if a gain such as its own would be less probable than this, were it as
    /// likely to break a holdout test as to mend one; or, where it mends more than it breaks, were it as
    /// likely to take a test away from the teacher's probabilities as nearer to them. 1 keeps all that
    /// is not worse.
    pub significance: f64,
    /// What may change.
    pub freedom: Freedom,
    /// Runs the gradients.
    pub backend: Backend,
}

impl Default for RepairConfig {
    fn default() -> Self {
        Self {
            strategy: Strategy::Auto.into(),
            metric: Metric::Ochiai,
            top: None,
            strict: false,
            time_budget: None,
            solver: Solver::default(),
            lp_limit: Duration::from_secs(20),
            seed: 0,
            rows: 1000,
            tau: 0.5,
            radius: 0.1,
            rounds: 12,
            weight_steps: true,
            weight_budget: 60,
            draws: 0,
            starts: 1,
            weight_candidates: 200,
            neuron_rows: 400,
            augment: None,
            descent: descent::Settings::default(),
            significance: 0.05,
            freedom: Freedom::default(),
            backend: Backend::default(),
        }
    }
}

/// One proposed edit, for progress and for the report.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Step {
    /// The strategy that proposed it.
    pub strategy: &'static str,
    /// What was proposed, in words.
    pub what: String,
    /// Nodes, neurons or weights in the proposal.
    pub edits: usize,
    /// What became of it.
    pub verdict: Verdict,
    /// Passing repair tests that the proposal loses.
    pub broken: usize,
    /// The score after the verdict.
    pub score: Score,
}

/// Integers that differ between the models before and after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Edits {
    /// Biases.
    pub biases: usize,
    /// Multipliers.
    pub multipliers: usize,
    /// Weights.
    pub weights: usize,
}

impl Edits {
    /// Counts the differences between two models of one structure.
    pub fn between(a: &QuantizedModel, b: &QuantizedModel) -> Self {
        fn differ<T: PartialEq>(a: &[T], b: &[T]) -> usize {
            a.iter().zip(b).filter(|(a, b)| a != b).count()
        }
        let mut e = Self::default();
        for ((_, a), (_, b)) in a.linears().zip(b.linears()) {
            e.biases += differ(&a.bias, &b.bias);
            e.multipliers += differ(&a.multipliers, &b.multipliers);
            e.weights += differ(&a.weights, &b.weights);
        }
        e
    }
}

/// What a repair came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The repaired model.
    pub model: QuantizedModel,
    /// Score of the model as given.
    pub before: Score,
    /// Score of the repaired model.
    pub after: Score,
    /// Repair tests.
    pub repair_tests: usize,
    /// Holdout tests.
    pub holdout_tests: usize,
    /// Integers changed.
    pub edits: Edits,
    /// Every proposal, in order.
    pub steps: Vec<Step>,
    /// Programs without an answer: what they were for, and why.
    pub unsolved: Vec<(String, LpError)>,
    /// Repair tests that failed before and pass now.
    pub repaired: Vec<usize>,
    /// Repair tests that passed before and fail now (none in strict mode).
    pub lost: Vec<usize>,
    /// Repair tests that still fail.
    pub unfixable: Vec<usize>,
    /// Why the model is as it was although edits were accepted, if it is.
    pub withdrawn: Option<&'static str>,
    /// Why the repair ended early, if it did.
    pub stopped: Option<&'static str>,
    /// Wall time.
    pub seconds: f64,
}

/// Why a repair could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RepairError {
    /// A set has no tests.
    #[error("the {0} set is empty; give at least a few hundred samples (`--{0}`)")]
    Empty(&'static str),
    /// Targets outside the model's classes.
    #[error(
        "the {set} set wants class {class} for test {test}, but the model has {classes} classes"
    )]
    Target {
        /// `repair` or `holdout`.
        set: &'static str,
        /// Index of the test.
        test: usize,
        /// The wanted class.
        class: usize,
        /// Outputs of the model.
        classes: usize,
    },
    /// Localisation failed.
    #[error(transparent)]
    Localize(#[from] LocalizeError),
    /// The integer engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The float network failed.
    #[error(transparent)]
    Float(#[from] FloatError),
}

/// What strategies share: settings, suspects, the clock, and the record.
pub struct Context<'a> {
    /// Settings.
    pub config: &'a RepairConfig,
    /// The float network.
    pub graph: &'a Graph,
    /// Runs it.
    pub float: &'a FloatNet,
    /// Spectra of the model as given.
    pub localization: &'a Localization,
    start: Instant,
    /// When, after the start, the time of this one of several starts is over.
    share: Option<Duration>,
    interrupted: &'a dyn Fn() -> bool,
    progress: &'a mut dyn FnMut(&Step),
    steps: Vec<Step>,
    unsolved: Vec<(String, LpError)>,
}

impl Context<'_> {
    /// Whether time is up or the user asked to stop.
    pub fn stop(&self) -> bool {
        self.stopped().is_some()
    }

    fn stopped(&self) -> Option<&'static str> {
        if (self.interrupted)() {
            Some("interrupted")
        } else if self
            .deadline()
            .is_some_and(|deadline| Instant::now() >= deadline)
        {
            Some("time budget")
        } else {
            None
        }
    }

    /// What is left of the time budget, where there is one.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline()
            .map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }

    /// When the time is over, where there is a budget.
    pub fn deadline(&self) -> Option<Instant> {
        self.share
            .or(self.config.time_budget)
            .map(|after| self.start + after)
    }

    /// How the next program is solved.
    pub fn lp(&self) -> Means {
        let limit = self
            .time_left()
            .map_or(self.config.lp_limit, |l| l.min(self.config.lp_limit))
            .max(SHORTEST_LP);
        Means {
            solver: self.config.solver,
            limit,
        }
    }

    /// Records a proposal.
    pub fn report(&mut self, step: Step) {
        (self.progress)(&step);
        self.steps.push(step);
    }

    /// Records a program without an answer.
    pub fn lp_failed(&mut self, what: String, error: LpError) {
        self.unsolved.push((what, error));
    }

    /// The neurons that may change, as a test of (node, channel).
    pub fn wanted(&self, _state: &State<'_>) -> Box<dyn Fn(usize, usize) -> bool> {
        match self.config.top {
            None => Box::new(|_, _| true),
            Some(top) => {
                let set: BTreeSet<(usize, usize)> = self
                    .localization
                    .ranking(self.config.metric, self.config.seed)
                    .into_iter()
                    .take(top)
                    .map(|r| (r.node, r.channel))
                    .collect();
                Box::new(move |node, channel| set.contains(&(node, channel)))
            }
        }
    }
}

/// What is to be repaired, and on what.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// The float network.
    pub graph: &'a Graph,
    /// Runs it.
    pub float: &'a FloatNet,
    /// The integer model made of it.
    pub model: &'a QuantizedModel,
    /// The tests to mend.
    pub repair: &'a Tests,
    /// The tests that decide what stays.
    pub holdout: &'a Tests,
}

/// Repairs a model.
///
/// `interrupted` is asked between steps; when it says yes the best model so far is the result.
/// `progress` hears of every proposal.
///
/// # Errors
/// [`RepairError`]; a program that cannot be solved is not one (see [`Outcome::unsolved`]).
pub fn repair(
    job: &Job<'_>,
    config: &RepairConfig,
    interrupted: &dyn Fn() -> bool,
    progress: &mut dyn FnMut(&Step),
) -> Result<Outcome, RepairError> {
    let Job {
        graph,
        float,
        model,
        repair,
        holdout,
    } = *job;
    let classes = model.tensor(model.output).elements();
    for (name, set) in [("repair", repair), ("holdout", holdout)] {
        if set.is_empty() {
            return Err(RepairError::Empty(name));
        }
        if let Some((test, &class)) = set.targets.iter().enumerate().find(|(_, t)| **t >= classes) {
            return Err(RepairError::Target {
                set: name,
                test,
                class,
                classes,
            });
        }
    }
    let start = Instant::now();
    let localization = localize(graph, float, model, &repair.reals, &repair.integers)?;
    let begin = || -> Result<State<'_>, RepairError> {
        let mut state = State::new(model.clone(), repair, holdout, config.tau, config.strict)?;
        state.limit(config.freedom.clone());
        Ok(state)
    };
    let mut state = begin()?;
    let before = state.score();
    let passed_before = state.passing().to_vec();
    let mut context = Context {
        config,
        graph,
        float,
        localization: &localization,
        start,
        share: None,
        interrupted,
        progress,
        steps: Vec::new(),
        unsolved: Vec::new(),
    };
    let start_snapshot = state.snapshot();
    let mut candidates = Vec::new();
    let starts = match before.repair < repair.len() && config.rounds > 0 {
        true => config.starts.max(1),
        false => 0,
    };
    let each: Vec<RepairConfig> = (0..starts)
        .map(|k| RepairConfig {
            seed: config.seed.wrapping_add(k as u64),
            ..config.clone()
        })
        .collect();
    for (k, own) in each.iter().enumerate() {
        if k > 0 {
            if context.stop() {
                break;
            }
            candidates.push(std::mem::replace(&mut state, begin()?).into_result());
        }
        context.config = own;
        context.share = context
            .time_left()
            .map(|left| context.start.elapsed() + left / (starts - k) as u32);
        chain::run(&mut state, &mut context, &mut candidates)?;
        context.share = None;
    }
    let stopped = context.stopped();
    let Context {
        steps, unsolved, ..
    } = context;
    candidates.push(state.into_result());
    let teacher = &probabilities(float, graph, &holdout.reals, 1.0)?;
    let judge = Judge { holdout, teacher };
    let choice = choose(&start_snapshot, candidates, &judge, config)?;
    let (mended, after, passes) = (
        choice.snapshot.model,
        choice.snapshot.score,
        choice.snapshot.passing,
    );
    let which = |f: &dyn Fn(bool, bool) -> bool| -> Vec<usize> {
        (0..passes.len())
            .filter(|&i| f(passed_before[i], passes[i]))
            .collect()
    };
    let repaired = which(&|was, is| !was && is);
    let lost = which(&|was, is| was && !is);
    let unfixable = which(&|_, is| !is);
    Ok(Outcome {
        edits: Edits::between(model, &mended),
        model: mended,
        before,
        after,
        repair_tests: repair.len(),
        holdout_tests: holdout.len(),
        steps,
        unsolved,
        repaired,
        lost,
        unfixable,
        withdrawn: choice.withdrawn,
        stopped,
        seconds: start.elapsed().as_secs_f64(),
    })
}
