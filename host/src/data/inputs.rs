//! From raw data to the integers that a quantized model takes.

use std::ops::Range;

use super::{Dataset, Values};
use crate::model::{Preprocess, QuantizedModel, Tensor};

impl Dataset {
    /// Inputs of an integer model for samples `range`, `[n][h][w][c]`: the real input (see
    /// [`Dataset::real`]) quantized as the input tensor says.
    ///
    /// int8 data under no preprocessing are the model's input integers already and pass as they
    /// are.
    pub fn integers(&self, range: Range<usize>, pre: &Preprocess, input: &Tensor) -> Vec<i8> {
        let (e, c) = (self.elements(), self.shape[2]);
        let at = range.start * e..range.end * e;
        let one = |raw: f32, k: usize| input.quantize(pre.apply(raw, k));
        match &self.values {
            Values::I8(v) if pre.is_identity() => v[at].to_vec(),
            Values::F32(v) => v[at]
                .iter()
                .enumerate()
                .map(|(i, &x)| one(x, i % c))
                .collect(),
            Values::U8(v) => {
                let table: Vec<[i8; 256]> = (0..c)
                    .map(|k| std::array::from_fn(|b| one(b as f32, k)))
                    .collect();
                v[at]
                    .iter()
                    .enumerate()
                    .map(|(i, &x)| table[i % c][x as usize])
                    .collect()
            }
            Values::I8(v) => {
                let table: Vec<[i8; 256]> = (0..c)
                    .map(|k| std::array::from_fn(|b| one((b as f32) - 128.0, k)))
                    .collect();
                v[at]
                    .iter()
                    .enumerate()
                    .map(|(i, &x)| table[i % c][(x as i16 + 128) as usize])
                    .collect()
            }
        }
    }

    /// [`Dataset::integers`] of all samples, by a model's own preprocessing.
    pub fn model_inputs(&self, model: &QuantizedModel) -> Vec<i8> {
        self.integers(0..self.len(), &model.preprocess, model.tensor(model.input))
    }

    /// The real range of the input tensor under which every raw byte keeps an integer of its own,
    /// so that quantizing the input loses nothing: uint8 and int8 data under one scale, mean and
    /// standard deviation for all channels. `None` where there is no such range.
    pub fn exact_input_range(&self, pre: &Preprocess) -> Option<(f32, f32)> {
        let (low, high) = match self.values {
            Values::U8(_) => (0.0, 255.0),
            Values::I8(_) => (-128.0, 127.0),
            Values::F32(_) => return None,
        };
        let uniform = |v: &[f32]| v.windows(2).all(|w| w[0] == w[1]);
        let (a, b) = (pre.apply(low, 0), pre.apply(high, 0));
        // The integer of real zero must exist, or the range would have to be widened.
        (uniform(&pre.mean) && uniform(&pre.std) && a < b && a <= 0.0 && b >= 0.0).then_some((a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(values: Values) -> Dataset {
        Dataset {
            source: "t".into(),
            shape: [1, 1, 2],
            values,
            labels: None,
            class_names: Vec::new(),
        }
    }

    fn tensor(scale: f32, zero_point: i8) -> Tensor {
        Tensor {
            name: "x".into(),
            shape: [1, 1, 2],
            scale,
            zero_point,
        }
    }

    #[test]
    fn tables_give_what_the_formula_gives() {
        let pre = Preprocess {
            scale: 1.0 / 255.0,
            mean: vec![0.5, 0.25],
            std: vec![0.5, 2.0],
        };
        let t = tensor(0.011, 3);
        let all: Vec<u8> = (0..=255).flat_map(|b| [b, b]).collect();
        let d = data(Values::U8(all.clone()));
        let want: Vec<i8> = d
            .real(0..256, &pre)
            .into_iter()
            .map(|r| t.quantize(r))
            .collect();
        assert_eq!(d.integers(0..256, &pre, &t), want);
        assert_eq!(d.integers(7..9, &pre, &t), want[14..18]);
        let d = data(Values::I8(all.iter().map(|&b| b as i8).collect()));
        let want: Vec<i8> = d
            .real(0..256, &pre)
            .into_iter()
            .map(|r| t.quantize(r))
            .collect();
        assert_eq!(d.integers(0..256, &pre, &t), want);
        let d = data(Values::F32(vec![0.5, 300.0]));
        assert_eq!(d.integers(0..1, &Preprocess::default(), &t), [48, 127]);
    }

    #[test]
    fn int8_data_without_preprocessing_are_the_integers_themselves() {
        let d = data(Values::I8(vec![-128, 127, 0, 5]));
        assert_eq!(
            d.integers(0..2, &Preprocess::default(), &tensor(0.58, 83)),
            [-128, 127, 0, 5]
        );
    }

    #[test]
    fn an_exact_range_keeps_every_byte_apart() {
        let pre = Preprocess {
            scale: 1.0 / 255.0,
            mean: vec![0.2],
            std: vec![0.3],
        };
        let d = data(Values::U8((0..=255).flat_map(|b| [b, b]).collect()));
        let (a, b) = d.exact_input_range(&pre).unwrap();
        let scale = (b - a) / 255.0;
        let t = tensor(scale, (-128.0 - a / scale).round() as i8);
        let q = d.integers(0..256, &pre, &t);
        assert!(
            q.chunks(2)
                .enumerate()
                .all(|(i, p)| p[0] as i32 == i as i32 - 128),
            "{q:?}"
        );
        let two = Preprocess {
            mean: vec![0.0, 1.0],
            ..pre
        };
        assert_eq!(d.exact_input_range(&two), None);
        assert_eq!(
            data(Values::F32(vec![])).exact_input_range(&Preprocess::default()),
            None
        );
    }
}
