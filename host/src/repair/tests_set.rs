//! The tests that a repair works on.

use crate::classes::classes;
use crate::float::{FloatError, FloatNet};

/// What a test should give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Targets {
    /// The float network's class: the teacher labels any input.
    #[default]
    Teacher,
    /// The data's own labels.
    Labels,
}

/// Inputs with the class that each should have.
#[derive(Clone, Debug)]
pub struct Tests {
    /// Inputs of the float network, `[n][h][w][c]`.
    pub reals: Vec<f32>,
    /// The same inputs as the integer model takes them.
    pub integers: Vec<i8>,
    /// One class per test.
    pub targets: Vec<usize>,
    /// Elements of one sample.
    pub sample: usize,
    /// More inputs of the float network, without a wanted class: the teacher says what they are, so
    /// `descent` learns from them too.
    pub extra: Vec<f32>,
    /// The data's own classes, where they are known: of the holdout set, they have a say in whether
    /// a repair is kept.
    pub labels: Option<Vec<usize>>,
}

impl Tests {
    /// Tests whose targets are the float network's classes.
    ///
    /// # Errors
    /// [`FloatError`] where the network does not take the inputs.
    pub fn from_teacher(
        float: &FloatNet,
        reals: Vec<f32>,
        integers: Vec<i8>,
        sample: usize,
        outputs: usize,
    ) -> Result<Self, FloatError> {
        let targets = classes(&float.run(&reals)?, outputs);
        Ok(Self {
            reals,
            integers,
            targets,
            sample,
            extra: Vec::new(),
            labels: None,
        })
    }

    /// The same tests with the data's own classes.
    pub fn with_labels(self, labels: Option<Vec<usize>>) -> Self {
        Self { labels, ..self }
    }

    /// The same tests with more inputs to learn from, `[n][h][w][c]`.
    pub fn with_extra(self, extra: Vec<f32>) -> Self {
        Self { extra, ..self }
    }

    /// Number of tests.
    pub fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Integer input of test `i`.
    pub fn integer(&self, i: usize) -> &[i8] {
        &self.integers[i * self.sample..(i + 1) * self.sample]
    }
}
