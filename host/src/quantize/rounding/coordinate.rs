//! Levels that together have the least error on second moments.
//!
//! With `d` the rounding errors of a row and `H` the second moments of its inputs, the error is
//! `d H d'`, a quadratic problem over integers. Nagel et al. ("Up or Down? Adaptive Rounding for
//! Post-Training Quantization", ICML 2020) state it and solve a relaxation by gradient descent;
//! here it is searched directly: from GPTQ's answer, the best step of one weight by one level is
//! taken while it lowers the error, then the best steps of two weights at once. No weight leaves
//! the lattice; every step lowers the error, so the answer is never worse than GPTQ's.

use super::{Problem, gptq};

/// Rounds of paired steps, each over all pairs.
const SWEEPS: usize = 8;

pub(super) fn round(p: &Problem) -> Vec<i8> {
    gptq::round_then(p, |moments, weights, levels| {
        Row::new(moments, weights, levels, p.lattice).search();
    })
}

struct Row<'a> {
    k: usize,
    moments: &'a [f64],
    levels: &'a mut [i8],
    lattice: (i8, i8),
    /// `H d'`
    gradient: Vec<f64>,
}

impl<'a> Row<'a> {
    fn new(moments: &'a [f64], weights: &[f64], levels: &'a mut [i8], lattice: (i8, i8)) -> Self {
        let k = levels.len();
        let d: Vec<f64> = levels
            .iter()
            .zip(weights)
            .map(|(&l, w)| l as f64 - w)
            .collect();
        let product = |row: &[f64]| row.iter().zip(&d).map(|(h, d)| h * d).sum();
        let gradient = moments.chunks_exact(k).map(product).collect();
        Self {
            k,
            moments,
            levels,
            lattice,
            gradient,
        }
    }

    fn search(&mut self) {
        self.single_steps();
        for _ in 0..SWEEPS {
            if !self.paired_steps() {
                break;
            }
            self.single_steps();
        }
    }

    /// Change of the error by a step of one weight.
    fn gain(&self, i: usize, step: f64) -> f64 {
        2.0 * step * self.gradient[i] + self.moments[i * self.k + i]
    }

    fn may(&self, i: usize, step: f64) -> bool {
        let to = self.levels[i] as f64 + step;
        to >= self.lattice.0 as f64 && to <= self.lattice.1 as f64
    }

    fn take(&mut self, i: usize, step: f64) {
        self.levels[i] += step as i8;
        let row = &self.moments[i * self.k..(i + 1) * self.k];
        self.gradient
            .iter_mut()
            .zip(row)
            .for_each(|(g, h)| *g += step * h);
    }

    /// Less than this is rounding error of the sums.
    fn tolerance(&self, i: usize) -> f64 {
        -1e-9 * self.moments[i * self.k + i]
    }

    fn single_steps(&mut self) {
        // Each step lowers an error that is bounded below; the limit is for the unforeseen.
        for _ in 0..16 * self.k {
            let best = (0..self.k)
                .map(|i| (i, -self.gradient[i].signum()))
                .filter(|&(i, step)| self.may(i, step))
                .map(|(i, step)| (self.gain(i, step), i, step))
                .min_by(|a, b| a.0.total_cmp(&b.0));
            match best {
                Some((gain, i, step)) if gain < self.tolerance(i) => self.take(i, step),
                _ => return,
            }
        }
    }

    /// For each weight in turn the best step together with one other; whether any was taken.
    fn paired_steps(&mut self) -> bool {
        let mut any = false;
        for i in 0..self.k {
            let mut best = (self.tolerance(i), 0, 0.0, 0.0);
            for step in [-1.0, 1.0] {
                if !self.may(i, step) {
                    continue;
                }
                let first = self.gain(i, step);
                let row = &self.moments[i * self.k..(i + 1) * self.k];
                for (j, h) in row.iter().enumerate() {
                    let pull = self.gradient[j] + step * h;
                    let other = -pull.signum();
                    let gain = first + 2.0 * other * pull + self.moments[j * self.k + j];
                    if j != i && gain < best.0 && self.may(j, other) {
                        best = (gain, j, step, other);
                    }
                }
            }
            let (_, j, step, other) = best;
            if step != 0.0 {
                self.take(i, step);
                self.take(j, other);
                any = true;
            }
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(moments: &[f64], weights: &[f64], levels: &[i8]) -> f64 {
        let k = weights.len();
        let d: Vec<f64> = levels
            .iter()
            .zip(weights)
            .map(|(&l, w)| l as f64 - w)
            .collect();
        (0..k)
            .map(|i| {
                (0..k)
                    .map(|j| d[i] * moments[i * k + j] * d[j])
                    .sum::<f64>()
            })
            .sum()
    }

    #[test]
    fn on_small_rows_the_search_ends_close_to_the_best_of_all_levels() {
        let k = 5;
        let mut state = 9u64;
        let mut random = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1u64 << 31) as f64 - 0.5
        };
        let (mut found, mut best_of_all, mut nearest) = (0.0, 0.0, 0.0);
        for _ in 0..40 {
            // Inputs that share a strong common part.
            let mut moments = vec![0.0; k * k];
            for _ in 0..30 {
                let common = 3.0 * random();
                let x: Vec<f64> = (0..k).map(|_| common + random()).collect();
                for i in 0..k {
                    for j in 0..k {
                        moments[i * k + j] += x[i] * x[j];
                    }
                }
            }
            let weights: Vec<f64> = (0..k).map(|_| 3.0 * random()).collect();
            let start: Vec<i8> = weights
                .iter()
                .map(|w| w.round().clamp(-2.0, 1.0) as i8)
                .collect();
            let mut levels = start.clone();
            Row::new(&moments, &weights, &mut levels, (-2, 1)).search();
            assert!(levels.iter().all(|l| (-2..=1).contains(l)));
            let mut best = f64::INFINITY;
            for code in 0..4usize.pow(k as u32) {
                let all: Vec<i8> = (0..k).map(|i| (code >> (2 * i) & 3) as i8 - 2).collect();
                best = best.min(error(&moments, &weights, &all));
            }
            let ours = error(&moments, &weights, &levels);
            assert!(ours <= error(&moments, &weights, &start) + 1e-9 && ours >= best - 1e-9);
            found += ours;
            best_of_all += best;
            nearest += error(&moments, &weights, &start);
        }
        assert!(found < 1.3 * best_of_all, "{found} against {best_of_all}");
        assert!(
            nearest > 2.0 * best_of_all,
            "there should be something to gain: {nearest}"
        );
    }
}
