//! AdaRound: rounding up or down as learned from what the layer puts out.
//!
//! Every weight is its floor plus `h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)`, the rectified sigmoid.
//! Adam descends on the mean squared difference of the layer's activated outputs, on patches of the
//! integer network's own inputs, plus `lambda * sum(1 - |2 h - 1|^beta)`; beta falls from 20 to 2
//! after a start without that term, so that `h` moves freely at first and ends at 0 or 1. Layers
//! are taken in turn, each on the outputs of the rounded layers before it. Gradients are Burn's
//! autodiff.
//!
//! Source: Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020,
//! equations 21 to 25. Four departures. The float layer, too, is given the integer network's
//! inputs, so that what earlier layers lost is not made up for. Each row's error is measured in
//! units of what nearest rounding makes of it, so that one lambda fits all layers. Where the bias is
//! chosen afterwards (bias correction), the mean error of a row does not count. A row whose learned
//! rounding ends with a larger error than the nearest keeps the nearest.

use burn_tensor::activation::sigmoid;
use burn_tensor::{Device, Tensor, TensorData};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::{Problem, nearest};
use crate::float::Backend;

/// Steps of the descent.
const STEPS: usize = 1000;
/// Share of the steps without the regulariser.
const WARM_UP: f64 = 0.2;
/// Patches of a step.
const BATCH: usize = 256;
/// Patches in all, as memory allows.
const MAX_PATCHES: usize = 4096;
/// Most numbers in all patches: 64 MiB.
const MAX_NUMBERS: usize = 16 << 20;
/// Adam's step.
const RATE: f64 = 2e-2;
/// Weight of the regulariser.
const LAMBDA: f64 = 1.0;
/// First and last exponent of the regulariser.
const BETA: (f64, f64) = (20.0, 2.0);
/// The rectified sigmoid stretches from -0.1 to 1.1.
const STRETCH: (f32, f32) = (1.2, -0.1);

pub(super) fn round(p: &Problem) -> Vec<i8> {
    let plain = nearest::round(p);
    match Layer::new(p) {
        Some(layer) => layer.learn(p, plain),
        // The caller has refused to come here without samples.
        None => plain,
    }
}

/// The layer on its device; tensors are `[group][row or patch][tap]`.
struct Layer {
    device: Device,
    /// Groups, rows of a group, taps.
    dims: [usize; 3],
    /// `[group][patch][tap]`, inputs with their zero point taken off.
    patches: Vec<f32>,
    count: usize,
    /// Mean patch, `[group][1][tap]`, where the bias takes back the mean error, else zeros.
    mean: Tensor<3>,
    weights: Tensor<3>,
    /// Real value of an accumulator's unit, `[group][1][row]`.
    units: Tensor<3>,
    bias: Tensor<3>,
    clamp: (f32, f32),
}

impl Layer {
    fn new(p: &Problem) -> Option<Self> {
        let samples = p.samples?;
        let (groups, taps) = (p.filter.groups, p.filter.taps());
        let rows = p.weights.len() / taps / groups;
        let elements: usize = p.filter.input.iter().product();
        let total = samples.q.len() / elements.max(1) * p.filter.positions();
        let most = (MAX_NUMBERS / (groups * taps)).clamp(1, MAX_PATCHES);
        let count = total.min(most);
        if count == 0 {
            return None;
        }
        let mut rng = StdRng::seed_from_u64(0);
        let chosen = rand::seq::index::sample(&mut rng, total, count).into_vec();
        let mut patches = vec![0.0f32; groups * count * taps];
        let z = samples.zero_point as i32;
        for (i, at) in chosen.into_iter().enumerate() {
            let positions = p.filter.positions();
            let sample = &samples.q[at / positions * elements..][..elements];
            for group in 0..groups {
                let to = &mut patches[(group * count + i) * taps..][..taps];
                p.filter.visit(group, at % positions, |tap, from| {
                    to[tap] = (sample[from] as i32 - z) as f32;
                });
            }
        }
        let device = Backend::default().device();
        let tensor =
            |v: Vec<f32>, d: [usize; 3]| Tensor::<3>::from_data(TensorData::new(v, d), &device);
        let float = |v: &[f64]| v.iter().map(|&x| x as f32).collect::<Vec<f32>>();
        let mut mean = vec![0.0f32; groups * taps];
        if p.free_bias {
            for (group, mean) in mean.chunks_exact_mut(taps).enumerate() {
                for patch in patches[group * count * taps..][..count * taps].chunks_exact(taps) {
                    mean.iter_mut().zip(patch).for_each(|(m, x)| *m += x);
                }
                mean.iter_mut().for_each(|m| *m /= count as f32);
            }
        }
        Some(Self {
            dims: [groups, rows, taps],
            mean: tensor(mean, [groups, 1, taps]),
            weights: tensor(float(p.weights), [groups, rows, taps]),
            units: tensor(float(p.units), [groups, 1, rows]),
            bias: tensor(float(p.bias), [groups, 1, rows]),
            clamp: p.clamp,
            patches,
            count,
            device,
        })
    }

    /// Patches as a tensor `[group][n][tap]`.
    fn batch(&self, chosen: &[usize]) -> Tensor<3> {
        let [groups, _, taps] = self.dims;
        let mut x = Vec::with_capacity(groups * chosen.len() * taps);
        for group in 0..groups {
            for i in chosen {
                x.extend_from_slice(&self.patches[(group * self.count + i) * taps..][..taps]);
            }
        }
        Tensor::from_data(
            TensorData::new(x, [groups, chosen.len(), taps]),
            &self.device,
        )
    }

    fn activated(&self, real: Tensor<3>) -> Tensor<3> {
        let real = if self.clamp.0.is_finite() {
            real.clamp_min(self.clamp.0)
        } else {
            real
        };
        if self.clamp.1.is_finite() {
            real.clamp_max(self.clamp.1)
        } else {
            real
        }
    }

    /// Mean over patches of the squared difference of outputs, `[group][1][row]`. `levels` may carry
    /// a tape, then `lift` puts constants on it.
    fn error(
        &self,
        x: Tensor<3>,
        levels: Tensor<3>,
        lift: impl Fn(Tensor<3>) -> Tensor<3>,
    ) -> Tensor<3> {
        let float = (x.clone().matmul(self.weights.clone().swap_dims(1, 2)) * self.units.clone())
            + self.bias.clone();
        let centred = lift(x - self.mean.clone());
        let d = levels - lift(self.weights.clone());
        let change = centred.matmul(d.swap_dims(1, 2)) * lift(self.units.clone());
        let wanted = lift(self.activated(float.clone()));
        let got = self.activated(lift(float) + change);
        (got - wanted).powi_scalar(2).mean_dim(1)
    }

    fn levels_tensor(&self, levels: &[i8]) -> Tensor<3> {
        let v: Vec<f32> = levels.iter().map(|&l| l as f32).collect();
        Tensor::from_data(TensorData::new(v, self.dims), &self.device)
    }

    /// Each row's error over all patches, in the order of the rows.
    fn row_errors(&self, levels: &[i8]) -> Vec<f32> {
        let mut sum = vec![0.0f32; self.dims[0] * self.dims[1]];
        let all: Vec<usize> = (0..self.count).collect();
        for part in all.chunks(BATCH) {
            let e = self.error(self.batch(part), self.levels_tensor(levels), |t| t);
            let share = part.len() as f32 / self.count as f32;
            sum.iter_mut()
                .zip(numbers(e))
                .for_each(|(s, e)| *s += share * e);
        }
        sum
    }

    fn learn(&self, p: &Problem, plain: Vec<i8>) -> Vec<i8> {
        let [groups, rows, taps] = self.dims;
        let nearest_errors = self.row_errors(&plain);
        // A row that nearest rounding gets right has nothing to learn.
        let scale: Vec<f32> = nearest_errors
            .iter()
            .map(|&e| if e > 0.0 { taps as f32 / e } else { 0.0 })
            .collect();
        let tensor = |v: Vec<f32>, d: [usize; 3]| {
            Tensor::<3>::from_data(TensorData::new(v, d), &self.device)
        };
        let scale = tensor(scale, [groups, 1, rows]).autodiff();
        let floor: Vec<f32> = p.weights.iter().map(|w| w.floor() as f32).collect();
        let start: Vec<f32> = p
            .weights
            .iter()
            .map(|w| {
                let s = ((w - w.floor()) as f32 - STRETCH.1) / STRETCH.0;
                (s / (1.0 - s)).ln()
            })
            .collect();
        let floor = tensor(floor.clone(), self.dims).autodiff();
        let (lo, hi) = (p.lattice.0 as f32, p.lattice.1 as f32);
        let mut v = tensor(start, self.dims);
        let mut adam = Adam::new(&v);
        let mut rng = StdRng::seed_from_u64(1);
        for step in 0..STEPS {
            let n = self.count.min(BATCH);
            let chosen: Vec<usize> = if self.count <= BATCH {
                (0..self.count).collect()
            } else {
                (0..n).map(|_| rng.random_range(0..self.count)).collect()
            };
            let leaf = v.clone().autodiff().require_grad();
            let h = rectified(leaf.clone());
            let levels = (floor.clone() + h.clone()).clamp(lo, hi);
            let error = self.error(self.batch(&chosen), levels, |t| t.autodiff());
            let mut loss = (error * scale.clone()).sum();
            if let Some(beta) = beta(step) {
                let open = (h.mul_scalar(2.0).sub_scalar(1.0)).abs().powf_scalar(beta);
                loss = loss - open.sum().mul_scalar(LAMBDA);
            }
            let mut grads = loss.backward();
            match leaf.grad_remove(&mut grads) {
                Some(g) => v = adam.step(v, g),
                None => break,
            }
        }
        let h = numbers(rectified(v));
        let mut levels: Vec<i8> = p
            .weights
            .iter()
            .zip(h)
            .map(|(w, h)| {
                let up = if h >= 0.5 { 1.0 } else { 0.0 };
                (w.floor() + up).clamp(p.lattice.0 as f64, p.lattice.1 as f64) as i8
            })
            .collect();
        let learned = self.row_errors(&levels);
        for (row, (a, b)) in learned.iter().zip(&nearest_errors).enumerate() {
            if a >= b || a.is_nan() {
                let at = row * taps..(row + 1) * taps;
                levels[at.clone()].copy_from_slice(&plain[at]);
            }
        }
        levels
    }
}

/// `clip(1.2 sigmoid(v) - 0.1, 0, 1)`.
fn rectified(v: Tensor<3>) -> Tensor<3> {
    sigmoid(v)
        .mul_scalar(STRETCH.0)
        .add_scalar(STRETCH.1)
        .clamp(0.0, 1.0)
}

/// The regulariser's exponent at a step, along half a cosine; none during the warm-up.
fn beta(step: usize) -> Option<f64> {
    let start = WARM_UP * STEPS as f64;
    let share = (step as f64 - start) / (STEPS as f64 - start);
    (share >= 0.0)
        .then(|| BETA.1 + 0.5 * (BETA.0 - BETA.1) * (1.0 + (share * std::f64::consts::PI).cos()))
}

fn numbers(t: Tensor<3>) -> Vec<f32> {
    let data = t.into_data().convert::<f32>();
    data.try_to_vec().expect("converted to f32 just now")
}

/// Adam (Kingma and Ba, 2015) with its usual constants.
struct Adam {
    mean: Tensor<3>,
    square: Tensor<3>,
    steps: i32,
}

impl Adam {
    fn new(like: &Tensor<3>) -> Self {
        Self {
            mean: like.zeros_like(),
            square: like.zeros_like(),
            steps: 0,
        }
    }

    fn step(&mut self, v: Tensor<3>, g: Tensor<3>) -> Tensor<3> {
        const DECAY: (f64, f64) = (0.9, 0.999);
        self.steps += 1;
        self.mean = self.mean.clone().mul_scalar(DECAY.0) + g.clone().mul_scalar(1.0 - DECAY.0);
        self.square =
            self.square.clone().mul_scalar(DECAY.1) + g.powi_scalar(2).mul_scalar(1.0 - DECAY.1);
        let mean = self.mean.clone().div_scalar(1.0 - DECAY.0.powi(self.steps));
        let square = self
            .square
            .clone()
            .div_scalar(1.0 - DECAY.1.powi(self.steps));
        v - mean.mul_scalar(RATE) / square.sqrt().add_scalar(1e-8)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::patches::Filter;
    use super::super::Samples;
    use super::*;

    #[test]
    fn the_regulariser_waits_and_then_falls_from_twenty_to_two() {
        assert_eq!(beta(STEPS / 10), None);
        let first = beta(STEPS / 5).unwrap();
        let last = beta(STEPS - 1).unwrap();
        assert!(
            (first - 20.0).abs() < 0.1 && (last - 2.0).abs() < 0.1,
            "{first} {last}"
        );
    }

    /// Squared error of a row over all samples, with the activation.
    fn error(q: &[i8], w: &[f64], l: &[i8], bias: f64, relu: bool) -> f64 {
        let act = |v: f64| if relu { v.max(0.0) } else { v };
        q.chunks(w.len())
            .map(|x| {
                let dot = |f: &dyn Fn(usize) -> f64| -> f64 {
                    (0..w.len()).map(|i| f(i) * x[i] as f64).sum::<f64>() + bias
                };
                (act(dot(&|i| w[i])) - act(dot(&|i| l[i] as f64))).powi(2)
            })
            .sum()
    }

    #[test]
    fn on_small_rows_the_learned_rounding_is_close_to_the_best_of_all_floors_and_ceilings() {
        let (k, n, rows) = (8, 200, 12);
        let mut rng = StdRng::seed_from_u64(5);
        let mut q = Vec::new();
        for _ in 0..n {
            let common = rng.random_range(-40..40);
            q.extend((0..k).map(|_| (common + rng.random_range(-20..20)) as i8));
        }
        let weights: Vec<f64> = (0..rows * k).map(|_| rng.random_range(-3.0..3.0)).collect();
        let bias: Vec<f64> = (0..rows).map(|_| rng.random_range(-30.0..30.0)).collect();
        let filter = Filter {
            input: [1, 1, k],
            output: [1, 1, rows],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Default::default(),
            groups: 1,
        };
        let samples = Samples {
            q: &q,
            zero_point: 0,
        };
        for relu in [false, true] {
            let p = Problem {
                filter: &filter,
                weights: &weights,
                lattice: (-4, 3),
                samples: Some(&samples),
                free_bias: false,
                units: &vec![0.01; rows],
                bias: &bias.iter().map(|b| b * 0.01).collect::<Vec<_>>(),
                clamp: if relu {
                    (0.0, f32::INFINITY)
                } else {
                    (f32::NEG_INFINITY, f32::INFINITY)
                },
            };
            let (learned, plain) = (round(&p), nearest::round(&p));
            let (mut ours, mut nearest, mut best) = (0.0, 0.0, 0.0);
            for (r, &b) in bias.iter().enumerate() {
                let at = r * k..(r + 1) * k;
                let w = &weights[at.clone()];
                let of = |l: &[i8]| error(&q, w, l, b, relu);
                let choice = |code: usize| -> Vec<i8> {
                    (0..k)
                        .map(|i| (w[i].floor() as i8 + (code >> i & 1) as i8).clamp(-4, 3))
                        .collect()
                };
                let row_best = (0..1 << k)
                    .map(|c| of(&choice(c)))
                    .fold(f64::INFINITY, f64::min);
                let row_ours = of(&learned[at.clone()]);
                assert!(row_ours >= row_best - 1e-6 && row_ours <= of(&plain[at.clone()]) + 1e-6);
                ours += row_ours;
                nearest += of(&plain[at]);
                best += row_best;
            }
            assert!(
                nearest > 3.0 * best,
                "there should be something to gain: {nearest} {best}"
            );
            assert!(
                ours < 1.5 * best,
                "relu {relu}: {ours} against {best}, nearest {nearest}"
            );
        }
    }

    #[test]
    fn groups_learn_from_their_own_channels() {
        // Two channels apart; the second sees constants, whose mean the bias takes back.
        let mut rng = StdRng::seed_from_u64(6);
        let q: Vec<i8> = (0..400)
            .flat_map(|_| [rng.random_range(-90..90), 50])
            .collect();
        let filter = Filter {
            input: [20, 20, 2],
            output: [18, 18, 2],
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Default::default(),
            groups: 2,
        };
        let weights: Vec<f64> = (0..18).map(|i| (i * 7 % 11) as f64 / 4.0 - 1.2).collect();
        let samples = Samples {
            q: &q,
            zero_point: 3,
        };
        let p = Problem {
            filter: &filter,
            weights: &weights,
            lattice: (-2, 1),
            samples: Some(&samples),
            free_bias: true,
            units: &[1.0, 1.0],
            bias: &[0.0, 0.0],
            clamp: (f32::NEG_INFINITY, f32::INFINITY),
        };
        let levels = round(&p);
        assert!(levels.iter().all(|l| (-2..=1).contains(l)));
        assert_eq!(levels[9..], nearest::round(&p)[9..]);
    }
}
