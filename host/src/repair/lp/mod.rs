//! The linear programs of repair, all solved through `good_lp`.
//!
//! [`fit`] is the work-horse: a piecewise-linear fit with an L1 price, of which the hinge of the
//! `margin` strategy and the absolute error of the `layer` strategy are two settings.
//! [`chebyshev`] is the paper's: the smallest largest change.

mod chebyshev;
mod fit;
mod solver;

pub use chebyshev::{SignRow, chebyshev};
pub use fit::{Bounds, FitProblem, Row, fit};
pub use solver::Solver;

use good_lp::ResolutionError;
use std::time::Duration;
use thiserror::Error;

/// How programs are solved: by what, and how long one may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Means {
    /// The library.
    pub solver: Solver,
    /// Longest time for one program.
    pub limit: Duration,
}

/// Why a linear program gave no answer. Reported with the neuron or round that asked.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum LpError {
    /// No point satisfies the constraints.
    #[error("infeasible")]
    Infeasible,
    /// The time limit ran out first.
    #[error("not solved within {0:.1?}")]
    TimeLimit(Duration),
    /// The solver gave up, or its answer broke a constraint when that was recomputed.
    #[error("the solver failed: {0}")]
    Solver(String),
}

fn from_resolution(e: ResolutionError, limit: Duration) -> LpError {
    match e {
        ResolutionError::Infeasible => LpError::Infeasible,
        // What good_lp says of a time limit that ran out before there was any answer.
        ResolutionError::Other(s)
            if {
                let s = s.to_ascii_lowercase();
                s.contains("time limit") || s == "nosolutionfound"
            } =>
        {
            LpError::TimeLimit(limit)
        }
        other => LpError::Solver(other.to_string()),
    }
}
