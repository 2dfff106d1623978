//! Spectrum-based fault localisation: which neurons did quantization damage?
//!
//! A *neuron* is an output channel of a convolution or an output of a fully connected layer. A test
//! *passes* where the integer and the float network give the same class. In a test a neuron counts
//! as *activated* when the share of its spatial positions whose sign (after the activation function)
//! differs between the two networks is above the mean share of its layer; for a fully connected
//! layer that is: when its sign differs. (QNNRepair, SEFM 2023, section 3.2, extended to
//! convolutions.)

mod matching;
mod metric;
mod spectrum;

pub(crate) use matching::matched_layers;
pub use matching::{LayerMatches, match_layers};
pub use metric::{Metric, Spectrum};
pub use spectrum::{LocalizeError, localize};

use rand::SeedableRng;
use rand::seq::SliceRandom;

/// One neuron's spectrum.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Neuron {
    /// Index of the node in the integer model.
    pub node: usize,
    /// Output channel.
    pub channel: usize,
    /// Counts over the tests.
    pub spectrum: Spectrum,
}

/// The spectra of a network.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Localization {
    /// All neurons, by node and channel.
    pub neurons: Vec<Neuron>,
    /// Names of the nodes that `neurons` speak of, with the node's index.
    pub layers: Vec<(usize, String)>,
    /// Tests on which both networks agree.
    pub passing: usize,
    /// Tests on which they differ.
    pub failing: usize,
}

/// A neuron with its suspiciousness.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Ranked {
    /// Index of the node in the integer model.
    pub node: usize,
    /// Output channel.
    pub channel: usize,
    /// Larger is more suspicious.
    pub score: f64,
}

impl Localization {
    /// All neurons, most suspicious first; ties by node and channel. `seed` shuffles
    /// [`Metric::Random`] and is not used otherwise.
    pub fn ranking(&self, metric: Metric, seed: u64) -> Vec<Ranked> {
        let mut all: Vec<Ranked> = self
            .neurons
            .iter()
            .map(|n| Ranked {
                node: n.node,
                channel: n.channel,
                score: metric.score(n.spectrum),
            })
            .collect();
        if metric == Metric::Random {
            all.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
        } else {
            // A stable sort, so that ties keep the order of the network.
            all.sort_by(|a, b| b.score.total_cmp(&a.score));
        }
        all
    }

    /// Name of a node.
    pub fn layer_name(&self, node: usize) -> &str {
        self.layers
            .iter()
            .find(|(i, _)| *i == node)
            .map_or("?", |(_, name)| name)
    }
}
