//! Which data a suite's sets are.

use serde::Deserialize;

use crate::data::DataSpec;

/// Where the sets come from.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sets {
    /// A file or range that sets given as numbers are cut from, in the order below.
    #[serde(default)]
    pub pool: Option<String>,
    /// Whether each seed shuffles the pool first.
    #[serde(default = "yes")]
    pub shuffle: bool,
    /// Chooses scales, ranges and roundings; not needed for a given integer model.
    #[serde(default)]
    pub calibration: Option<Set>,
    /// More to learn from, without labels (strategies descent and auto), as the calibration set is.
    #[serde(default)]
    pub unlabelled: Option<Set>,
    /// What programs learn from.
    pub repair: Set,
    /// Decides what stays.
    pub holdout: Set,
    /// Read for the report alone.
    pub test: Set,
}

/// One set.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Set {
    /// So many samples of the pool.
    Count(usize),
    /// A file with an optional range, or `rest`: what is left of the pool.
    Spec(String),
    /// A file as the command line gave it.
    #[serde(skip)]
    File(DataSpec),
}

fn yes() -> bool {
    true
}

impl Sets {
    /// What is wrong with them, in words.
    pub fn check(&self) -> Result<(), String> {
        let sets = [
            ("calibration", self.calibration.as_ref()),
            ("unlabelled", self.unlabelled.as_ref()),
            ("repair", Some(&self.repair)),
            ("holdout", Some(&self.holdout)),
            ("test", Some(&self.test)),
        ];
        for (name, set) in sets {
            let Some(set) = set else { continue };
            if set.is_from_pool() && self.pool.is_none() {
                return Err(format!(
                    "the {name} set is cut from a pool, and data.pool is not there"
                ));
            }
            if *set == Set::Count(0) {
                return Err(format!("the {name} set is empty"));
            }
            if set.is_rest() && name != "test" {
                return Err(format!(
                    "only the test set can be the rest, not the {name} set"
                ));
            }
        }
        Ok(())
    }
}

impl Set {
    /// Whether it is cut from the pool.
    pub fn is_from_pool(&self) -> bool {
        matches!(self, Set::Count(_)) || self.is_rest()
    }

    /// Whether it is what the others leave of the pool.
    pub fn is_rest(&self) -> bool {
        *self == Set::Spec("rest".into())
    }
}
