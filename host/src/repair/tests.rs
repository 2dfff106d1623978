//! What every strategy promises, on a small network made of random weights.

use super::certificate::Certificate;
use super::choice::{Judge, choose};
use super::margin::fine::FineEdits;
use super::margin::program::Family;
use super::margin::rows::endangered;
use super::*;
use crate::calibrate::{Method, calibrate};
use crate::classes::classes;
use crate::engine::Engine;
use crate::export::write_image;
use crate::float::{Backend, FloatNet, Surrogate};
use crate::graph::{
    Activation, Conv2d, FullyConnected, Graph, Node, Op, Pads, Value, ValueId, Weights,
};
use crate::localize::Metric;
use crate::model::{Preprocess, QuantizedModel};
use crate::quantize::{QuantizeConfig, quantize};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::time::Duration;

const CLASSES: usize = 5;
const SAMPLE: usize = 6 * 6 * 2;

fn weights(rng: &mut StdRng, shape: &[usize]) -> Weights {
    let n: usize = shape.iter().product();
    let fan_in: usize = shape[1..].iter().product();
    let scale = (3.0 / fan_in as f32).sqrt();
    Weights {
        shape: shape.to_vec(),
        data: (0..n)
            .map(|_| scale * (2.0 * rng.random::<f32>() - 1.0))
            .collect(),
    }
}

/// Two convolutions and a fully connected layer over 6 x 6 x 2 inputs.
fn network(rng: &mut StdRng) -> Graph {
    let value = |name: &str, shape| Value {
        name: name.into(),
        shape,
    };
    let conv = |rng: &mut StdRng, inputs: usize, outputs: usize, stride: usize| {
        Op::Conv2d(Conv2d {
            weights: weights(rng, &[outputs, 3, 3, inputs]),
            bias: (0..outputs)
                .map(|_| 0.2 * rng.random::<f32>() - 0.1)
                .collect(),
            stride: [stride; 2],
            dilation: [1; 2],
            pads: Pads {
                top: 1,
                left: 1,
                bottom: 1,
                right: 1,
            },
            groups: 1,
            activation: Activation::Relu,
        })
    };
    let node = |name: &str, op, from, to| Node {
        name: name.into(),
        op,
        inputs: vec![ValueId(from)],
        output: ValueId(to),
    };
    Graph {
        name: "small".into(),
        values: vec![
            value("x", [6, 6, 2]),
            value("a", [6, 6, 8]),
            value("b", [3, 3, 8]),
            value("y", [1, 1, CLASSES]),
        ],
        nodes: vec![
            node("conv1", conv(rng, 2, 8, 1), 0, 1),
            node("conv2", conv(rng, 8, 8, 2), 1, 2),
            node(
                "fc",
                Op::FullyConnected(FullyConnected {
                    weights: weights(rng, &[CLASSES, 72]),
                    bias: vec![0.0; CLASSES],
                    activation: Activation::Identity,
                }),
                2,
                3,
            ),
        ],
        input: ValueId(0),
        output: ValueId(3),
        input_was_nchw: false,
    }
}

pub(super) struct World {
    pub graph: Graph,
    float: FloatNet,
    pub(super) model: QuantizedModel,
    repair: Tests,
    holdout: Tests,
}

impl World {
    pub(super) fn new(bits: u8) -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let graph = network(&mut rng);
        let float = FloatNet::new(&graph, Backend::default()).unwrap();
        let mut samples =
            |n: usize| -> Vec<f32> { (0..n * SAMPLE).map(|_| rng.random::<f32>()).collect() };
        let calibration = samples(64);
        let ranges = calibrate(&graph, &float, &calibration, Method::MinMax).unwrap();
        let config = QuantizeConfig {
            bits,
            ..QuantizeConfig::default()
        };
        let model = quantize(
            &graph,
            &ranges,
            &config,
            &calibration,
            Preprocess::default(),
        )
        .unwrap();
        let input = model.tensor(model.input).clone();
        let mut tests = |n: usize| {
            let reals = samples(n);
            let integers = reals.iter().map(|&x| input.quantize(x)).collect();
            Tests::from_teacher(&float, reals, integers, SAMPLE, CLASSES).unwrap()
        };
        let (repair, holdout) = (tests(300), tests(300));
        World {
            graph,
            float,
            model,
            repair,
            holdout,
        }
    }

    pub(super) fn state(&self) -> State<'_> {
        State::new(self.model.clone(), &self.repair, &self.holdout, 0.5, false).unwrap()
    }

    fn job(&self) -> Job<'_> {
        Job {
            graph: &self.graph,
            float: &self.float,
            model: &self.model,
            repair: &self.repair,
            holdout: &self.holdout,
        }
    }

    fn repair(&self, config: &RepairConfig) -> Outcome {
        repair(&self.job(), config, &|| false, &mut |_| ()).unwrap()
    }
}

/// Tests of a set that a model passes, by an engine of its own.
fn passes(model: &QuantizedModel, tests: &Tests) -> Vec<bool> {
    let outputs = Engine::new(model).unwrap().run(&tests.integers);
    classes(&outputs, CLASSES)
        .iter()
        .zip(&tests.targets)
        .map(|(a, b)| a == b)
        .collect()
}

fn count(passes: &[bool]) -> usize {
    passes.iter().filter(|&&p| p).count()
}

#[test]
fn every_strategy_reports_what_a_fresh_engine_finds_and_never_harms_the_holdout_set() {
    let world = World::new(2);
    let before = passes(&world.model, &world.repair);
    assert!(
        count(&before) < 290,
        "nothing to mend makes this test empty"
    );
    for strategy in [
        Strategy::Neuron,
        Strategy::Layer,
        Strategy::Margin,
        Strategy::Descent,
        Strategy::Auto,
    ] {
        let o = world.repair(&RepairConfig {
            strategy: strategy.into(),
            ..RepairConfig::default()
        });
        let after = passes(&o.model, &world.repair);
        let held = count(&passes(&o.model, &world.holdout));
        assert_eq!(
            (o.before.repair, o.after.repair),
            (count(&before), count(&after)),
            "{strategy}"
        );
        assert_eq!(o.after.holdout, held, "{strategy}");
        assert!(o.after.holdout >= o.before.holdout, "{strategy}");
        assert!(o.after.repair >= o.before.repair, "{strategy}");
        let which = |f: &dyn Fn(bool, bool) -> bool| -> Vec<usize> {
            (0..before.len())
                .filter(|&i| f(before[i], after[i]))
                .collect()
        };
        assert_eq!(o.repaired, which(&|b, a| !b && a), "{strategy}");
        assert_eq!(o.lost, which(&|b, a| b && !a), "{strategy}");
        assert_eq!(o.unfixable, which(&|_, a| !a), "{strategy}");
        assert_eq!(
            o.edits,
            Edits::between(&world.model, &o.model),
            "{strategy}"
        );
        write_image(&o.model).expect("a repaired model is still a sound image");
    }
}

#[test]
fn margin_descent_and_auto_mend_most_of_what_two_bits_broke() {
    let world = World::new(2);
    for strategy in [Strategy::Margin, Strategy::Descent, Strategy::Auto] {
        let o = world.repair(&RepairConfig {
            strategy: strategy.into(),
            ..RepairConfig::default()
        });
        let broken = o.repair_tests - o.before.repair;
        assert!(
            2 * o.repaired.len() > broken,
            "{strategy}: {} of {broken}",
            o.repaired.len()
        );
        assert!(o.after.holdout > o.before.holdout, "{strategy}");
    }
}

#[test]
fn strict_mode_loses_no_test_that_passed() {
    for bits in [2, 3] {
        let world = World::new(bits);
        for strategy in [
            Strategy::Neuron,
            Strategy::Layer,
            Strategy::Margin,
            Strategy::Auto,
        ] {
            let config = RepairConfig {
                strategy: strategy.into(),
                strict: true,
                ..RepairConfig::default()
            };
            let o = world.repair(&config);
            assert!(o.lost.is_empty(), "{strategy}, {bits} bits: {:?}", o.lost);
            let after = passes(&o.model, &world.repair);
            let before = passes(&world.model, &world.repair);
            assert!(
                before.iter().zip(&after).all(|(b, a)| *a || !b),
                "{strategy}, {bits} bits"
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_model() {
    let world = World::new(3);
    let config = RepairConfig {
        seed: 5,
        ..RepairConfig::default()
    };
    assert_eq!(world.repair(&config).model, world.repair(&config).model);
}

#[test]
fn an_interruption_keeps_the_best_so_far() {
    let world = World::new(2);
    let accepted = std::cell::Cell::new(0);
    let config = RepairConfig {
        strategy: Strategy::Margin.into(),
        ..RepairConfig::default()
    };
    let o = repair(&world.job(), &config, &|| accepted.get() >= 1, &mut |s| {
        accepted.set(accepted.get() + usize::from(s.verdict == Verdict::Accepted))
    })
    .unwrap();
    assert_eq!(o.stopped, Some("interrupted"));
    assert!(o.after.repair > o.before.repair);
    assert_eq!(o.after.repair, count(&passes(&o.model, &world.repair)));
}

#[test]
fn no_rounds_mean_no_change() {
    let world = World::new(2);
    for strategy in [
        "neuron",
        "layer",
        "margin",
        "descent",
        "auto",
        "layer,margin",
    ] {
        let o = world.repair(&RepairConfig {
            strategy: strategy.parse().unwrap(),
            rounds: 0,
            ..RepairConfig::default()
        });
        assert_eq!(o.model, world.model, "{strategy}");
        assert_eq!(
            (o.edits, o.steps.len()),
            (Edits::default(), 0),
            "{strategy}"
        );
    }
}

#[test]
fn a_chain_goes_on_from_where_its_first_strategy_ended() {
    let world = World::new(2);
    let o = world.repair(&RepairConfig {
        strategy: "layer,margin".parse().unwrap(),
        ..RepairConfig::default()
    });
    let alone = world.repair(&RepairConfig {
        strategy: Strategy::Layer.into(),
        ..RepairConfig::default()
    });
    let first: Vec<_> = o.steps.iter().filter(|s| s.strategy == "layer").collect();
    assert_eq!(first.len(), alone.steps.len());
    let last = o.steps.iter().rposition(|s| s.strategy == "layer").unwrap();
    assert!(o.steps[last + 1..].iter().all(|s| s.strategy == "margin"));
    assert!(o.after.holdout >= alone.after.holdout);
}

#[test]
fn a_candidate_that_loses_a_passing_test_is_no_result_of_a_strict_repair() {
    let world = World::new(2);
    let o = world.repair(&RepairConfig {
        strategy: Strategy::Descent.into(),
        ..RepairConfig::default()
    });
    assert!(!o.lost.is_empty(), "nothing lost makes this test empty");
    let snapshot = |model: &QuantizedModel| {
        State::new(model.clone(), &world.repair, &world.holdout, 0.5, false)
            .unwrap()
            .snapshot()
    };
    let start = snapshot(&world.model);
    let holdout = &world.holdout;
    let teacher = &teacher::probabilities(&world.float, &world.graph, &holdout.reals, 1.0).unwrap();
    let judge = Judge { holdout, teacher };
    let chosen = |strict| {
        let config = RepairConfig {
            strict,
            ..RepairConfig::default()
        };
        let candidates = vec![snapshot(&o.model)];
        choose(&start, candidates, &judge, &config)
            .unwrap()
            .snapshot
            .model
    };
    assert_eq!(chosen(false), o.model);
    assert_eq!(chosen(true), world.model);
}

#[test]
fn a_gain_within_chance_is_withdrawn_and_so_is_one_that_the_labels_deny() {
    let world = World::new(2);
    let strategy = Chain::from(Strategy::Margin);
    let config = RepairConfig {
        strategy,
        ..RepairConfig::default()
    };
    assert_eq!(world.repair(&config).withdrawn, None);
    let doubtful = RepairConfig {
        significance: 1e-300,
        ..config.clone()
    };
    let o = world.repair(&doubtful);
    assert!(o.withdrawn.unwrap().contains("chance"));
    assert_eq!((&o.model, o.after), (&world.model, o.before));
    assert!(o.steps.iter().any(|s| s.verdict == Verdict::Accepted));

    let mut world = world;
    let outputs = Engine::new(&world.model)
        .unwrap()
        .run(&world.holdout.integers);
    world.holdout.labels = Some(classes(&outputs, CLASSES));
    let o = world.repair(&config);
    assert!(o.withdrawn.unwrap().contains("labels"));
    assert_eq!(o.model, world.model);
}

#[test]
fn several_starts_are_no_worse_than_the_first_and_draw_with_seeds_of_their_own() {
    let world = World::new(2);
    let config = RepairConfig {
        strategy: Strategy::Descent.into(),
        rounds: 1,
        ..RepairConfig::default()
    };
    let one = world.repair(&config);
    let three = world.repair(&RepairConfig {
        starts: 3,
        ..config.clone()
    });
    assert_eq!(three.steps.len(), 3 * one.steps.len());
    assert!(three.after.holdout >= one.after.holdout);
    let second = world.repair(&RepairConfig { seed: 1, ..config });
    let what = |o: &Outcome, from: usize| -> Vec<String> {
        let steps = o.steps[from..].iter().take(one.steps.len());
        steps.map(|s| s.what.clone()).collect()
    };
    assert_eq!(what(&three, one.steps.len()), what(&second, 0));
    assert_ne!(one.model, second.model);
}

#[test]
fn drawn_roundings_are_tried_where_the_plain_one_is_refused() {
    let world = World::new(2);
    let steps = |draws: usize| {
        let config = RepairConfig {
            strategy: Strategy::Margin.into(),
            draws,
            ..RepairConfig::default()
        };
        let o = world.repair(&config);
        let drawn = |s: &&Step| s.what.ends_with("drawn");
        (o.steps.iter().filter(drawn).count(), o.after.holdout)
    };
    let ((none, _), (some, holdout)) = (steps(0), steps(4));
    assert_eq!(none, 0);
    assert!(some > 0 && holdout >= world.state().score().holdout);
}

#[test]
fn no_time_means_no_change_and_no_error() {
    let world = World::new(2);
    let config = RepairConfig {
        time_budget: Some(Duration::ZERO),
        ..RepairConfig::default()
    };
    let o = world.repair(&config);
    assert_eq!(o.stopped, Some("time budget"));
    assert_eq!(o.model, world.model);
}

#[test]
fn neurons_outside_the_limit_stay_as_they_are() {
    let world = World::new(2);
    for metric in [Metric::Ochiai, Metric::Random] {
        let config = RepairConfig {
            metric,
            top: Some(3),
            seed: 2,
            ..RepairConfig::default()
        };
        let o = world.repair(&config);
        let changed: usize = world
            .model
            .linears()
            .zip(o.model.linears())
            .map(|((_, a), (_, b))| {
                (0..a.out_channels())
                    .filter(|&c| {
                        a.row(c) != b.row(c)
                            || a.bias[c] != b.bias[c]
                            || a.multipliers[c] != b.multipliers[c]
                    })
                    .count()
            })
            .sum();
        assert!(changed <= 3, "{metric}: {changed} neurons changed");
    }
}

#[test]
fn the_linearisation_foretells_what_a_small_bias_change_does_to_margins() {
    let world = World::new(4);
    let state = State::new(
        world.model.clone(),
        &world.repair,
        &world.holdout,
        0.5,
        false,
    )
    .unwrap();
    let surrogate = Surrogate::new(state.model(), Backend::default()).unwrap();
    let family = FineEdits::new(&state, &|_, _| true);
    let rows = endangered(&state, 200);
    let g = family.coefficients(&state, &surrogate, &rows).unwrap();
    let k = family.count();
    assert_eq!(g.len(), rows.len() * k);
    // The last layer is linear up to its own rounding: its biases must be foretold to within a step
    // of each of the two logits.
    let quantum = state.model().tensor(state.logits()).scale as f64;
    let mut solution = vec![0.0; k];
    for (j, d) in solution.iter_mut().enumerate().skip(k - 2 * CLASSES) {
        *d = if j % 2 == 0 {
            0.3 - 0.1 * ((j / 2) % 5) as f64
        } else {
            0.0
        };
    }
    let mut edited = state.model().clone();
    for (node, linear) in family.proposal(state.model(), &solution) {
        *edited.nodes[node].op.linear_mut().unwrap() = linear;
    }
    let logits = Engine::new(&edited).unwrap().run(&world.repair.integers);
    for (row, g) in rows.iter().zip(g.chunks_exact(k)) {
        let foretold: f64 = row.margin
            + g.iter()
                .zip(&solution)
                .map(|(&g, d)| g as f64 * d)
                .sum::<f64>();
        let at = |class: usize| logits[row.test * CLASSES + class] as f64 * quantum;
        let found = at(row.target) - at(row.rival);
        assert!(
            (foretold - found).abs() <= 2.0 * quantum + 1e-6,
            "{foretold} {found} {quantum}"
        );
    }
}

#[test]
fn a_certificate_replays_and_notices_every_lie() {
    let world = World::new(2);
    let config = RepairConfig::default();
    let o = world.repair(&config);
    assert!(!o.repaired.is_empty());
    let (original, image) = (
        write_image(&world.model).unwrap(),
        write_image(&o.model).unwrap(),
    );
    let c = Certificate::new(
        (&world.model, &original),
        &o,
        &image,
        &world.repair,
        Targets::Teacher,
        &config,
    )
    .unwrap();
    let c = Certificate::from_json(&c.to_json()).unwrap();
    let replay = |c: &Certificate, model: &QuantizedModel, image: &[u8], inputs: &[i8]| {
        c.replay(model, image, inputs).unwrap()
    };
    assert_eq!(
        replay(&c, &o.model, &image, &world.repair.integers),
        [""; 0]
    );
    assert!(!replay(&c, &world.model, &original, &world.repair.integers).is_empty());
    assert!(!replay(&c, &o.model, &image, &world.holdout.integers).is_empty());
    let mut lie = c.clone();
    lie.repaired[0].logits[0] ^= 1;
    assert!(!replay(&lie, &o.model, &image, &world.repair.integers).is_empty());
    let mut lie = c;
    lie.schema = 99;
    assert!(Certificate::from_json(&lie.to_json()).is_err());
}

#[test]
fn empty_sets_and_impossible_targets_are_refused() {
    let mut world = World::new(8);
    world.repair.targets[3] = CLASSES;
    let config = RepairConfig::default();
    let run = |w: &World| repair(&w.job(), &config, &|| false, &mut |_| ());
    let said = run(&world).unwrap_err().to_string();
    assert!(
        said.contains("test 3") && said.contains("5 classes"),
        "{said}"
    );
    world.holdout = Tests {
        reals: vec![],
        integers: vec![],
        targets: vec![],
        sample: SAMPLE,
        extra: vec![],
        labels: None,
    };
    assert!(matches!(
        run(&world),
        Err(RepairError::Empty("holdout") | RepairError::Target { .. })
    ));
}
