//! The `margin` strategy: over the whole network at once, by sequential linear programming.
//!
//! Each round linearises the logit margins of the most endangered repair tests at the current
//! integer network, solves one program for all edits inside a trust region, rounds its answer to
//! integers, and proposes it. A refused step shrinks the region.
//!
//! - [`rows`]: which margins, and their gradients (through Burn's autodiff).
//! - [`fine`]: biases and multipliers, in which rounding loses nothing.
//! - [`steps`]: +-1 steps of weights under an L1 budget.
//! - `rounding`: whole steps for fractions, at random, where the plain ones are refused.
//! - [`program`]: one program: rows, what they need, and how it is solved.
//! - `search`: the sequence of programs.

pub mod fine;
pub mod program;
mod rounding;
pub mod rows;
mod search;
pub mod steps;

pub(crate) use search::SHORTEST_LP;
pub use search::run;
