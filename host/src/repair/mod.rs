//! Mending: linear programs find new integers, the bit-exact engine decides whether they stay.
//!
//! - [`tests`](Tests): the disjoint repair and holdout sets, as the integer network sees them.
//! - [`state`](State): the model under repair; every edit is proposed to it, replayed, and kept or
//!   undone.
//! - [`lp`]: the programs, solved through `good_lp`.
//! - Strategies, one a file: [`margin`] (fine edits and weight steps over the whole network),
//!   [`descent`] (the whole network towards the teacher's probabilities, on varied inputs),
//!   [`layer`] (each neuron back to its float twin), [`neuron`] (the paper's).
//! - [`Freedom`]: limits, where the result goes into a file that cannot hold every change.
//! - [`integer`]: from a program's real numbers to weights on the lattice.
//! - [`certificate`]: what was repaired, in a form that can be replayed.
//! - [`robust`]: tests that keep their class in a whole box of inputs.
//! - `teacher`: the float network's class probabilities, and the distance from them.
//! - [`run`](repair): the whole of it.

pub mod certificate;
mod chain;
mod choice;
pub mod descent;
mod freedom;
pub mod integer;
pub mod layer;
pub mod lp;
pub mod margin;
pub mod neuron;
pub mod robust;
mod run;
mod state;
mod teacher;
#[cfg(test)]
mod tests;
mod tests_set;

pub use chain::{Chain, Strategy};
pub use descent::{Augment, Variations};
pub use freedom::Freedom;
pub use run::{Edits, Job, Outcome, RepairConfig, RepairError, Step, repair};
pub use state::{Proposal, Score, Snapshot, State, Verdict, logits};
pub use tests_set::{Targets, Tests};
