//! Biases that make up for the mean error of each channel.
//!
//! Rounded weights and an upstream that was rounded shift the mean of a channel's pre-activation.
//! A bias takes that shift back: bias := bias + E[float pre-activation] - E[integer
//! pre-activation], both over the same calibration samples, the integer one with the integer
//! network's own inputs (Nagel et al., "Data-Free Quantization Through Weight Equalization and
//! Bias Correction", ICCV 2019, in the empirical form of its appendix). A pre-activation is linear
//! in what the filter sees, so its mean is the filter times the mean patch, and no sample needs to
//! be run.

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
