//! What the network computes on the way, against the teacher.
//!
//! A thousand samples say little through a handful of class probabilities, and a network learns them
//! by heart. Their hidden activations are some hundred thousand numbers each, and a network that
//! meets those too has less freedom to go astray (Romero et al., "FitNets", ICLR 2015).

use crate::float::{FloatError, FloatNet};
use crate::graph::{Graph, ValueId};
use crate::localize::matched_layers;
use crate::model::{QuantizedModel, TensorId};
use crate::repair::teacher::logits;

/// Outputs of layers that have a twin in the float network.
pub struct Hidden {
    pairs: Vec<(TensorId, ValueId)>,
    /// Elements of one sample over all of them.
    pub elements: usize,
}

/// What a layer should give.
pub struct Wanted {
    pub tensor: TensorId,
    /// The teacher's values on that tensor's lattice, `[n][h][w][c]`: what is beyond the lattice's
    /// ends, the integer network cannot meet anyway.
    pub values: Vec<i8>,
    /// Of the values.
    variance: f64,
}

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
        let mut wanted: Vec<(TensorId, Vec<i8>)> =
            self.pairs.iter().map(|(t, _)| (*t, Vec::new())).collect();
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
        let wanted = wanted.into_iter().map(|(t, v)| Wanted::new(t, v));
        Ok((wanted.collect(), last))
    }
}

impl Wanted {
    /// All samples' values of a tensor.
    pub fn new(tensor: TensorId, values: Vec<i8>) -> Self {
        let n = values.len().max(1) as f64;
        let sum: i64 = values.iter().map(|&v| v as i64).sum();
        let squares: i64 = values.iter().map(|&v| (v as i64).pow(2)).sum();
        let mean = sum as f64 / n;
        Self {
            tensor,
            // A tensor that says one thing always has nothing to be measured in but its own step.
            variance: (squares as f64 / n - mean * mean).max(1.0),
            values,
        }
    }

    /// Gradient, with respect to the real values of `have`, of `weight` times the mean squared
    /// distance of all samples from what is wanted, in variances of that; `have` is the integers of
    /// the samples from element `from` on, at `scale`.
    pub fn gradient(&self, have: &[i8], from: usize, scale: f32, weight: f32) -> Vec<f32> {
        let n = self.values.len().max(1) as f64;
        let factor = (2.0 * weight as f64 / (n * self.variance * scale as f64)) as f32;
        have.iter()
            .zip(&self.values[from..])
            .map(|(&q, &w)| factor * (q as i32 - w as i32) as f32)
            .collect()
    }
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
        let all = Wanted::new(TensorId(0), wanted.to_vec());
        let g = all.gradient(&have, 0, scale, weight);
        assert_eq!(all.gradient(&have[2..], 2, scale, weight), g[2..]);
        for k in 0..6 {
            let (mut up, mut down) = (have, have);
            up[k] += 1;
            down[k] -= 1;
            let slope = (value(&up) - value(&down)) / (2.0 * scale as f64);
            assert!((slope - g[k] as f64).abs() < 1e-6, "{k}: {slope} {}", g[k]);
        }
        let still = Wanted::new(TensorId(0), vec![4, 4]);
        assert_eq!(still.gradient(&[3, 4], 0, 1.0, 1.0), [-1.0, 0.0]);
    }
}
