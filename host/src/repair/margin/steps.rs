//! Weight steps: moves of single weights by one lattice step, few at a time.

use super::program::{Family, linear_of};
use super::rows::{MarginRow, for_each_chunk};
use crate::float::{FloatError, Surrogate};
use crate::model::patches::Patches;
use crate::model::{Linear, QuantizedModel};
use crate::repair::State;
use crate::repair::state::Proposal;
use std::collections::BTreeMap;

/// One weight that may move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightVariable {
    /// Node of the model.
    pub node: usize,
    /// Output channel.
    pub channel: usize,
    /// Position in the channel's row.
    pub tap: usize,
}

/// Candidate weights, each of which may move by one step.
pub struct WeightSteps {
    variables: Vec<WeightVariable>,
}

impl WeightSteps {
    /// Picks the `count` weights whose single step lowers the hinge loss of `rows` the most, by its
    /// gradient, among those that the lattice lets move that way and that `wanted` admits.
    ///
    /// # Errors
    /// [`FloatError`] where the model cannot be differentiated.
    pub fn choose(
        state: &State<'_>,
        surrogate: &Surrogate,
        rows: &[MarginRow],
        count: usize,
        wanted: &dyn Fn(usize, usize) -> bool,
    ) -> Result<Self, FloatError> {
        let model = state.model();
        let violated: Vec<MarginRow> = rows
            .iter()
            .copied()
            .filter(|r| r.margin < state.tau())
            .collect();

        // First pass: the loss's gradient for every weight.
        let mut totals: BTreeMap<usize, Vec<f64>> = model
            .linears()
            .map(|(node, l)| (node, vec![0.0; l.weights.len()]))
            .collect();
        for_each_chunk(state, surrogate, &violated, |chunk| {
            for (node, input, gradient) in &chunk.nodes {
                let patches = Patches::of(model, *node);
                patches.accumulate_weight_gradient(
                    input,
                    gradient,
                    chunk.rows,
                    totals.get_mut(node).expect("every linear node has a total"),
                );
            }
        })?;
        let mut candidates: Vec<(f64, WeightVariable)> = Vec::new();
        for (&node, total) in &totals {
            let linear = linear_of(model, node);
            let (lo, hi) = linear.weight_range();
            let taps = linear.taps();
            for channel in 0..linear.out_channels() {
                if !wanted(node, channel) {
                    continue;
                }
                let scale = model.accumulator_scale(node, channel);
                for tap in 0..taps {
                    let at = channel * taps + tap;
                    let gain = total[at] * scale;
                    let movable = if gain > 0.0 {
                        linear.weights[at] < hi
                    } else {
                        linear.weights[at] > lo
                    };
                    if movable && gain != 0.0 {
                        candidates.push((gain.abs(), WeightVariable { node, channel, tap }));
                    }
                }
            }
        }
        candidates.sort_by(|a, b| b.0.total_cmp(&a.0));
        candidates.truncate(count);
        let mut variables: Vec<WeightVariable> = candidates.into_iter().map(|(_, v)| v).collect();
        variables.sort_by_key(|v| (v.node, v.channel, v.tap));

        Ok(Self { variables })
    }

    /// How far each weight may move: a step up, down, or either.
    pub fn ranges(&self, model: &QuantizedModel) -> Vec<(f64, f64)> {
        self.variables
            .iter()
            .map(|v| {
                let linear = linear_of(model, v.node);
                let (lo, hi) = linear.weight_range();
                let w = linear.row(v.channel)[v.tap];
                (
                    if w > lo { -1.0 } else { 0.0 },
                    if w < hi { 1.0 } else { 0.0 },
                )
            })
            .collect()
    }
}

impl Family for WeightSteps {
    fn count(&self) -> usize {
        self.variables.len()
    }

    fn coefficients(
        &self,
        state: &State<'_>,
        surrogate: &Surrogate,
        rows: &[MarginRow],
    ) -> Result<Vec<f32>, FloatError> {
        let model = state.model();
        let k = self.variables.len();
        let mut coefficients = vec![0.0f32; rows.len() * k];
        for_each_chunk(state, surrogate, rows, |chunk| {
            for (node, input, gradient) in &chunk.nodes {
                let patches = Patches::of(model, *node);
                let per_input = input.len() / chunk.rows.max(1);
                let per_output = gradient.len() / chunk.rows.max(1);
                for (column, v) in self
                    .variables
                    .iter()
                    .enumerate()
                    .filter(|(_, v)| v.node == *node)
                {
                    let scale = model.accumulator_scale(*node, v.channel);
                    for r in 0..chunk.rows {
                        let sum = patches.weight_gradient(
                            &input[r * per_input..(r + 1) * per_input],
                            &gradient[r * per_output..(r + 1) * per_output],
                            v.channel,
                            v.tap,
                        );
                        coefficients[(chunk.first + r) * k + column] = (sum * scale) as f32;
                    }
                }
            }
        })?;
        Ok(coefficients)
    }

    /// The [`moves`] largest moves of a solution, as whole steps.
    fn proposal(&self, model: &QuantizedModel, solution: &[f64]) -> Proposal {
        let mut largest: Vec<(f64, WeightVariable)> = solution
            .iter()
            .zip(&self.variables)
            .filter(|(d, _)| d.abs() > 1e-6)
            .map(|(&d, &v)| (d, v))
            .collect();
        largest.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
        largest.truncate(moves(solution));
        let mut edited: BTreeMap<usize, Linear> = BTreeMap::new();
        for (d, v) in largest {
            let linear = edited
                .entry(v.node)
                .or_insert_with(|| linear_of(model, v.node).clone());
            let (lo, hi) = linear.weight_range();
            let at = v.channel * linear.taps() + v.tap;
            let moved = linear.weights[at] as i32 + d.signum() as i32;
            linear.weights[at] = moved.clamp(lo as i32, hi as i32) as i8;
        }
        edited.into_iter().collect()
    }
}

/// How many whole steps a solution stands for: the program spreads its budget over fractions of
/// steps, and as many whole ones keep its length.
pub fn moves(solution: &[f64]) -> usize {
    solution.iter().map(|d| d.abs()).sum::<f64>().ceil() as usize
}
