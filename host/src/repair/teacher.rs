//! Class probabilities, of the teacher and of the integer network, and how far apart they are.

use crate::float::{FloatError, FloatNet};
use crate::graph::{Graph, Op, ValueId};

/// The float value in which classes compete: the output, or the input of a final softmax.
pub fn logits(graph: &Graph) -> ValueId {
    match graph.producer(graph.output).map(|n| &graph.nodes[n]) {
        Some(node) if matches!(node.op, Op::Softmax) => node.inputs[0],
        _ => graph.output,
    }
}

/// By what logits are divided before their softmax is compared: the classes that the teacher thinks
/// unlikely say something too (Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network",
/// 2015).
pub const TEMPERATURE: f32 = 2.0;

/// The teacher's class probabilities for `inputs` at a temperature, `[n][classes]`.
///
/// # Errors
/// [`FloatError`] where the float network fails.
pub fn probabilities(
    float: &FloatNet,
    graph: &Graph,
    inputs: &[f32],
    temperature: f32,
) -> Result<Vec<f32>, FloatError> {
    let value = logits(graph);
    let z = float.run_keep(inputs, &[value])?.swap_remove(0);
    Ok(softmaxed(z, graph.elements(value), temperature))
}

/// Class probabilities of logits, `[n][classes]`, at a temperature.
pub fn softmaxed(mut logits: Vec<f32>, classes: usize, temperature: f32) -> Vec<f32> {
    logits.iter_mut().for_each(|v| *v /= temperature);
    logits.chunks_exact_mut(classes.max(1)).for_each(softmax);
    logits
}

/// Softmax of one row, in place.
fn softmax(row: &mut [f32]) {
    let max = row.iter().fold(f32::NEG_INFINITY, |m, &v| m.max(v));
    let mut sum = 0.0;
    for v in row.iter_mut() {
        *v = (*v - max).exp();
        sum += *v;
    }
    row.iter_mut().for_each(|v| *v /= sum);
}

/// Integer logits, `[n][classes]` at `scale`, against the teacher's probabilities.
pub struct Against<'a> {
    pub logits: &'a [i8],
    pub scale: f32,
    pub teacher: &'a [f32],
    pub classes: usize,
}

impl Against<'_> {
    fn rows(&self, mut each: impl FnMut(Vec<f32>, &[f32])) {
        for (z, p) in self
            .logits
            .chunks_exact(self.classes.max(1))
            .zip(self.teacher.chunks_exact(self.classes.max(1)))
        {
            let mut own: Vec<f32> = z.iter().map(|&q| self.scale * q as f32).collect();
            softmax(&mut own);
            each(own, p);
        }
    }

    /// Mean Kullback-Leibler divergence of the integer network's probabilities from the teacher's,
    /// in nats.
    pub fn divergence(&self) -> f64 {
        let all = self.divergences();
        all.iter().sum::<f64>() / all.len().max(1) as f64
    }

    /// The divergence of each sample.
    pub fn divergences(&self) -> Vec<f64> {
        const LEAST: f32 = 1e-9;
        let mut all = Vec::with_capacity(self.logits.len() / self.classes.max(1));
        self.rows(|own, p| {
            let terms = own
                .iter()
                .zip(p)
                .map(|(&s, &p)| p as f64 * (p.max(LEAST) as f64 / s.max(LEAST) as f64).ln());
            all.push(terms.sum());
        });
        all
    }

    /// Gradient of [`Self::divergence`] with respect to the real logits, `[n][classes]`.
    pub fn gradient(&self) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.logits.len());
        self.rows(|own, p| all.extend(own.iter().zip(p).map(|(s, p)| s - p)));
        let n = (all.len() / self.classes.max(1)).max(1) as f32;
        all.iter_mut().for_each(|v| *v /= n);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_divergence_is_zero_only_where_both_agree_and_its_gradient_is_its_slope() {
        let mut teacher = vec![0.5f32, 1.0, -0.25, 2.0, 0.0, 0.75];
        teacher.chunks_exact_mut(3).for_each(softmax);
        let at = |logits: &[i8]| {
            Against {
                logits,
                scale: 0.25,
                teacher: &teacher,
                classes: 3,
            }
            .divergence()
        };
        assert!(at(&[2, 4, -1, 8, 0, 3]).abs() < 1e-6);
        let z = [5i8, 1, 0, 2, 2, -3];
        assert!(at(&z) > 0.1);
        let gradient = Against {
            logits: &z,
            scale: 0.25,
            teacher: &teacher,
            classes: 3,
        }
        .gradient();
        for k in 0..6 {
            let (mut up, mut down) = (z, z);
            up[k] += 1;
            down[k] -= 1;
            let slope = (at(&up) - at(&down)) / 0.5;
            assert!((slope - gradient[k] as f64).abs() < 0.01, "{k}: {slope}");
        }
    }
}
