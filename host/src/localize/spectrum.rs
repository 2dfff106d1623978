//! Counting: both networks run on the same tests, and their signs are compared.

use super::{Localization, Neuron, Spectrum, matched_layers};
use crate::classes::argmax;
use crate::engine::{Engine, EngineError};
use crate::float::{FloatError, FloatNet};
use crate::graph::{Graph, ValueId};
use crate::model::{QuantizedModel, TensorId};
use thiserror::Error;

/// Why neurons could not be localised.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LocalizeError {
    /// The two networks share no linear layer.
    #[error(
        "the integer model `{model}` has no layer whose output `{graph}` also has; \
         give the float network that it was quantized from"
    )]
    NothingInCommon {
        /// Name of the integer model.
        model: String,
        /// Name of the float network.
        graph: String,
    },
    /// Inputs of the two networks are not of one size.
    #[error(
        "{reals} real values and {integers} integers do not describe the same tests of {sample} elements"
    )]
    Inputs {
        /// Number of real-valued elements.
        reals: usize,
        /// Number of integer elements.
        integers: usize,
        /// Elements of one sample.
        sample: usize,
    },
    /// The float network failed.
    #[error(transparent)]
    Float(#[from] FloatError),
    /// The integer engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Runs both networks over the tests and counts each neuron's spectrum.
///
/// `reals` are the float network's inputs and `integers` the integer model's, of the same samples,
/// `[n][h][w][c]` each.
pub fn localize(
    graph: &Graph,
    float: &FloatNet,
    model: &QuantizedModel,
    reals: &[f32],
    integers: &[i8],
) -> Result<Localization, LocalizeError> {
    let layers = matched_layers(graph, model);
    if layers.is_empty() {
        return Err(LocalizeError::NothingInCommon {
            model: model.name.clone(),
            graph: graph.name.clone(),
        });
    }
    let sample = model.tensor(model.input).elements();
    if sample == 0 || reals.len() != integers.len() || !reals.len().is_multiple_of(sample) {
        return Err(LocalizeError::Inputs {
            reals: reals.len(),
            integers: integers.len(),
            sample,
        });
    }
    let n = reals.len() / sample;

    let engine = Engine::new(model)?;
    let mut keep_int: Vec<TensorId> = layers
        .iter()
        .map(|&(node, _)| model.nodes[node].output)
        .collect();
    keep_int.push(model.output);
    let mut keep_float: Vec<ValueId> = layers.iter().map(|&(_, v)| v).collect();
    keep_float.push(graph.output);

    let mut shares: Vec<Vec<f32>> = layers
        .iter()
        .map(|&(node, _)| {
            Vec::with_capacity(
                n * model.nodes[node]
                    .op
                    .linear()
                    .map_or(0, |l| l.out_channels()),
            )
        })
        .collect();
    let mut failing = Vec::with_capacity(n);
    let classes_int = model.tensor(model.output).elements();
    let classes_float = graph.elements(graph.output);
    float.for_each_batch(reals, &keep_float, |range, floats| {
        let ints = engine.run_keep(
            &integers[range.start * sample..range.end * sample],
            &keep_int,
        );
        for (l, &(node, _)) in layers.iter().enumerate() {
            let out = model.tensor(model.nodes[node].output);
            sign_shares(
                &floats[l],
                &ints[l],
                out.zero_point,
                out.shape,
                &mut shares[l],
            );
        }
        let last = layers.len();
        for i in 0..range.len() {
            let f = argmax(&floats[last][i * classes_float..(i + 1) * classes_float]);
            let q = argmax(&ints[last][i * classes_int..(i + 1) * classes_int]);
            failing.push(f != q);
        }
    })?;

    let mut neurons = Vec::new();
    for (l, &(node, _)) in layers.iter().enumerate() {
        let channels = model.tensor(model.nodes[node].output).shape[2];
        let mean = shares[l].iter().map(|&s| s as f64).sum::<f64>() / shares[l].len().max(1) as f64;
        for channel in 0..channels {
            let mut s = Spectrum::default();
            for (test, &fails) in failing.iter().enumerate() {
                let share = shares[l][test * channels + channel] as f64;
                // A layer in which every sign differs everywhere has no share above its mean.
                let activated = share > mean || share >= 1.0;
                match (activated, fails) {
                    (true, true) => s.caf += 1,
                    (true, false) => s.cas += 1,
                    (false, true) => s.cnf += 1,
                    (false, false) => s.cns += 1,
                }
            }
            neurons.push(Neuron {
                node,
                channel,
                spectrum: s,
            });
        }
    }
    let failed = failing.iter().filter(|&&f| f).count();
    Ok(Localization {
        neurons,
        layers: layers
            .iter()
            .map(|&(node, _)| (node, model.nodes[node].name.clone()))
            .collect(),
        passing: n - failed,
        failing: failed,
    })
}

/// Appends, for every sample and channel, the share of positions whose sign differs.
fn sign_shares(float: &[f32], int: &[i8], zero_point: i8, shape: [usize; 3], out: &mut Vec<f32>) {
    let [h, w, c] = shape;
    let positions = h * w;
    let mut counts = vec![0u32; c];
    for (f, q) in float
        .chunks_exact(positions * c)
        .zip(int.chunks_exact(positions * c))
    {
        counts.fill(0);
        for (f, q) in f.chunks_exact(c).zip(q.chunks_exact(c)) {
            for ((count, &f), &q) in counts.iter_mut().zip(f).zip(q) {
                *count += u32::from((f > 0.0) != (q > zero_point));
            }
        }
        out.extend(counts.iter().map(|&n| n as f32 / positions as f32));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_positions_whose_sign_differs_per_channel() {
        let float = [1.0, -1.0, 1.0, 0.0, 0.5, 2.0, -3.0, 1.0];
        let int = [5, 5, 5, 3, 4, 3, 3, 9]; // zero point 3: signs + + + 0 + 0 0 +
        let mut out = Vec::new();
        sign_shares(&float, &int, 3, [2, 2, 2], &mut out);
        assert_eq!(out, [0.0, 0.5]);
    }
}
