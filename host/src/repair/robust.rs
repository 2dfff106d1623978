//! Interval certificates: tests that keep their class whatever the input does within some
//! quantization steps.
//!
//! The method is sound and incomplete. A certified test keeps its class for every input within the
//! box; of one that is not certified nothing is known.

use super::logits;
use crate::engine::{EngineError, Interval, Intervals};
use crate::model::{QuantizedModel, TensorId};
use rayon::prelude::*;

/// How many quantization steps of the input tests are certified for.
pub struct Robust {
    intervals: Intervals,
    at: TensorId,
    /// Whether classes compete in the model's very output, whose ties the first class wins.
    is_output: bool,
    sample: usize,
}

impl Robust {
    /// Prepares a model.
    ///
    /// # Errors
    /// [`EngineError`] where it cannot run.
    pub fn new(model: &QuantizedModel) -> Result<Self, EngineError> {
        let at = logits(model);
        Ok(Self {
            intervals: Intervals::new(model)?,
            at,
            is_output: at == model.output,
            sample: model.tensor(model.input).elements(),
        })
    }

    /// Where classes are compared: `output`, or `logits` where a softmax ends the network. There a
    /// certified class has the strictly largest logit; softmax keeps that order, but its 8 bits may
    /// show two close classes as equal.
    pub fn decided_on(&self) -> &'static str {
        if self.is_output { "output" } else { "logits" }
    }

    /// Whether every input within `steps` of `input` has the class `target`, as far as intervals
    /// can tell.
    ///
    /// # Panics
    /// Where `input` is not one sample.
    pub fn holds(&self, input: &[i8], target: usize, steps: u8) -> bool {
        let all = self.intervals.propagate(Interval::around(input, steps));
        let scores = &all[self.at.0];
        let Some(&least) = scores.lo.get(target) else {
            return false;
        };
        scores.hi.iter().enumerate().all(|(j, &most)| {
            j == target || least > most || (self.is_output && j > target && least == most)
        })
    }

    /// The largest number of steps, up to 255, that each of the tests is certified for, by
    /// bisection; `None` where not even the input itself is (its class is another, or tied).
    ///
    /// `inputs` is `[n][h][w][c]`, `targets` one class a test.
    ///
    /// # Panics
    /// Where `inputs` are not so many samples.
    pub fn largest(&self, inputs: &[i8], targets: &[usize]) -> Vec<Option<u8>> {
        assert_eq!(
            inputs.len(),
            targets.len() * self.sample,
            "one target a test"
        );
        inputs
            .par_chunks(self.sample)
            .zip(targets)
            .map(|(x, &t)| self.largest_of(x, t))
            .collect()
    }

    fn largest_of(&self, x: &[i8], target: usize) -> Option<u8> {
        if !self.holds(x, target, 0) {
            return None;
        }
        // Most tests end after a step or two, so the search opens up from below. What `yes` says has
        // been proved; boxes grow with the steps, so `no` bounds what can be.
        let (mut yes, mut no) = (0u16, 1u16);
        while no <= 255 && self.holds(x, target, no as u8) {
            (yes, no) = (no, 2 * no);
        }
        no = no.min(256);
        while no - yes > 1 {
            let middle = (yes + no) / 2;
            if self.holds(x, target, middle as u8) {
                yes = middle;
            } else {
                no = middle;
            }
        }
        Some(yes as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classes::argmax;
    use crate::engine::Engine;
    use crate::model::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// Two classes over two inputs: `a + offset` and `b`, multiplied by about 1.
    fn two_classes(offset: i32) -> QuantizedModel {
        let tensor = |name: &str| Tensor {
            name: name.into(),
            shape: [1, 1, 2],
            scale: 1.0,
            zero_point: 0,
        };
        let one = Multiplier {
            mantissa: 1 << 30,
            exponent: 1,
        };
        QuantizedModel {
            name: "two".into(),
            rounding: Rounding::Tflm,
            tensors: vec![tensor("x"), tensor("y")],
            nodes: vec![Node {
                name: "fc".into(),
                op: Op::FullyConnected(FullyConnected {
                    linear: Linear {
                        weights: vec![1, 0, 0, 1],
                        bits: 8,
                        bias: vec![offset, 0],
                        multipliers: vec![one; 2],
                        act_min: -128,
                        act_max: 127,
                    },
                }),
                inputs: vec![TensorId(0)],
                output: TensorId(1),
            }],
            input: TensorId(0),
            output: TensorId(1),
            preprocess: Preprocess::default(),
            labels: Vec::new(),
        }
    }

    #[test]
    fn the_largest_box_is_the_one_that_arithmetic_gives() {
        let r = Robust::new(&two_classes(0)).unwrap();
        // 20 against 9: both may come 5 closer; at 5.5 they would meet. Class 0 wins ties.
        assert_eq!(r.largest(&[20, 9], &[0]), [Some(5)]);
        assert_eq!(r.largest(&[20, 10], &[0]), [Some(5)]);
        assert_eq!(r.largest(&[10, 20], &[1]), [Some(4)]);
        assert_eq!(r.largest(&[10, 20, 20, 10], &[0, 1]), [None, None]);
        assert_eq!(r.largest(&[127, -128], &[0]), [Some(127)]);
        assert_eq!(r.decided_on(), "output");
        let far = Robust::new(&two_classes(300)).unwrap();
        assert_eq!(far.largest(&[0, 0], &[0]), [Some(255)]);
    }

    #[test]
    fn softmax_keeps_the_order_of_its_inputs() {
        let mut rng = StdRng::seed_from_u64(2);
        for seed in 0..60 {
            let model = random::random_operator(seed, "Softmax");
            let engine = Engine::new(&model).unwrap();
            let channels = model.tensor(model.output).shape[2];
            for _ in 0..50 {
                let spread = rng.random_range(1..=127i8);
                let x: Vec<i8> = (0..engine.input_elements())
                    .map(|_| rng.random_range(-spread..=spread))
                    .collect();
                let y = engine.run(&x);
                for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact(channels)) {
                    for i in 0..channels {
                        for j in 0..channels {
                            assert!(x[i] <= x[j] || y[i] >= y[j], "{seed}: {x:?} {y:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn certified_tests_keep_their_class_on_random_inputs_of_the_box() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut certified = 0;
        for seed in 0..200 {
            let model = random::random_model(seed, 3);
            let engine = Engine::new(&model).unwrap();
            let r = Robust::new(&model).unwrap();
            if !r.is_output || engine.output_elements() < 2 {
                continue;
            }
            let x: Vec<i8> = (0..engine.input_elements()).map(|_| rng.random()).collect();
            let class = argmax(&engine.run(&x));
            let Some(k) = r.largest(&x, &[class])[0].filter(|&k| k > 0) else {
                continue;
            };
            certified += 1;
            let around = Interval::around(&x, k);
            for _ in 0..50 {
                let p: Vec<i8> = around
                    .lo
                    .iter()
                    .zip(&around.hi)
                    .map(|(&a, &b)| rng.random_range(a..=b))
                    .collect();
                assert_eq!(argmax(&engine.run(&p)), class, "{seed}");
            }
        }
        assert!(certified >= 10, "{certified}");
    }
}
