//! Biases that make up for the mean error of each channel.
//!
//! Rounded weights and an upstream that was rounded shift the mean of a channel's pre-activation.
//! A bias takes that shift back: bias := bias + E[float pre-activation] - E[integer
//! pre-activation], both over the same calibration samples, the integer one with the integer
//! network's own inputs (Nagel et al., "Data-Free Quantization Through Weight Equalization and
//! Bias Correction", ICCV 2019, in the empirical form of its appendix). A pre-activation is linear
//! in what the filter sees, so its mean is the filter times the mean patch, and no sample needs to
//! be run ([`biases`]).
//!
//! Behind a ReLU or another clamp, what the next layer sees is the clamped value, and an error among
//! the values that are clamped away does not matter. There the bias is moved on until the mean of
//! the *outputs* is the float network's ([`match_outputs`]); a mean of clamped sums grows with the
//! bias, so bisection finds it.

use rayon::prelude::*;

use super::patches::Filter;

/// Corrected biases in units of the accumulators, one per output channel.
///
/// - `weights`, `bias`: the float layer; `float_mean`: mean of its input, `[h][w][c]`.
/// - `rounded`: integer weights; `integer_mean`: mean of `q - zero point` of the integer input.
/// - `unit`: real value of one unit of the accumulator, by channel.
pub(super) fn biases(
    filter: &Filter,
    (weights, bias, float_mean): (&[f32], &[f32], &[f64]),
    (rounded, integer_mean): (&[i8], &[f64]),
    unit: impl Fn(usize) -> f64,
) -> Vec<f64> {
    let taps = filter.taps();
    let per_group = bias.len() / filter.groups;
    let float_patch = filter.mean_patch(float_mean);
    let integer_patch = filter.mean_patch(integer_mean);
    (0..bias.len())
        .map(|c| {
            let group = c / per_group * taps..(c / per_group + 1) * taps;
            let row = c * taps..(c + 1) * taps;
            let real: f64 = weights[row.clone()]
                .iter()
                .zip(&float_patch[group.clone()])
                .map(|(w, p)| *w as f64 * p)
                .sum();
            let units: f64 = rounded[row]
                .iter()
                .zip(&integer_patch[group])
                .map(|(w, p)| *w as f64 * p)
                .sum();
            (bias[c] as f64 + real) / unit(c) - units
        })
        .collect()
}

/// Accumulators of a channel that are looked at.
const LOOKED_AT: usize = 16_384;

/// Changes of the biases, in units of the accumulators, that bring each channel's mean output to
/// `target`.
///
/// - `acc`: accumulators with the biases as they are, `[n][h][w][out_c]`;
/// - `target`: mean of the float output by channel;
/// - `unit`: real value of one unit of a channel's accumulator;
/// - `clamp`: real ends of the output's range.
///
/// A channel whose target is at or beyond an end of the range keeps its bias.
pub(super) fn match_outputs(
    acc: &[i32],
    target: &[f64],
    unit: impl Fn(usize) -> f64 + Sync,
    clamp: (f64, f64),
) -> Vec<f64> {
    let out_c = target.len();
    let step = (acc.len() / out_c).div_ceil(LOOKED_AT).max(1) * out_c;
    let change = |c: usize| {
        let unit = unit(c);
        let (lo, hi) = (clamp.0 / unit, clamp.1 / unit);
        let values: Vec<f64> = acc[c..].iter().step_by(step).map(|&a| a as f64).collect();
        let want = target[c] / unit * values.len() as f64;
        let sum = |delta: f64| {
            values
                .iter()
                .map(|v| (v + delta).clamp(lo, hi))
                .sum::<f64>()
        };
        let (smallest, largest) = values
            .iter()
            .fold((f64::MAX, f64::MIN), |(a, b), &v| (a.min(v), b.max(v)));
        // From all values at the lower end to all at the upper.
        let (mut a, mut b) = (lo - largest, hi - smallest);
        if want <= sum(a) || want >= sum(b) {
            return 0.0;
        }
        while b - a > 0.25 {
            let middle = (a + b) / 2.0;
            if sum(middle) < want {
                a = middle
            } else {
                b = middle
            }
        }
        (a + b) / 2.0
    };
    (0..out_c).into_par_iter().map(change).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_behind_a_clamp_get_the_mean_that_was_asked_for() {
        // Two channels, one of them mostly clamped away.
        let acc: Vec<i32> = (0..2000)
            .map(|i| if i % 2 == 0 { i - 1900 } else { 3 * (i % 700) })
            .collect();
        let (unit, clamp) = (|c: usize| [0.01, 0.02][c], (0.0, 30.0));
        let target = [0.5, 17.0];
        let delta = match_outputs(&acc, &target, unit, clamp);
        for c in 0..2 {
            let outputs = acc[c..]
                .iter()
                .step_by(2)
                .map(|&a| ((a as f64 + delta[c]) * unit(c)).clamp(0.0, 30.0));
            let mean = outputs.sum::<f64>() / 1000.0;
            assert!((mean - target[c]).abs() < unit(c), "{c}: {mean}");
        }
    }

    #[test]
    fn a_channel_that_is_never_active_keeps_its_bias() {
        assert_eq!(
            match_outputs(&[5, -3, 8], &[0.0], |_| 0.1, (0.0, 6.0)),
            [0.0]
        );
    }
}
