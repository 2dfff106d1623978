//! What the network computes on the way, against the teacher.
//!
//! A thousand samples say little through a handful of class probabilities, and a network learns them
//! by heart. Their hidden activations are some hundred thousand numbers each, and a network that
//! meets those too has less freedom to go astray (Romero et al., "FitNets", ICLR 2015).

use super::teacher::logits;
use crate::float::{FloatError, FloatNet};
use crate::graph::{Graph, ValueId};
use crate::localize::matched_layers;
use crate::model::{QuantizedModel, TensorId};

/// Outputs of layers that have a twin in the float network.
pub struct Hidden {
    pairs: Vec<(TensorId, ValueId)>,
    /// Elements of one sample over all of them.
    pub elements: usize,
}

/// The teacher's values on that tensor's lattice, `[n][h][w][c]`: what is beyond the lattice's ends,
/// the integer network cannot meet anyway.
pub type Wanted = (TensorId, Vec<i8>);

impl Hidden {
    /// All layers but the one in which classes compete.
    pub fn of(graph: &Graph, model: &QuantizedModel) -> Self {
        let last = logits(graph);
        let pairs: Vec<_> = matched_layers(graph, model)
            .into_iter()
            .filter(|(_, value)| *value != last)
            .map(|(node, value)| (model.nodes[node].output, value))
            .collect();
        Self {
            elements: pairs.iter().map(|(t, _)| model.tensor(*t).elements()).sum(),
            pairs,
        }
    }

    /// No layer.
    pub fn none() -> Self {
        Self {
            pairs: Vec::new(),
            elements: 0,
        }
    }

    /// Asks the teacher: what each layer should give for `inputs`, and the values `also`.
    ///
    /// # Errors
    /// [`FloatError`] where the teacher fails.
    pub fn ask(
        &self,
        model: &QuantizedModel,
        float: &FloatNet,
        inputs: &[f32],
        also: ValueId,
    ) -> Result<(Vec<Wanted>, Vec<f32>), FloatError> {
        let mut keep: Vec<ValueId> = self.pairs.iter().map(|(_, v)| *v).collect();
        keep.push(also);
        let mut wanted: Vec<Wanted> = self.pairs.iter().map(|(t, _)| (*t, Vec::new())).collect();
        let mut last = Vec::new();
        float.for_each_batch(inputs, &keep, |_, values| {
            let Some((also, values)) = values.split_last() else {
                return;
            };
            last.extend_from_slice(also);
            for ((t, all), values) in wanted.iter_mut().zip(values) {
                let tensor = model.tensor(*t);
                all.extend(values.iter().map(|&v| tensor.quantize(v)));
            }
        })?;
        Ok((wanted, last))
    }
}

/// Gradient, with respect to the real values of `have`, of `weight` times their mean squared distance
/// from `wanted` in variances of `wanted`; both are integers of a tensor with this scale.
pub fn gradient(have: &[i8], wanted: &[i8], scale: f32, weight: f32) -> Vec<f32> {
    let n = wanted.len().max(1) as f64;
    let sum: i64 = wanted.iter().map(|&v| v as i64).sum();
    let squares: i64 = wanted.iter().map(|&v| (v as i64).pow(2)).sum();
    let mean = sum as f64 / n;
    // A tensor that says one thing always has nothing to be measured in but its own step.
    let variance = (squares as f64 / n - mean * mean).max(1.0);
    let factor = (2.0 * weight as f64 / (n * variance * scale as f64)) as f32;
    have.iter()
        .zip(wanted)
        .map(|(&q, &w)| factor * (q as i32 - w as i32) as f32)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_the_slope_of_the_distance_in_variances() {
        let wanted = [10i8, -20, 30, 5, -7, 90];
        let have = [12i8, -20, 25, 9, -7, 80];
        let (scale, weight) = (0.25f32, 3.0f32);
        let mean = wanted.iter().map(|&v| v as f64).sum::<f64>() / 6.0;
        let variance = wanted
            .iter()
            .map(|&v| (v as f64 - mean).powi(2))
            .sum::<f64>()
            / 6.0;
        let value = |have: &[i8]| {
            let squares = have.iter().zip(&wanted);
            weight as f64
                * squares
                    .map(|(&q, &w)| (q as f64 - w as f64).powi(2))
                    .sum::<f64>()
                / (6.0 * variance)
        };
        let g = gradient(&have, &wanted, scale, weight);
        for k in 0..6 {
            let (mut up, mut down) = (have, have);
            up[k] += 1;
            down[k] -= 1;
            let slope = (value(&up) - value(&down)) / (2.0 * scale as f64);
            assert!((slope - g[k] as f64).abs() < 1e-6, "{k}: {slope} {}", g[k]);
        }
        assert_eq!(gradient(&[3, 4], &[4, 4], 1.0, 1.0), [-1.0, 0.0]);
    }
}
