//! Samples and labels, as they were in the files: no preprocessing has touched them.

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
        let n = match &self.values {
            Values::U8(v) => v.len(),
            Values::I8(v) => v.len(),
            Values::F32(v) => v.len(),
        };
        n / self.elements().max(1)
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
            Values::U8(v) => v[at].iter().enumerate().map(|(i, &x)| map(i, x as f32)).collect(),
            Values::I8(v) => v[at].iter().enumerate().map(|(i, &x)| map(i, x as f32)).collect(),
            Values::F32(v) => v[at].iter().enumerate().map(|(i, &x)| map(i, x)).collect(),
        }
    }

    /// A dataset of the samples at `indices`, in that order.
    pub fn subset(&self, indices: &[usize]) -> Dataset {
        let e = self.elements();
        fn pick<T: Copy>(v: &[T], e: usize, idx: &[usize]) -> Vec<T> {
            idx.iter().flat_map(|&i| v[i * e..(i + 1) * e].iter().copied()).collect()
        }
        Dataset {
            source: self.source.clone(),
            shape: self.shape,
            values: match &self.values {
                Values::U8(v) => Values::U8(pick(v, e, indices)),
                Values::I8(v) => Values::I8(pick(v, e, indices)),
                Values::F32(v) => Values::F32(pick(v, e, indices)),
            },
            labels: self.labels.as_ref().map(|l| indices.iter().map(|&i| l[i]).collect()),
            class_names: self.class_names.clone(),
        }
    }
}
