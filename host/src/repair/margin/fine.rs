//! Fine edits: int32 biases and Q31 multipliers, in which rounding loses nothing.

use super::program::{Family, linear_of};
use super::rows::{MarginRow, for_each_chunk};
use crate::float::{FloatError, Surrogate};
use crate::model::{Linear, Multiplier, QuantizedModel};
use crate::quantize::quantize_multiplier;
use crate::repair::State;
use crate::repair::state::Proposal;
use std::collections::BTreeMap;

/// What one variable of the program edits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handle {
    /// The bias, in units of the layer's pre-activation deviation.
    Bias,
    /// The multiplier, relative.
    Multiplier,
}

/// One variable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FineVariable {
    /// Node of the model.
    pub node: usize,
    /// Output channel.
    pub channel: usize,
    /// What is edited.
    pub handle: Handle,
    /// Real pre-activation change of one unit (biases only).
    pub unit: f64,
}

/// Columns of one channel's variables, where it has them.
#[derive(Clone, Copy, Debug, Default)]
struct Columns {
    bias: Option<usize>,
    multiplier: Option<usize>,
}

/// All fine edits of a network.
pub struct FineEdits {
    variables: Vec<FineVariable>,
    /// Columns of each channel of a node.
    columns: BTreeMap<usize, Vec<Columns>>,
}

impl FineEdits {
    /// The variables of the channels that `wanted` admits, as far as [`State::freedom`] goes.
    pub fn new(state: &State<'_>, wanted: &dyn Fn(usize, usize) -> bool) -> Self {
        let deviations = deviations(state);
        let mut variables = Vec::new();
        let mut columns = BTreeMap::new();
        for (node, linear) in state.model().linears() {
            let unit = deviations[&node];
            let biases = !state.freedom().fixed_biases.contains(&node);
            let multipliers = state.freedom().multipliers_of(node);
            let of_node: Vec<Columns> = (0..linear.out_channels())
                .map(|channel| {
                    let live = linear.multipliers[channel].mantissa != 0 && unit > 0.0;
                    if !live || !wanted(node, channel) {
                        return Columns::default();
                    }
                    let mut add = |handle, unit| {
                        variables.push(FineVariable {
                            node,
                            channel,
                            handle,
                            unit,
                        });
                        variables.len() - 1
                    };
                    Columns {
                        bias: biases.then(|| add(Handle::Bias, unit)),
                        multiplier: multipliers.then(|| add(Handle::Multiplier, 1.0)),
                    }
                })
                .collect();
            columns.insert(node, of_node);
        }
        Self { variables, columns }
    }
}

impl Family for FineEdits {
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
                let columns = &self.columns[node];
                let channels = columns.len();
                let accumulators = state.engine().accumulators(*node, input);
                let scales: Vec<f64> = (0..channels)
                    .map(|c| model.accumulator_scale(*node, c))
                    .collect();
                let per_row = gradient.len() / chunk.rows.max(1);
                for r in 0..chunk.rows {
                    let g = &gradient[r * per_row..(r + 1) * per_row];
                    let acc = &accumulators[r * per_row..(r + 1) * per_row];
                    let mut bias = vec![0.0f64; channels];
                    let mut gain = vec![0.0f64; channels];
                    for (g, acc) in g.chunks_exact(channels).zip(acc.chunks_exact(channels)) {
                        for c in 0..channels {
                            bias[c] += g[c] as f64;
                            gain[c] += g[c] as f64 * acc[c] as f64;
                        }
                    }
                    let row = &mut coefficients[(chunk.first + r) * k..(chunk.first + r + 1) * k];
                    for c in 0..channels {
                        if let Some(at) = columns[c].bias {
                            row[at] = (bias[c] * self.variables[at].unit) as f32;
                        }
                        if let Some(at) = columns[c].multiplier {
                            row[at] = (gain[c] * scales[c]) as f32;
                        }
                    }
                }
            }
        })?;
        Ok(coefficients)
    }

    fn proposal(&self, model: &QuantizedModel, solution: &[f64]) -> Proposal {
        let mut edited: BTreeMap<usize, Linear> = BTreeMap::new();
        for (v, &d) in self.variables.iter().zip(solution) {
            if d == 0.0 {
                continue;
            }
            let linear = edited
                .entry(v.node)
                .or_insert_with(|| linear_of(model, v.node).clone());
            match v.handle {
                Handle::Bias => {
                    let step = d * v.unit / model.accumulator_scale(v.node, v.channel);
                    let bias = linear.bias[v.channel] as f64 + step;
                    linear.bias[v.channel] =
                        bias.round().clamp(i32::MIN as f64, i32::MAX as f64) as i32;
                }
                Handle::Multiplier => {
                    let m = linear.multipliers[v.channel];
                    linear.multipliers[v.channel] = scaled(m, 1.0 + d);
                }
            }
        }
        edited.into_iter().collect()
    }
}

/// Standard deviation of each linear node's real pre-activation over (some of) the repair set and
/// all its channels: the yardstick of its biases.
pub(crate) fn deviations(state: &State<'_>) -> BTreeMap<usize, f64> {
    const SAMPLES: usize = 128;
    let model = state.model();
    model
        .linears()
        .map(|(node, linear)| {
            let input = model.nodes[node].inputs[0];
            let e = model.tensor(input).elements();
            let all = state.activations().tensor(input);
            let some = &all[..all.len().min(SAMPLES * e)];
            let acc = state.engine().accumulators(node, some);
            let channels = linear.out_channels();
            let scales: Vec<f64> = (0..channels)
                .map(|c| model.accumulator_scale(node, c))
                .collect();
            let (mut sum, mut squares) = (0.0f64, 0.0f64);
            for position in acc.chunks_exact(channels) {
                for (a, s) in position.iter().zip(&scales) {
                    let x = *a as f64 * s;
                    sum += x;
                    squares += x * x;
                }
            }
            let n = acc.len().max(1) as f64;
            (node, (squares / n - (sum / n).powi(2)).max(0.0).sqrt())
        })
        .collect()
}

/// The Q31 multiplier nearest to `m * factor`; `m` where that is not representable.
pub(crate) fn scaled(m: Multiplier, factor: f64) -> Multiplier {
    let real = m.mantissa as f64 * 2f64.powi(m.exponent as i32 - 31) * factor;
    match quantize_multiplier(real) {
        Some(new) if new.mantissa != 0 => new,
        _ => m,
    }
}
