//! Passes over the float network.

use super::error::CalibrateError;
use super::histogram::Histogram;
use super::{Method, mse, percentile};
use crate::float::FloatNet;
use crate::graph::{Graph, ValueId};

/// Samples, from the first on, over which the means of [`Calibration::mean`] are taken.
pub const MEAN_SAMPLES: usize = 1024;

/// A closed interval of real values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Lower end, finite.
    pub lo: f32,
    /// Upper end, finite, at least `lo`.
    pub hi: f32,
}

/// What calibration found.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// How the ranges were chosen.
    pub method: Method,
    ranges: Vec<Option<Range>>,
    means: Vec<Option<Vec<f64>>>,
    mean_samples: usize,
}

impl Calibration {
    /// A calibration with ranges from elsewhere, one per value of a graph (`None` for a value that
    /// no node computes). It has no means, so bias correction needs [`calibrate`].
    pub fn from_ranges(ranges: Vec<Option<Range>>) -> Self {
        let means = vec![None; ranges.len()];
        Self {
            method: Method::MinMax,
            ranges,
            means,
            mean_samples: 0,
        }
    }

    /// The range of a value, if it is the input or some node computes it.
    pub fn range(&self, id: ValueId) -> Option<Range> {
        self.ranges.get(id.0).copied().flatten()
    }

    /// Replaces the range of a value, where more is known of it than the samples show.
    pub fn set_range(&mut self, id: ValueId, range: Range) {
        if let Some(r) = self.ranges.get_mut(id.0) {
            *r = Some(range);
        }
    }

    /// Mean over samples of each element, `[h][w][c]`, of a value that a linear operator reads or writes.
    pub fn mean(&self, id: ValueId) -> Option<&[f64]> {
        self.means.get(id.0)?.as_deref()
    }

    /// Number of samples behind [`Self::mean`]: the first so many.
    pub fn mean_samples(&self) -> usize {
        self.mean_samples
    }
}

/// Runs `net`, made of `graph`, over `inputs` (`[n][h][w][c]`, preprocessed) and chooses the range
/// of every value.
///
/// # Errors
/// No samples, a part of a sample, values that are not finite, or a failure of the float network.
pub fn calibrate(
    graph: &Graph,
    net: &FloatNet,
    inputs: &[f32],
    method: Method,
) -> Result<Calibration, CalibrateError> {
    let elements = graph.elements(graph.input);
    if inputs.is_empty() {
        return Err(CalibrateError::NoSamples);
    }
    if !inputs.len().is_multiple_of(elements) {
        return Err(CalibrateError::Length {
            got: inputs.len(),
            shape: graph.shape(graph.input),
        });
    }
    let keep: Vec<ValueId> = std::iter::once(graph.input)
        .chain(graph.nodes.iter().map(|n| n.output))
        .collect();
    let linear = |n: usize| graph.nodes[n].op.weights().is_some();
    let beside_linear =
        |id: &ValueId| graph.consumers(*id).any(linear) || graph.producer(*id).is_some_and(linear);

    let mut ends = vec![(f32::INFINITY, f32::NEG_INFINITY); keep.len()];
    let mut sums: Vec<Option<Vec<f64>>> = keep
        .iter()
        .map(|id| beside_linear(id).then(|| vec![0.0; graph.elements(*id)]))
        .collect();
    let mean_samples = MEAN_SAMPLES.min(inputs.len() / elements);
    let mut bad = None;
    net.for_each_batch(inputs, &keep, |samples, values| {
        for (i, v) in values.iter().enumerate() {
            if let Some(&found) = v.iter().find(|x| !x.is_finite()) {
                bad.get_or_insert((keep[i], found));
            }
            let (lo, hi) = &mut ends[i];
            *lo = v.iter().copied().fold(*lo, f32::min);
            *hi = v.iter().copied().fold(*hi, f32::max);
            if let Some(sum) = &mut sums[i] {
                let counted = mean_samples
                    .saturating_sub(samples.start)
                    .min(samples.len());
                for sample in v.chunks_exact(sum.len()).take(counted) {
                    sum.iter_mut()
                        .zip(sample)
                        .for_each(|(s, &x)| *s += x as f64);
                }
            }
        }
    })?;
    if let Some((id, found)) = bad {
        return Err(CalibrateError::NotFinite {
            value: graph.value_name(id).to_string(),
            found,
        });
    }

    let chosen: Vec<Range> = match method {
        Method::MinMax => ends.iter().map(|&(lo, hi)| Range { lo, hi }).collect(),
        Method::Percentile(_) | Method::Mse => {
            let mut histograms: Vec<Histogram> = ends
                .iter()
                .map(|&(lo, hi)| Histogram::new(lo, hi))
                .collect();
            net.for_each_batch(inputs, &keep, |_, values| {
                histograms
                    .iter_mut()
                    .zip(values)
                    .for_each(|(h, v)| h.add(v));
            })?;
            keep.iter()
                .zip(&histograms)
                .map(|(id, h)| match method {
                    Method::Percentile(p) if *id != graph.input => percentile::range(h, p),
                    Method::Mse => mse::range(h),
                    _ => Range {
                        lo: h.lo(),
                        hi: h.hi(),
                    },
                })
                .collect()
        }
    };

    let mut ranges = vec![None; graph.values.len()];
    let mut means = vec![None; graph.values.len()];
    for ((id, range), sum) in keep.iter().zip(chosen).zip(sums) {
        ranges[id.0] = Some(range);
        means[id.0] = sum.map(|s| s.into_iter().map(|x| x / mean_samples as f64).collect());
    }
    Ok(Calibration {
        method,
        ranges,
        means,
        mean_samples,
    })
}
