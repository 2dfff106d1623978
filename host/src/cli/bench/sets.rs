//! The sets of a model at a seed, and the proof that they are disjoint.

use anyhow::{Context as _, Result};

use super::super::context::UserError;
use super::super::stages;
use super::spec::Set;
use super::suite::{Entry, Suite};
use crate::data::{Dataset, Take, overlap};

/// Disjoint sets.
pub struct Loaded {
    /// None where an integer model is given.
    pub calibration: Option<Dataset>,
    /// More without labels.
    pub unlabelled: Option<Dataset>,
    pub repair: Dataset,
    pub holdout: Dataset,
    pub test: Dataset,
    /// What the report must say of them.
    pub notes: Vec<String>,
}

impl Loaded {
    /// The sets that there are, with their names.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, &Dataset)> {
        let calibration = self.calibration.iter().map(|d| ("calibration", d));
        let unlabelled = self.unlabelled.iter().map(|d| ("unlabelled", d));
        calibration.chain(unlabelled).chain([
            ("repair", &self.repair),
            ("holdout", &self.holdout),
            ("test", &self.test),
        ])
    }
}

/// Of a hundred samples of a set, at most so many may be in another one as well: a few images that
/// a collection holds twice are no mistake of the split, and are noted.
const MOST_SHARED: usize = 1;

/// Reads, shuffles and cuts the sets of a model whose input is `shape`.
pub fn load(suite: &Suite, e: &Entry, shape: [usize; 3], who: &str, seed: u64) -> Result<Loaded> {
    let read = e.read()?;
    let file = |text: &str| -> Result<Dataset> {
        stages::data_for(&suite.spec(text)?, &read, shape, &[], who)
    };
    let pool = match &e.data.pool {
        None => None,
        Some(text) if e.data.shuffle => Some(file(text)?.shuffled(seed)),
        Some(text) => Some(file(text)?),
    };
    let mut start = 0;
    let mut one = |name: &str, set: &Set| -> Result<Dataset> {
        let count = match set {
            Set::Count(n) => Some(*n),
            Set::Spec(_) if set.is_rest() => None,
            Set::File(spec) => {
                return stages::data_for(spec, &read, shape, &[], who)
                    .with_context(|| format!("the {name} set"));
            }
            Set::Spec(text) => return file(text).with_context(|| format!("the {name} set")),
        };
        let pool = pool.as_ref().context("a pool")?;
        let end = count.map(|n| start + n);
        let cut = pool
            .take(Take { start, end })
            .with_context(|| format!("the {name} set"))?;
        start += cut.len();
        Ok(cut)
    };
    let mut loaded = Loaded {
        calibration: match &e.data.calibration {
            Some(set) if e.quant.is_none() => Some(one("calibration", set)?),
            _ => None,
        },
        unlabelled: match &e.data.unlabelled {
            Some(set) => Some(one("unlabelled", set)?),
            None => None,
        },
        repair: one("repair", &e.data.repair)?,
        holdout: one("holdout", &e.data.holdout)?,
        test: one("test", &e.data.test)?,
        notes: Vec::new(),
    };
    loaded.notes = shared(&loaded)?;
    Ok(loaded)
}

/// Compares every two sets by the content of their samples.
fn shared(loaded: &Loaded) -> Result<Vec<String>> {
    let sets: Vec<_> = loaded.named().collect();
    let mut notes = Vec::new();
    for (i, (a, of_a)) in sets.iter().enumerate() {
        for (b, of_b) in &sets[i + 1..] {
            let found = overlap(of_a, of_b);
            let Some((x, y)) = found.first else { continue };
            let what = format!(
                "{} of the {} {b} samples are in the {a} set too (the first: {b} {y} is {a} {x})",
                found.count,
                of_b.len(),
            );
            if found.count * 100 > MOST_SHARED * of_b.len() {
                return Err(UserError::new(
                    what,
                    "cut disjoint sets: give the suite's sets ranges that do not meet, or numbers out of one pool",
                )
                .into());
            }
            notes.push(what);
        }
    }
    Ok(notes)
}
