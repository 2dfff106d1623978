//! The dataset itself.

use super::{DataError, Take};
use crate::model::Preprocess;

/// Raw values of all samples, `[n][h][w][c]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Bytes, such as pixels.
    U8(Vec<u8>),
    /// Integers of an int8 model's input.
    I8(Vec<i8>),
    /// Real values.
    F32(Vec<f32>),
}

impl Values {
    /// Number of elements of all samples.
    pub fn len(&self) -> usize {
        match self {
            Values::U8(v) => v.len(),
            Values::I8(v) => v.len(),
            Values::F32(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element type, for people: `uint8`, `int8` or `float32`.
    pub fn dtype(&self) -> &'static str {
        match self {
            Values::U8(_) => "uint8",
            Values::I8(_) => "int8",
            Values::F32(_) => "float32",
        }
    }

    /// Smallest and largest value; `None` where there is none.
    pub fn range(&self) -> Option<(f32, f32)> {
        fn ends(v: impl Iterator<Item = f32>) -> Option<(f32, f32)> {
            v.fold(None, |r, x| {
                Some(r.map_or((x, x), |(a, b): (f32, f32)| (a.min(x), b.max(x))))
            })
        }
        match self {
            Values::U8(v) => ends(v.iter().map(|&x| x as f32)),
            Values::I8(v) => ends(v.iter().map(|&x| x as f32)),
            Values::F32(v) => ends(v.iter().copied()),
        }
    }
}

/// Samples, with labels where the source has them.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Where it came from, for messages: a path, or `embedded`.
    pub source: String,
    /// Height, width, channels of one sample.
    pub shape: [usize; 3],
    /// The samples.
    pub values: Values,
    /// One class per sample.
    pub labels: Option<Vec<u32>>,
    /// Names of the classes, where the source has them (image folders).
    pub class_names: Vec<String>,
}

impl Dataset {
    /// Elements of one sample.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.values.len() / self.elements().max(1)
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Real-valued model inputs of samples `range`, `[n][h][w][c]`.
    pub fn real(&self, range: std::ops::Range<usize>, pre: &Preprocess) -> Vec<f32> {
        let e = self.elements();
        let c = self.shape[2];
        let at = range.start * e..range.end * e;
        let map = |i: usize, raw: f32| pre.apply(raw, i % c);
        match &self.values {
            Values::U8(v) => v[at]
                .iter()
                .enumerate()
                .map(|(i, &x)| map(i, x as f32))
                .collect(),
            Values::I8(v) => v[at]
                .iter()
                .enumerate()
                .map(|(i, &x)| map(i, x as f32))
                .collect(),
            Values::F32(v) => v[at].iter().enumerate().map(|(i, &x)| map(i, x)).collect(),
        }
    }

    /// A dataset of the samples at `indices`, in that order.
    pub fn subset(&self, indices: &[usize]) -> Dataset {
        let e = self.elements();
        fn pick<T: Copy>(v: &[T], e: usize, idx: &[usize]) -> Vec<T> {
            idx.iter()
                .flat_map(|&i| v[i * e..(i + 1) * e].iter().copied())
                .collect()
        }
        Dataset {
            source: self.source.clone(),
            shape: self.shape,
            values: match &self.values {
                Values::U8(v) => Values::U8(pick(v, e, indices)),
                Values::I8(v) => Values::I8(pick(v, e, indices)),
                Values::F32(v) => Values::F32(pick(v, e, indices)),
            },
            labels: self
                .labels
                .as_ref()
                .map(|l| indices.iter().map(|&i| l[i]).collect()),
            class_names: self.class_names.clone(),
        }
    }

    /// The samples of a range.
    ///
    /// # Errors
    /// [`DataError::Range`] where the range is empty or reaches past the last sample.
    pub fn take(&self, take: Take) -> Result<Dataset, DataError> {
        let (start, end) = (take.start, take.end.unwrap_or(self.len()));
        if start >= end || end > self.len() {
            return Err(DataError::Range {
                source_name: self.source.clone(),
                start,
                end,
                samples: self.len(),
            });
        }
        let indices: Vec<usize> = (start..end).collect();
        Ok(Dataset {
            source: format!("{}:{start}..{end}", self.source),
            ..self.subset(&indices)
        })
    }

    /// The same samples in an order that depends on the seed alone.
    pub fn shuffled(&self, seed: u64) -> Dataset {
        self.subset(&shuffled_order(self.len(), seed))
    }

    /// Cuts the samples, in order, into sets of the given sizes.
    ///
    /// # Errors
    /// [`DataError::Range`] where there are too few samples.
    pub fn split(&self, sizes: &[usize]) -> Result<Vec<Dataset>, DataError> {
        let mut start = 0usize;
        sizes
            .iter()
            .map(|&n| {
                let end = start.saturating_add(n);
                let part = self.take(Take {
                    start,
                    end: Some(end),
                });
                start = end;
                part
            })
            .collect()
    }

    /// The samples under the shape that `who` (a model's name) takes. Axes of length one may come
    /// and go, and a flat vector may take any shape of as many elements with one channel, as none
    /// of that changes the order of the elements.
    ///
    /// # Errors
    /// [`DataError::Shape`] where the samples cannot be read that way.
    pub fn check_shape(mut self, expected: [usize; 3], who: &str) -> Result<Dataset, DataError> {
        let squeeze = |s: [usize; 3]| s.into_iter().filter(|&d| d != 1).collect::<Vec<_>>();
        let flat = |s: [usize; 3]| s[0] * s[1] == 1;
        // Flat elements of several channels may be interleaved or planar, and nothing says which.
        let one_order =
            |s: [usize; 3]| squeeze(s).len() <= 2 && (s[2] == 1 || s[0] == 1 || s[1] == 1);
        let same_count = self.elements() == expected.iter().product::<usize>();
        let flattening = (flat(self.shape) && one_order(expected)) || flat(expected);
        if squeeze(self.shape) == squeeze(expected) || (same_count && flattening) {
            self.shape = expected;
            Ok(self)
        } else {
            Err(DataError::Shape {
                source_name: self.source,
                found: self.shape,
                expected,
                who: who.into(),
            })
        }
    }

    /// The labels, each below `classes`.
    ///
    /// # Errors
    /// [`DataError::NoLabels`] and [`DataError::LabelRange`] (`who` is the model's name, `why` what
    /// the labels are for).
    pub fn checked_labels(
        &self,
        classes: usize,
        who: &str,
        why: &str,
    ) -> Result<&[u32], DataError> {
        let labels = self.labels.as_deref().ok_or_else(|| DataError::NoLabels {
            source_name: self.source.clone(),
            why: why.into(),
        })?;
        match labels.iter().position(|&l| l as usize >= classes) {
            None => Ok(labels),
            Some(index) => Err(DataError::LabelRange {
                source_name: self.source.clone(),
                index,
                label: labels[index],
                classes,
                who: who.into(),
            }),
        }
    }
}

/// A permutation of `0..n` by Fisher and Yates over SplitMix64 (Steele, Lea, Flood 2014), written
/// out here so that a seed names the same split whatever becomes of a library's generator.
fn shuffled_order(n: usize, seed: u64) -> Vec<usize> {
    let mut state = seed;
    let mut next = move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        let j = ((next() as u128 * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(shape: [usize; 3], n: usize) -> Dataset {
        let e: usize = shape.iter().product();
        Dataset {
            source: "numbers".into(),
            shape,
            values: Values::F32((0..n * e).map(|i| i as f32).collect()),
            labels: Some((0..n as u32).collect()),
            class_names: Vec::new(),
        }
    }

    #[test]
    fn a_seed_fixes_the_order_and_keeps_labels_with_their_samples() {
        let d = numbered([1, 1, 2], 100);
        let a = d.shuffled(7);
        assert_eq!(a, d.shuffled(7));
        assert_ne!(a, d.shuffled(8));
        let Values::F32(v) = &a.values else { panic!() };
        let labels = a.labels.as_ref().unwrap();
        assert!(
            labels
                .iter()
                .enumerate()
                .all(|(i, &l)| v[2 * i] == 2.0 * l as f32)
        );
        let mut sorted = labels.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        assert_ne!(*labels, sorted);
        // The order of this seed must never change: splits in scripts and certificates rest on it.
        assert_eq!(shuffled_order(8, 42), [4, 3, 2, 0, 7, 6, 1, 5]);
    }

    #[test]
    fn a_split_is_disjoint_and_refuses_to_run_dry() {
        let d = numbered([1, 1, 1], 10);
        let parts = d.split(&[3, 7]).unwrap();
        assert_eq!(parts[0].labels, Some(vec![0, 1, 2]));
        assert_eq!(parts[1].labels, Some((3..10).collect()));
        assert_eq!(parts[1].source, "numbers:3..10");
        assert!(matches!(
            d.split(&[3, 8]),
            Err(DataError::Range {
                end: 11,
                samples: 10,
                ..
            })
        ));
        assert!(
            d.take(Take {
                start: 10,
                end: None
            })
            .is_err()
        );
    }

    #[test]
    fn shapes_may_differ_only_where_the_order_of_elements_cannot() {
        let ok = |from, to| numbered(from, 2).check_shape(to, "m").map(|d| d.shape);
        assert_eq!(ok([1, 1, 784], [28, 28, 1]).unwrap(), [28, 28, 1]);
        assert_eq!(ok([1, 1, 490], [49, 10, 1]).unwrap(), [49, 10, 1]);
        assert_eq!(ok([49, 10, 1], [1, 49, 10]).unwrap(), [1, 49, 10]);
        assert_eq!(ok([28, 28, 1], [1, 1, 784]).unwrap(), [1, 1, 784]);
        assert_eq!(ok([8, 8, 3], [8, 8, 3]).unwrap(), [8, 8, 3]);
        for (from, to) in [
            ([3, 8, 8], [8, 8, 3]),
            ([1, 1, 192], [8, 8, 3]),
            ([28, 28, 1], [32, 32, 1]),
            ([4, 6, 1], [6, 4, 1]),
        ] {
            let e = ok(from, to).unwrap_err();
            assert!(e.to_string().contains("m takes"), "{e}");
        }
    }

    #[test]
    fn labels_are_checked_against_the_models_outputs() {
        let d = numbered([1, 1, 1], 4);
        assert_eq!(d.checked_labels(4, "m", "accuracy").unwrap().len(), 4);
        let e = d.checked_labels(3, "m", "accuracy").unwrap_err();
        assert!(matches!(
            e,
            DataError::LabelRange {
                index: 3,
                label: 3,
                ..
            }
        ));
        assert_eq!(
            e.to_string(),
            "numbers: the label of sample 3 is 3, but m has 3 outputs (labels 0 to 2)"
        );
        let e = Dataset { labels: None, ..d }
            .checked_labels(3, "m", "accuracy")
            .unwrap_err();
        assert!(e.to_string().contains("accuracy needs them"));
    }
}
