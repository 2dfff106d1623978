//! The gradient through a linear node, without running it again in real numbers: its accumulators
//! are the integer engine's.

use super::rule::clamp_range;
use crate::model::patches::Patches;
use crate::model::{Linear, QuantizedModel};

/// A linear node's constants.
pub(super) struct LinearRule {
    patches: Patches,
    /// `[out_c][taps]`
    weights: Vec<f32>,
    /// Real value of one unit of each channel's accumulator.
    unit: Vec<f32>,
    input_scale: f32,
    clamp: [f32; 2],
}

impl LinearRule {
    pub(super) fn of(model: &QuantizedModel, index: usize, linear: &Linear) -> Self {
        let node = &model.nodes[index];
        Self {
            patches: Patches::of(model, index),
            weights: linear.weights.iter().map(|&w| w as f32).collect(),
            unit: (0..linear.out_channels())
                .map(|c| model.accumulator_scale(index, c) as f32)
                .collect(),
            input_scale: model.tensor(node.inputs[0]).scale,
            clamp: clamp_range(model.tensor(node.output), linear.act_min, linear.act_max),
        }
    }

    /// Turns the gradient of the real output into that of the pre-activation, `[rows][h][w][out_c]`:
    /// zero where the clamp holds it.
    pub(super) fn at_preactivation(&self, accumulators: &[i32], gradient: &mut [f32]) {
        let channels = self.unit.len().max(1);
        let [lo, hi] = self.clamp;
        for (g, a) in gradient
            .chunks_exact_mut(channels)
            .zip(accumulators.chunks_exact(channels))
        {
            for ((g, &a), unit) in g.iter_mut().zip(a).zip(&self.unit) {
                let real = a as f32 * unit;
                // Without a branch, so that it is vectorised.
                let passes = (real >= lo) & (real <= hi);
                *g = f32::from_bits(g.to_bits() & (passes as u32).wrapping_neg());
            }
        }
    }

    /// From the gradient of the pre-activation to that of the real input, `[rows][h][w][c]`.
    pub(super) fn at_input(&self, gradient: &[f32], rows: usize) -> Vec<f32> {
        let channels = self.unit.len().max(1);
        // From a unit of the accumulator to one of the pre-activation, and from one of the real
        // input to one of the integer.
        let scaled: Vec<f32> = gradient
            .chunks_exact(channels)
            .flat_map(|g| g.iter().zip(&self.unit))
            .map(|(g, unit)| g * (unit / self.input_scale))
            .collect();
        self.patches.input_gradient(&self.weights, &scaled, rows)
    }
}
