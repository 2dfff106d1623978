//! Real numbers behind the integers of a network.

use crate::graph::{Graph, Op};
use crate::localize::matched_layers;
use crate::model::patches::Patches;
use crate::model::{Linear, QuantizedModel};
use crate::repair::State;
use crate::repair::margin::fine::{deviations, scaled};
use crate::repair::state::Proposal;
use std::collections::BTreeMap;

/// Samples from which the means of inputs are taken.
const SAMPLES: usize = 256;
/// How far beyond the lattice's ends a weight's real number may go, in steps.
const BEYOND: f32 = 0.49;
/// How far from its integer a weight's real number may start, in steps.
///
/// A number right at the border between two integers changes its mind at the first batch. At half of
/// the way there, batches must agree for a while; yet what was nearly rounded the other way still
/// changes first.
const WITHIN: f32 = 0.25;

/// Gradient of the loss for one node: per weight step, per real unit of the pre-activation, and per
/// relative change of the multiplier.
pub struct Gradient {
    /// `[out_c][taps]`, with the channel's mean held.
    pub weights: Vec<f64>,
    /// `[out_c]`
    pub bias: Vec<f64>,
    /// `[out_c]`
    pub gain: Vec<f64>,
}

impl Gradient {
    /// Adds that of other samples.
    pub fn add(&mut self, other: &Gradient) {
        let own = [&mut self.weights, &mut self.bias, &mut self.gain];
        for (to, from) in own
            .into_iter()
            .zip([&other.weights, &other.bias, &other.gain])
        {
            to.iter_mut().zip(from).for_each(|(t, f)| *t += f);
        }
    }
}

/// How far one round moves: weights in steps, biases in deviations of the pre-activation,
/// multipliers relative.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    pub weights: f32,
    /// How strongly a weight's real number is drawn to its integer, at half of the way to the next one in moves of `weights`.
    ///
    /// The integer that is best on average often lies between two, and the real number then swings
    /// about the border: to either side, every batch says that the other is better. What the network
    /// is at the end is a matter of chance, and biases and multipliers have followed an average that no
    /// integer gives (Nagel et al., "Overcoming oscillations in quantization-aware training", ICML
    /// 2022, whose dampening this is, as a part of the gradient's own move).
    pub damping: f32,
    pub bias: f32,
    pub gain: f32,
}

/// The real numbers behind one node's integers.
#[derive(Clone)]
struct Reals {
    /// One per weight, in steps.
    weights: Vec<f32>,
    /// Bias plus the weights' share of the channel's mean, in accumulator units.
    centred_bias: Vec<f64>,
    /// Factor on the multiplier.
    gain: Vec<f64>,
}

impl Reals {
    /// Keeps this share of itself, and takes the rest from `other`.
    fn follow(&mut self, other: &Reals, keep: f64) {
        let take = 1.0 - keep;
        for (a, b) in self.weights.iter_mut().zip(&other.weights) {
            *a += take as f32 * (b - *a);
        }
        let own = self.centred_bias.iter_mut().chain(&mut self.gain);
        for (a, b) in own.zip(other.centred_bias.iter().chain(&other.gain)) {
            *a += take * (b - *a);
        }
    }
}

/// One node under way.
struct Node {
    old: Linear,
    now: Reals,
    /// Their running average: where they swing, it is nearer to the middle (Polyak, Juditsky,
    /// "Acceleration of stochastic approximation by averaging", 1992).
    average: Reals,
    /// Mean of `x - zero point` that each weight sees; 0 where the bias may not follow.
    means: Vec<f32>,
    /// Deviation of the pre-activation, in real units.
    unit: f64,
    /// Which channels may change at all, and of those: biases.
    wanted: Vec<bool>,
    free: Free,
    moments: Moments,
}

struct Free {
    weights: bool,
    bias: bool,
    gain: bool,
}

/// Running means of the gradient and of its square (Kingma, Ba, "Adam", ICLR 2015).
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

const DECAY: [f32; 2] = [0.9, 0.99];

impl Moments {
    fn new(n: usize) -> Self {
        Self {
            first: vec![0.0; n],
            second: vec![0.0; n],
        }
    }

    /// The direction of entry `k`, about one long where batches agree and about zero where not.
    fn direction(&mut self, k: usize, gradient: f64, round: i32) -> f32 {
        let g = gradient as f32;
        let [a, b] = DECAY;
        self.first[k] = a * self.first[k] + (1.0 - a) * g;
        self.second[k] = b * self.second[k] + (1.0 - b) * g * g;
        let mean = self.first[k] / (1.0 - a.powi(round));
        let square = self.second[k] / (1.0 - b.powi(round));
        mean / (square.sqrt() + 1e-12)
    }
}

/// The real numbers of a whole network.
pub struct Latent {
    nodes: BTreeMap<usize, Node>,
    round: i32,
}

impl Latent {
    /// Starts at the integers of the accepted model; a weight's real number in the direction of its
    /// float twin, so that those that were nearly rounded the other way change first.
    pub fn new(
        state: &State<'_>,
        graph: &Graph,
        wanted: &dyn Fn(usize, usize) -> bool,
        weight_steps: bool,
    ) -> Self {
        let twins = twins(graph, state.model());
        let model = state.model();
        let units = deviations(state);
        let freedom = state.freedom();
        let nodes = model
            .linears()
            .map(|(i, old)| {
                let (channels, taps) = (old.out_channels(), old.taps());
                let free = Free {
                    weights: weight_steps && !freedom.fixed_weights.contains(&i),
                    bias: !freedom.fixed_biases.contains(&i),
                    gain: freedom.multipliers,
                };
                let means = if free.bias && free.weights {
                    let input = model.nodes[i].inputs[0];
                    let e = model.tensor(input).elements();
                    let all = state.activations().tensor(input);
                    let n = state.activations().samples().min(SAMPLES);
                    Patches::of(model, i).means(&all[..n * e], n)
                } else {
                    vec![0.0; old.weights.len()]
                };
                let centred_bias = (0..channels)
                    .map(|c| {
                        let at = c * taps..(c + 1) * taps;
                        old.bias[c] as f64 + share(&old.weights[at.clone()], &means[at])
                    })
                    .collect();
                let wanted = (0..channels)
                    .map(|c| wanted(i, c) && old.multipliers[c].mantissa != 0)
                    .collect();
                let now = Reals {
                    weights: match twins.get(&i) {
                        Some(twin) => twin
                            .iter()
                            .zip(&old.weights)
                            .map(|(t, &w)| w as f32 + (t - w as f32).clamp(-WITHIN, WITHIN))
                            .collect(),
                        None => old.weights.iter().map(|&w| w as f32).collect(),
                    },
                    centred_bias,
                    gain: vec![1.0; channels],
                };
                let node = Node {
                    average: now.clone(),
                    now,
                    means,
                    unit: units[&i],
                    wanted,
                    free,
                    moments: Moments::new(old.weights.len() + 2 * channels),
                    old: old.clone(),
                };
                (i, node)
            })
            .collect();
        Self { nodes, round: 0 }
    }

    /// Whether the weights of a node may move.
    pub fn moves_weights(&self, node: usize) -> bool {
        self.nodes[&node].free.weights
    }

    /// Mean of `x - zero point` that each weight of a node sees.
    pub fn means(&self, node: usize) -> &[f32] {
        &self.nodes[&node].means
    }

    /// Moves every number against its gradient; running averages keep this share of themselves.
    pub fn step(
        &mut self,
        model: &QuantizedModel,
        gradients: &BTreeMap<usize, Gradient>,
        rates: Rates,
        keep: f32,
    ) {
        self.round += 1;
        // A young average is the mean of what there was.
        let keep = (keep as f64).min(1.0 - 1.0 / (self.round as f64 + 1.0));
        for (i, g) in gradients {
            let Some(node) = self.nodes.get_mut(i) else {
                continue;
            };
            let (lo, hi) = node.old.weight_range();
            let (lo, hi) = (lo as f32 - BEYOND, hi as f32 + BEYOND);
            let (n, taps, channels) = (
                node.now.weights.len(),
                node.old.taps(),
                node.old.out_channels(),
            );
            for c in (0..channels).filter(|&c| node.wanted[c]) {
                if node.free.weights {
                    for k in c * taps..(c + 1) * taps {
                        let u = node.moments.direction(k, g.weights[k], self.round);
                        let w = &mut node.now.weights[k];
                        let pull = 2.0 * rates.damping * (*w - w.round());
                        *w = (*w - rates.weights * (u + pull)).clamp(lo, hi);
                    }
                }
                if node.free.bias {
                    let u = node
                        .moments
                        .direction(n + c, g.bias[c] * node.unit, self.round);
                    let scale = model.accumulator_scale(*i, c);
                    node.now.centred_bias[c] -= (rates.bias * u) as f64 * node.unit / scale;
                }
                if node.free.gain {
                    let u = node
                        .moments
                        .direction(n + channels + c, g.gain[c], self.round);
                    node.now.gain[c] *= 1.0 - (rates.gain * u) as f64;
                }
            }
            node.average.follow(&node.now, keep);
        }
    }

    /// The integers that the real numbers stand for.
    pub fn integers(&self) -> Proposal {
        self.read(|node| &node.now)
    }

    /// The integers that their running averages stand for.
    pub fn averaged(&self) -> Proposal {
        self.read(|node| &node.average)
    }

    fn read(&self, which: impl Fn(&Node) -> &Reals) -> Proposal {
        self.nodes
            .iter()
            .map(|(&i, node)| {
                let reals = which(node);
                let mut new = node.old.clone();
                let (lo, hi) = new.weight_range();
                let taps = new.taps();
                for c in (0..new.out_channels()).filter(|&c| node.wanted[c]) {
                    let at = c * taps..(c + 1) * taps;
                    for (w, v) in new.weights[at.clone()]
                        .iter_mut()
                        .zip(&reals.weights[at.clone()])
                    {
                        *w = v.round().clamp(lo as f32, hi as f32) as i8;
                    }
                    let bias =
                        reals.centred_bias[c] - share(&new.weights[at.clone()], &node.means[at]);
                    new.bias[c] = bias.round().clamp(i32::MIN as f64, i32::MAX as f64) as i32;
                    new.multipliers[c] = scaled(new.multipliers[c], reals.gain[c]);
                }
                (i, new)
            })
            .collect()
    }
}

/// The float network's weights in steps of the integer model's lattice, `[out_c][taps]`, where a
/// layer has a twin of its form.
fn twins(graph: &Graph, model: &QuantizedModel) -> BTreeMap<usize, Vec<f32>> {
    let mut all = BTreeMap::new();
    for (node, value) in matched_layers(graph, model) {
        let Some(linear) = model.nodes[node].op.linear() else {
            continue;
        };
        let weights = match graph.producer(value).map(|n| &graph.nodes[n].op) {
            Some(Op::Conv2d(c)) => &c.weights.data,
            Some(Op::FullyConnected(f)) => &f.weights.data,
            _ => continue,
        };
        let taps = linear.taps();
        if weights.len() != linear.weights.len() || taps == 0 {
            continue;
        }
        let input = model.tensor(model.nodes[node].inputs[0]).scale as f64;
        let twin = weights
            .chunks_exact(taps)
            .enumerate()
            .flat_map(|(c, row)| {
                let step = model.accumulator_scale(node, c) / input;
                row.iter().map(move |&w| (w as f64 / step) as f32)
            })
            .collect::<Vec<f32>>();
        if twin.iter().all(|v| v.is_finite()) {
            all.insert(node, twin);
        }
    }
    all
}

/// What the weights add to their channel's mean, in accumulator units.
fn share(weights: &[i8], means: &[f32]) -> f64 {
    weights
        .iter()
        .zip(means)
        .map(|(&w, &m)| w as f64 * m as f64)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::repair::tests::World;

    fn gradients(model: &QuantizedModel, node: usize, weight: usize) -> BTreeMap<usize, Gradient> {
        model
            .linears()
            .map(|(i, l)| {
                let mut g = Gradient {
                    weights: vec![0.0; l.weights.len()],
                    bias: vec![0.0; l.out_channels()],
                    gain: vec![0.0; l.out_channels()],
                };
                if i == node {
                    g.weights[weight] = 1.0;
                }
                (i, g)
            })
            .collect()
    }

    #[test]
    fn without_a_step_the_integers_are_those_of_the_model() {
        let world = World::new(2);
        let state = world.state();
        let latent = Latent::new(&state, &world.graph, &|_, _| true, true);
        for (node, linear) in latent.integers() {
            assert_eq!(Some(&linear), world.model.nodes[node].op.linear());
        }
    }

    #[test]
    fn a_weight_that_steps_leaves_its_channels_mean_where_it_was() {
        let world = World::new(2);
        let state = world.state();
        let model = &world.model;
        let (node, linear) = model.linears().nth(1).unwrap();
        let (lo, _) = linear.weight_range();
        // The fourth channel's first weight that can go down.
        let taps = linear.taps();
        let k = (3 * taps..4 * taps)
            .find(|&k| linear.weights[k] > lo)
            .unwrap();
        let mut latent = Latent::new(&state, &world.graph, &|_, _| true, true);
        let rates = Rates {
            weights: 1.0,
            damping: 0.0,
            bias: 0.0,
            gain: 0.0,
        };
        latent.step(model, &gradients(model, node, k), rates, 0.0);
        let mut edited = model.clone();
        for (i, l) in latent.integers() {
            *edited.nodes[i].op.linear_mut().unwrap() = l;
        }
        let new = edited.nodes[node].op.linear().unwrap();
        assert_eq!(new.weights[k], linear.weights[k] - 1);
        let input = model.nodes[node].inputs[0];
        let x = &state.activations().tensor(input)[..SAMPLES * model.tensor(input).elements()];
        let mean = |m: &QuantizedModel| {
            let acc = Engine::new(m).unwrap().accumulators(node, x);
            let of: Vec<f64> = acc.chunks(8).map(|a| a[3] as f64).collect();
            of.iter().sum::<f64>() / of.len() as f64
        };
        assert!((mean(&edited) - mean(model)).abs() <= 0.51);
    }

    #[test]
    fn damping_draws_numbers_to_their_integers_and_yields_to_a_gradient_that_agrees() {
        let world = World::new(2);
        let state = world.state();
        let model = &world.model;
        let (node, linear) = model.linears().nth(1).unwrap();
        let (lo, hi) = linear.weight_range();
        let k = (0..linear.weights.len())
            .find(|&k| linear.weights[k] > lo && linear.weights[k] < hi)
            .unwrap();
        let mut latent = Latent::new(&state, &world.graph, &|_, _| true, true);
        let mut rates = Rates {
            weights: 0.02,
            damping: 1.0,
            bias: 0.0,
            gain: 0.0,
        };
        let still: BTreeMap<usize, Gradient> = gradients(model, node, k)
            .into_iter()
            .map(|(i, mut g)| {
                g.weights.fill(0.0);
                (i, g)
            })
            .collect();
        let border = linear.weights[k] as f32 + 0.4;
        latent.nodes.get_mut(&node).unwrap().now.weights[k] = border;
        latent.step(model, &still, rates, 0.0);
        let drawn = latent.nodes[&node].now.weights[k];
        assert!((drawn - (border - 0.02 * 0.8)).abs() < 1e-6);

        // One that all batches agree on gets over the border all the same.
        rates.damping = 0.9;
        let down = gradients(model, node, k);
        for _ in 0..600 {
            latent.step(model, &down, rates, 0.0);
        }
        assert!(latent.nodes[&node].now.weights[k] < drawn - 1.0);
    }

    #[test]
    fn averages_follow_at_their_own_pace() {
        let reals = |v: f32| Reals {
            weights: vec![v, -v],
            centred_bias: vec![2.0 * v as f64],
            gain: vec![1.0 + v as f64],
        };
        let mut average = reals(1.0);
        average.follow(&reals(2.0), 0.75);
        let expected = reals(1.25);
        assert_eq!(average.weights, expected.weights);
        assert_eq!(average.centred_bias, expected.centred_bias);
        assert_eq!(average.gain, expected.gain);

        // What keeps nothing of itself stands for the same integers.
        let world = World::new(2);
        let state = world.state();
        let (node, _) = world.model.linears().nth(1).unwrap();
        let mut latent = Latent::new(&state, &world.graph, &|_, _| true, true);
        let rates = Rates {
            weights: 1.0,
            damping: 0.0,
            bias: 0.1,
            gain: 0.1,
        };
        let down = gradients(&world.model, node, 0);
        latent.step(&world.model, &down, rates, 0.0);
        assert_eq!(latent.averaged(), latent.integers());
    }

    #[test]
    fn channels_that_are_not_wanted_and_what_is_not_free_stay() {
        let world = World::new(2);
        let mut state = world.state();
        let (node, linear) = world.model.linears().next().unwrap();
        state.limit(crate::repair::Freedom {
            multipliers: false,
            fixed_biases: [node].into(),
            ..Default::default()
        });
        let mut latent = Latent::new(&state, &world.graph, &|_, c| c != 0, true);
        let all = world
            .model
            .linears()
            .map(|(i, l)| {
                let g = Gradient {
                    weights: vec![1.0; l.weights.len()],
                    bias: vec![1.0; l.out_channels()],
                    gain: vec![1.0; l.out_channels()],
                };
                (i, g)
            })
            .collect();
        let rates = Rates {
            weights: 1.0,
            damping: 0.0,
            bias: 1.0,
            gain: 0.1,
        };
        latent.step(&world.model, &all, rates, 0.0);
        let integers: BTreeMap<usize, Linear> = latent.integers().into_iter().collect();
        let new = &integers[&node];
        assert_eq!(new.row(0), linear.row(0));
        assert_ne!(new.row(1), linear.row(1));
        assert_eq!(new.bias, linear.bias);
        assert_eq!(new.multipliers, linear.multipliers);
    }
}
