//! GPTQ: each weight's rounding error is made up for by the weights not yet rounded.
//!
//! The error of a row with rounding errors `d` is `d H d'`, `H` the second moments of the inputs.
//! Weights are rounded one at a time, those with the strongest inputs first; after each, the
//! remaining ones move to the least error that is then possible: `w_k -= (w_j - q_j) / U_jj * U_jk`
//! with `inverse(H) = U' U`, `U` upper triangular. `H` is damped by 1 % of its mean diagonal.
//! Source: Frantar et al., "GPTQ", 2022; Frantar and Alistarh, "Optimal Brain Compression", 2022.
//!
//! Rows longer than [`BLOCK`] taps are treated in blocks of that many, correlations between blocks
//! left out.

use rayon::prelude::*;

use super::Problem;
use super::hessian::second_moments;
use super::nearest;

/// Largest number of taps that are treated together: 8 MiB of matrix, a second to invert.
const BLOCK: usize = 1024;

/// Share of the mean diagonal that is added to the diagonal.
const DAMPING: f64 = 0.01;

pub(super) fn round(p: &Problem) -> Vec<i8> {
    round_then(p, |_, _, _| {})
}

/// GPTQ, and after it `then(second moments, weights, levels)` for each row of a block of columns.
/// The moments are those that GPTQ saw, damping included.
pub(super) fn round_then(p: &Problem, then: impl Fn(&[f64], &[f64], &mut [i8]) + Sync) -> Vec<i8> {
    // The caller has refused to come here without samples.
    let Some(samples) = p.samples else {
        return nearest::round(p);
    };
    let taps = p.filter.taps();
    let mut levels = vec![0i8; p.weights.len()];
    let per_group = p.weights.len() / taps / p.filter.groups;
    let blocks = taps.div_ceil(BLOCK);
    let block = taps.div_ceil(blocks);
    for group in 0..p.filter.groups {
        let rows = group * per_group * taps..(group + 1) * per_group * taps;
        for start in (0..taps).step_by(block) {
            let columns = start..(start + block).min(taps);
            let mut moments =
                second_moments(p.filter, samples, group, columns.clone(), p.free_bias);
            damp(&mut moments, columns.len());
            let plan = Plan::new(&moments, columns.len());
            let weights = p.weights[rows.clone()].par_chunks_exact(taps);
            let to = levels[rows.clone()].par_chunks_exact_mut(taps);
            weights.zip(to).for_each(|(w, to)| {
                let (w, to) = (&w[columns.clone()], &mut to[columns.clone()]);
                plan.round_row(p, w, to);
                then(&moments, w, to);
            });
        }
    }
    levels
}

/// Adds to the diagonal, so that the matrix is regular and taps that never see anything keep near
/// their real value.
fn damp(moments: &mut [f64], k: usize) {
    let mean = (0..k).map(|i| moments[i * k + i]).sum::<f64>() / k as f64;
    let damping = if mean > 0.0 { DAMPING * mean } else { 1.0 };
    (0..k).for_each(|i| moments[i * k + i] += damping);
}

/// Order of the weights and the factor of the inverse, in that order.
struct Plan {
    order: Vec<usize>,
    /// Upper triangular, rows.
    factor: Vec<f64>,
}

impl Plan {
    fn new(moments: &[f64], k: usize) -> Self {
        let mut order: Vec<usize> = (0..k).collect();
        order.sort_by(|&a, &b| moments[b * k + b].total_cmp(&moments[a * k + a]));
        // With rows and columns in reverse order, the lower Cholesky factor of H becomes an upper
        // one, R with H = R R'; then inverse(H) = inverse(R)' inverse(R), so U = inverse(R).
        let mut lower = vec![0.0; k * k];
        for i in 0..k {
            for j in 0..=i {
                let (a, b) = (order[k - 1 - i], order[k - 1 - j]);
                lower[i * k + j] = moments[a * k + b];
            }
        }
        cholesky(&mut lower, k);
        let inverse = invert_lower(&lower, k);
        let mut factor = vec![0.0; k * k];
        for i in 0..k {
            for j in i..k {
                factor[i * k + j] = inverse[(k - 1 - i) * k + (k - 1 - j)];
            }
        }
        Self { order, factor }
    }

    fn round_row(&self, p: &Problem, weights: &[f64], levels: &mut [i8]) {
        let k = self.order.len();
        let mut w: Vec<f64> = self.order.iter().map(|&i| weights[i]).collect();
        for j in 0..k {
            let level = p.level(w[j]);
            levels[self.order[j]] = level as i8;
            let row = &self.factor[j * k..(j + 1) * k];
            let error = (w[j] - level) / row[j];
            w[j + 1..]
                .iter_mut()
                .zip(&row[j + 1..])
                .for_each(|(w, u)| *w -= error * u);
        }
    }
}

/// Replaces a symmetric positive definite matrix, of which the lower triangle is read, by its
/// lower Cholesky factor.
fn cholesky(a: &mut [f64], k: usize) {
    for i in 0..k {
        let (above, row) = a.split_at_mut(i * k);
        for j in 0..i {
            let other = &above[j * k..j * k + k];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let rest = row[i] - dot(&row[..i], &row[..i]);
        // Damping keeps this far above rounding errors; the floor is for the unforeseen.
        row[i] = rest.max(1e-12).sqrt();
    }
}

/// Inverse of a lower triangular matrix, in rows.
fn invert_lower(l: &[f64], k: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; k * k];
    for i in 0..k {
        let (above, row) = inverse.split_at_mut(i * k);
        let row = &mut row[..k];
        for j in 0..i {
            let f = l[i * k + j];
            if f != 0.0 {
                row[..=j]
                    .iter_mut()
                    .zip(&above[j * k..])
                    .for_each(|(r, a)| *r -= f * a);
            }
        }
        let d = 1.0 / l[i * k + i];
        row[..i].iter_mut().for_each(|r| *r *= d);
        row[i] = d;
    }
    inverse
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::super::super::patches::Filter;
    use super::super::{Samples, nearest};
    use super::*;

    fn layer(n_in: usize, n_out: usize) -> Filter {
        Filter {
            input: [1, 1, n_in],
            output: [1, 1, n_out],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Default::default(),
            groups: 1,
        }
    }

    #[test]
    fn the_factor_squares_to_the_inverse_of_the_damped_moments() {
        let k = 5;
        let x: Vec<f64> = (0..k * 9).map(|i| ((i * 31) % 17) as f64 - 8.0).collect();
        let mut h = vec![0.0; k * k];
        for row in x.chunks(k) {
            for i in 0..k {
                for j in 0..k {
                    h[i * k + j] += row[i] * row[j];
                }
            }
        }
        damp(&mut h, k);
        let plan = Plan::new(&h, k);
        for i in 0..k {
            for j in 0..k {
                // (U' U) H = identity, in the plan's order.
                let mut product = 0.0;
                for m in 0..k {
                    let inverse: f64 = (0..k)
                        .map(|r| plan.factor[r * k + i] * plan.factor[r * k + m])
                        .sum();
                    let (a, b) = (plan.order[m], plan.order[j]);
                    product += inverse * h[a * k + b];
                }
                let want = if i == j { 1.0 } else { 0.0 };
                assert!((product - want).abs() < 1e-9, "{i} {j}: {product}");
            }
        }
    }

    /// Solves `a x = b` for a regular symmetric matrix by Gaussian elimination.
    fn solve(a: &[Vec<f64>], b: &[f64]) -> Vec<f64> {
        let n = b.len();
        let mut m: Vec<Vec<f64>> = a
            .iter()
            .zip(b)
            .map(|(row, b)| row.iter().copied().chain([*b]).collect())
            .collect();
        for i in 0..n {
            let pivot = m[i].clone();
            for (_, row) in m.iter_mut().enumerate().filter(|(j, _)| *j != i) {
                let f = row[i] / pivot[i];
                for (x, p) in row[i..].iter_mut().zip(&pivot[i..]) {
                    *x -= f * p;
                }
            }
        }
        (0..n).map(|i| m[i][n] / m[i][i]).collect()
    }

    #[test]
    fn every_weight_is_rounded_from_where_least_squares_over_the_open_ones_puts_it() {
        let k = 7;
        let mut state = 4u64;
        let mut random = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1u64 << 31) as f64 - 0.5
        };
        for _ in 0..30 {
            let mut h = vec![0.0; k * k];
            for _ in 0..20 {
                let common = random();
                let x: Vec<f64> = (0..k).map(|_| 9.0 * (common + random())).collect();
                for i in 0..k {
                    for j in 0..k {
                        h[i * k + j] += x[i] * x[j];
                    }
                }
            }
            damp(&mut h, k);
            let weights: Vec<f64> = (0..k).map(|_| 7.0 * random()).collect();
            let filter = layer(k, 1);
            let p = Problem {
                filter: &filter,
                weights: &weights,
                lattice: (-4, 3),
                samples: None,
                free_bias: false,
                units: &[],
                bias: &[],
                clamp: (0.0, 0.0),
            };
            let plan = Plan::new(&h, k);
            let mut levels = vec![0i8; k];
            plan.round_row(&p, &weights, &mut levels);
            // The definition: errors of closed weights are fixed, the open ones take the real
            // values of least error, and the next is rounded from there.
            let mut closed: Vec<(usize, f64)> = Vec::new();
            for (at, &j) in plan.order.iter().enumerate() {
                let open = &plan.order[at..];
                let a: Vec<Vec<f64>> = open
                    .iter()
                    .map(|&r| open.iter().map(|&c| h[r * k + c]).collect())
                    .collect();
                let b: Vec<f64> = open
                    .iter()
                    .map(|&r| -closed.iter().map(|(c, d)| h[r * k + c] * d).sum::<f64>())
                    .collect();
                let level = p.level(weights[j] + solve(&a, &b)[0]);
                assert_eq!(levels[j] as f64, level, "{at}");
                closed.push((j, level - weights[j]));
            }
        }
    }

    #[test]
    fn outputs_on_correlated_inputs_are_closer_than_with_nearest_rounding() {
        let (k, n, rows) = (24, 400, 8);
        // Each input is mostly its neighbour: errors can be made up for.
        let mut state = 1u64;
        let mut random = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 33) as f64 / (1u64 << 31) as f64 - 0.5
        };
        let mut q = Vec::new();
        for _ in 0..n {
            let mut v = 0.0;
            for _ in 0..k {
                v = 0.9 * v + 60.0 * random();
                q.push((v as i32).clamp(-128, 127) as i8);
            }
        }
        let weights: Vec<f64> = (0..rows * k).map(|_| 6.0 * random()).collect();
        let filter = layer(k, rows);
        let samples = Samples {
            q: &q,
            zero_point: 3,
        };
        let p = Problem {
            filter: &filter,
            weights: &weights,
            lattice: (-4, 3),
            samples: Some(&samples),
            free_bias: false,
            units: &[],
            bias: &[],
            clamp: (0.0, 0.0),
        };
        let error = |levels: &[i8]| -> f64 {
            let mut e = 0.0;
            for x in q.chunks(k) {
                for r in 0..rows {
                    let d: f64 = (0..k)
                        .map(|i| {
                            (weights[r * k + i] - levels[r * k + i] as f64) * (x[i] as f64 - 3.0)
                        })
                        .sum();
                    e += d * d;
                }
            }
            e
        };
        let (ours, plain) = (error(&round(&p)), error(&nearest::round(&p)));
        assert!(ours < 0.5 * plain, "{ours} against {plain}");
        assert!(round(&p).iter().all(|l| (-4..=3).contains(l)));
    }
}
