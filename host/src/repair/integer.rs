//! From a program's real numbers to weights on the lattice.
//!
//! Rounding each weight for itself loses what the program won: the rounding errors of one neuron add
//! up. Here each weight is rounded so that it cancels the error made so far, in the objective that the
//! program minimised, and then single steps are tried until none helps.

use super::lp::Row;

/// One neuron's fit on the lattice: `sum_i price(t_i - g_i.d)` with whole-numbered weights.
pub struct Lattice<'a> {
    /// `[rows][variables]`: change of the pre-activation per weight step.
    pub coefficients: &'a [f32],
    /// Targets and prices.
    pub rows: &'a [Row],
    /// The change that each weight may make, in steps.
    pub bounds: &'a [(i32, i32)],
}

impl Lattice<'_> {
    fn variables(&self) -> usize {
        self.bounds.len()
    }

    /// The objective for residuals `t - g.d`.
    fn value(&self, residual: &[f64]) -> f64 {
        self.rows
            .iter()
            .zip(residual)
            .map(|(r, &gap)| {
                if gap > 0.0 {
                    r.below * gap
                } else {
                    -r.above * gap
                }
            })
            .sum()
    }

    fn column(&self, k: usize) -> Vec<f64> {
        self.coefficients
            .iter()
            .skip(k)
            .step_by(self.variables())
            .map(|&g| g as f64)
            .collect()
    }

    /// The objective at whole steps `d`.
    pub fn value_at(&self, d: &[i32]) -> f64 {
        self.value(&self.residual(d))
    }

    fn residual(&self, d: &[i32]) -> Vec<f64> {
        self.rows
            .iter()
            .zip(self.coefficients.chunks_exact(self.variables().max(1)))
            .map(|(r, g)| {
                r.target
                    - g.iter()
                        .zip(d)
                        .map(|(&g, &d)| g as f64 * d as f64)
                        .sum::<f64>()
            })
            .collect()
    }

    /// Whole steps near the real solution `d`: rounded with error feedback, and each weight alone;
    /// both improved by up to `sweeps` passes of single steps; the better of the two.
    pub fn round(&self, d: &[f64], sweeps: usize) -> Vec<i32> {
        let columns: Vec<Vec<f64>> = (0..self.variables()).map(|k| self.column(k)).collect();
        let alone: Vec<i32> = d
            .iter()
            .zip(self.bounds)
            .map(|(d, &(lo, hi))| (d.round() as i32).clamp(lo, hi))
            .collect();
        [self.with_feedback(d, &columns), alone]
            .into_iter()
            .map(|mut whole| {
                let value = self.polish(&mut whole, &columns, sweeps);
                (value, whole)
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map_or_else(Vec::new, |(_, whole)| whole)
    }

    /// The weights with the largest influence first, each rounded to whichever side leaves the smaller
    /// objective given those before it, the rest still at their real values.
    fn with_feedback(&self, d: &[f64], columns: &[Vec<f64>]) -> Vec<i32> {
        let n = self.variables();
        let mut residual: Vec<f64> = self
            .rows
            .iter()
            .zip(self.coefficients.chunks_exact(n.max(1)))
            .map(|(r, g)| r.target - g.iter().zip(d).map(|(&g, &d)| g as f64 * d).sum::<f64>())
            .collect();
        let weight: Vec<f64> = columns
            .iter()
            .map(|c| c.iter().map(|g| g * g).sum())
            .collect();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by(|&a, &b| weight[b].total_cmp(&weight[a]));
        let mut whole = vec![0i32; n];
        for k in order {
            let (lo, hi) = self.bounds[k];
            let down = (d[k].floor() as i32).clamp(lo, hi);
            let up = (d[k].ceil() as i32).clamp(lo, hi);
            let at = |v: i32| -> Vec<f64> {
                let change = v as f64 - d[k];
                residual
                    .iter()
                    .zip(&columns[k])
                    .map(|(r, g)| r - g * change)
                    .collect()
            };
            let below = at(down);
            if up == down {
                whole[k] = down;
                residual = below;
                continue;
            }
            let above = at(up);
            if self.value(&above) < self.value(&below) {
                whole[k] = up;
                residual = above;
            } else {
                whole[k] = down;
                residual = below;
            }
        }
        whole
    }

    /// Single steps of single weights, as long as one lowers the objective; gives its value.
    fn polish(&self, whole: &mut [i32], columns: &[Vec<f64>], sweeps: usize) -> f64 {
        let mut residual = self.residual(whole);
        let mut best = self.value(&residual);
        for _ in 0..sweeps {
            let mut moved = false;
            for k in 0..whole.len() {
                for step in [1i32, -1] {
                    let to = whole[k] + step;
                    if to < self.bounds[k].0 || to > self.bounds[k].1 {
                        continue;
                    }
                    let value: f64 = self
                        .rows
                        .iter()
                        .zip(&residual)
                        .zip(&columns[k])
                        .map(|((row, r), g)| {
                            let gap = r - g * step as f64;
                            if gap > 0.0 {
                                row.below * gap
                            } else {
                                -row.above * gap
                            }
                        })
                        .sum();
                    if value < best * (1.0 - 1e-9) {
                        residual
                            .iter_mut()
                            .zip(&columns[k])
                            .for_each(|(r, g)| *r -= g * step as f64);
                        whole[k] = to;
                        best = value;
                        moved = true;
                        break;
                    }
                }
            }
            if !moved {
                break;
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn rounding_never_leaves_the_bounds_and_beats_rounding_each_weight_alone() {
        let mut r = StdRng::seed_from_u64(11);
        for _ in 0..20 {
            let (n, k) = (60, 9);
            let g: Vec<f32> = (0..n * k).map(|_| r.random::<f32>()).collect();
            let d: Vec<f64> = (0..k).map(|_| 4.0 * r.random::<f64>() - 2.0).collect();
            let rows: Vec<Row> = g
                .chunks_exact(k)
                .map(|g| Row {
                    target: g.iter().zip(&d).map(|(&g, &d)| g as f64 * d).sum(),
                    below: 1.0,
                    above: 1.0,
                })
                .collect();
            let bounds = vec![(-2, 1); k];
            let lattice = Lattice {
                coefficients: &g,
                rows: &rows,
                bounds: &bounds,
            };
            let ours = lattice.round(&d, 4);
            assert!(ours.iter().all(|v| (-2..=1).contains(v)));
            let alone: Vec<i32> = d.iter().map(|d| (d.round() as i32).clamp(-2, 1)).collect();
            assert!(lattice.value_at(&ours) <= lattice.value_at(&alone) + 1e-9);
        }
    }
}
