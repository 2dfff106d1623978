//! SQuant: rounding whose errors cancel within each kernel and each channel.
//!
//! Under the assumption that inputs of a kernel (the spatial taps of one input channel), and of a
//! channel, look alike, what matters of a row's rounding errors is their sum. Starting from the
//! nearest levels, the weights whose rounding was closest to a tie are rounded the other way until
//! each kernel's sum of errors is within half a level, and then whole kernels' worth of one flip
//! each until the channel's is. Source: Guo et al., "SQuant: On-the-Fly Data-Free Quantization via
//! Diagonal Hessian Approximation", ICLR 2022. No samples are needed.

use super::Problem;

pub(super) fn round(p: &Problem) -> Vec<i8> {
    let taps = p.filter.taps();
    let spatial = p.filter.kernel[0] * p.filter.kernel[1];
    let channels = taps / spatial;
    let mut out = Vec::with_capacity(p.weights.len());
    for row in p.weights.chunks_exact(taps) {
        let mut levels: Vec<f64> = row.iter().map(|&w| p.level(w)).collect();
        if spatial > 1 {
            for i in 0..channels {
                let kernel: Vec<usize> = (0..spatial).map(|s| s * channels + i).collect();
                balance(p, row, &mut levels, &kernel);
            }
        }
        let all: Vec<usize> = (0..taps).collect();
        balance(p, row, &mut levels, &all);
        out.extend(levels.iter().map(|&l| l as i8));
    }
    out
}

/// Moves weights `of` by one level each, cheapest first, until their sum of errors is within half
/// a level. No weight ends a whole level or more from its real value.
fn balance(p: &Problem, row: &[f64], levels: &mut [f64], of: &[usize]) {
    let error = |levels: &[f64], i: usize| levels[i] - row[i];
    let sum: f64 = of.iter().map(|&i| error(levels, i)).sum();
    let step = -sum.signum();
    let flips = (sum.abs() + 0.5).floor() as usize;
    let mut order: Vec<usize> = of
        .iter()
        .copied()
        .filter(|&i| {
            let moved = levels[i] + step;
            let inside = moved >= p.lattice.0 as f64 && moved <= p.lattice.1 as f64;
            inside && (moved - row[i]).abs() < 1.0
        })
        .collect();
    // The largest error in the direction of the sum costs least to turn round.
    order.sort_by(|&a, &b| (error(levels, b) * -step).total_cmp(&(error(levels, a) * -step)));
    for &i in order.iter().take(flips) {
        levels[i] += step;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::patches::Filter;
    use super::*;
    use crate::graph::Pads;

    #[test]
    fn a_row_is_the_closest_of_all_roundings_whose_errors_cancel() {
        let k = 9;
        let filter = Filter {
            input: [1, 1, k],
            output: [1, 1, 40],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Pads::default(),
            groups: 1,
        };
        let weights: Vec<f64> = (0..40 * k)
            .map(|i| (i * 7919 % 1009) as f64 / 101.0 - 5.0)
            .collect();
        let p = Problem {
            filter: &filter,
            weights: &weights,
            lattice: (-8, 7),
            samples: None,
            free_bias: false,
            units: &[],
            bias: &[],
            clamp: (0.0, 0.0),
        };
        for (row, levels) in weights.chunks(k).zip(round(&p).chunks(k)) {
            let cost = |d: &[f64]| d.iter().map(|d| d * d).sum::<f64>();
            let best = (0..1usize << k)
                .map(|code| -> Vec<f64> {
                    (0..k)
                        .map(|i| row[i].floor() + (code >> i & 1) as f64 - row[i])
                        .collect()
                })
                .filter(|d| d.iter().sum::<f64>().abs() <= 0.5)
                .map(|d| cost(&d))
                .fold(f64::INFINITY, f64::min);
            let ours: Vec<f64> = row.iter().zip(levels).map(|(w, &l)| l as f64 - w).collect();
            assert!(
                (cost(&ours) - best).abs() < 1e-9,
                "{} against {best}",
                cost(&ours)
            );
        }
    }

    #[test]
    fn sums_of_errors_are_within_half_a_level_and_no_weight_moves_a_whole_one() {
        let filter = Filter {
            input: [8, 8, 4],
            output: [6, 6, 3],
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Pads::default(),
            groups: 1,
        };
        // Nearest rounding takes a fifth of a level off each on average.
        let weights: Vec<f64> = (0..3 * 36)
            .map(|i| (i % 7) as f64 - 3.0 + (i * 7919 % 1000) as f64 / 2500.0)
            .collect();
        let p = Problem {
            filter: &filter,
            weights: &weights,
            lattice: (-8, 7),
            samples: None,
            free_bias: false,
            units: &[],
            bias: &[],
            clamp: (0.0, 0.0),
        };
        let levels = round(&p);
        let nearest: f64 = weights.iter().map(|w| w.round() - w).sum::<f64>().abs();
        assert!(
            nearest > 15.0,
            "the test should have something to mend: {nearest}"
        );
        for (row, levels) in weights.chunks(36).zip(levels.chunks(36)) {
            let sum: f64 = row.iter().zip(levels).map(|(w, &l)| l as f64 - w).sum();
            assert!(sum.abs() <= 0.5 + 1e-9, "{sum}");
            assert!(
                row.iter()
                    .zip(levels)
                    .all(|(w, &l)| (l as f64 - w).abs() < 1.0)
            );
        }
    }
}
