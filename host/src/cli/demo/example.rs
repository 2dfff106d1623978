//! The example that the program carries; see `host/assets/README.md`.

use anyhow::Result;

use crate::data::{Dataset, LoadOptions, from_idx_bytes};
use crate::graph::Graph;
use crate::import::onnx::import_onnx;

/// The network, as PyTorch exported it.
pub const MODEL: &[u8] = include_bytes!("../../../assets/fmnist_cnn.onnx");
/// 10,000 images that the network was not trained on.
pub const IMAGES: &[u8] = include_bytes!("../../../assets/t10k-images-idx3-ubyte.gz");
/// Their labels.
pub const LABELS: &[u8] = include_bytes!("../../../assets/t10k-labels-idx1-ubyte.gz");

/// The network's name.
pub const NAME: &str = "fmnist_cnn.onnx";

/// Names of the classes, in the order of the network's outputs.
pub const CLASSES: [&str; 10] = [
    "T-shirt",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Sizes of the sets, in file order.
pub const SPLIT: [(&str, usize); 4] = [
    ("calibration", 256),
    ("repair", 2500),
    ("holdout", 2500),
    ("test", 4744),
];

/// Network and disjoint sets.
pub struct Example {
    pub graph: Graph,
    pub calibration: Dataset,
    pub repair: Dataset,
    pub holdout: Dataset,
    pub test: Dataset,
}

impl Example {
    /// Imports and decodes by the code that reads users' files.
    pub fn load() -> Result<Self> {
        let mut graph = import_onnx(MODEL, NAME)?;
        graph.name = NAME.trim_end_matches(".onnx").into();
        let options = LoadOptions {
            expected: Some(graph.shape(graph.input)),
            ..LoadOptions::default()
        };
        let mut all = from_idx_bytes("embedded Fashion-MNIST", IMAGES, Some(LABELS), &options)?;
        all.class_names = CLASSES.map(String::from).to_vec();
        let mut start = 0;
        let mut next = |i: usize| {
            let take = crate::data::Take {
                start,
                end: Some(start + SPLIT[i].1),
            };
            start += SPLIT[i].1;
            all.take(take)
        };
        Ok(Example {
            calibration: next(0)?,
            repair: next(1)?,
            holdout: next(2)?,
            test: next(3)?,
            graph,
        })
    }
}

/// The range of a set in the file, as the command line writes it.
pub fn range(set: &str) -> String {
    let mut start = 0;
    for (name, n) in SPLIT {
        if name == set {
            return format!("{start}..{}", start + n);
        }
        start += n;
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::overlap;

    #[test]
    fn the_example_is_whole_and_its_sets_are_disjoint() {
        let e = Example::load().unwrap();
        assert_eq!(e.graph.shape(e.graph.input), [28, 28, 1]);
        assert_eq!(e.graph.elements(e.graph.output), CLASSES.len());
        let sets = [&e.calibration, &e.repair, &e.holdout, &e.test];
        assert_eq!(sets.map(Dataset::len), SPLIT.map(|s| s.1));
        assert_eq!(SPLIT.iter().map(|s| s.1).sum::<usize>(), 10_000);
        for (i, a) in sets.iter().enumerate() {
            assert!(a.checked_labels(10, "m", "accuracy").is_ok());
            for b in &sets[i + 1..] {
                assert_eq!(overlap(a, b).count, 0);
            }
        }
        assert_eq!(range("holdout"), "2756..5256");
    }
}
