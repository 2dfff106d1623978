//! Which library solves the programs, and how one is handed over.

use super::{LpError, from_resolution};
use good_lp::variable::UnsolvedProblem;
use good_lp::{
    Constraint, ResolutionError, Solution, SolutionStatus, SolverModel, Variable, WithTimeLimit,
};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The library that solves linear programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Solver {
    /// microlp, in Rust.
    #[default]
    Microlp,
    /// HiGHS, in C++ (feature `highs`).
    #[cfg(feature = "highs")]
    Highs,
}

impl Solver {
    /// Those that this build has.
    pub const ALL: &[Solver] = &[
        Solver::Microlp,
        #[cfg(feature = "highs")]
        Solver::Highs,
    ];

    /// Solves `problem` under `constraints` and gives the values of `wanted`.
    ///
    /// # Errors
    /// [`LpError`] where the solver fails, or `limit` runs out before an optimum is proved.
    pub(super) fn solve(
        self,
        problem: UnsolvedProblem,
        constraints: Vec<Constraint>,
        wanted: &[Variable],
        limit: Duration,
    ) -> Result<Vec<f64>, LpError> {
        match self {
            Solver::Microlp => run(problem.using(good_lp::microlp), constraints, wanted, limit),
            #[cfg(feature = "highs")]
            Solver::Highs => run(
                // Programs are solved side by side, a thread each.
                problem.using(good_lp::highs).set_threads(1),
                constraints,
                wanted,
                limit,
            ),
        }
    }
}

fn run<M>(
    mut model: M,
    constraints: Vec<Constraint>,
    wanted: &[Variable],
    limit: Duration,
) -> Result<Vec<f64>, LpError>
where
    M: SolverModel<Error = ResolutionError> + WithTimeLimit,
{
    for constraint in constraints {
        model.add_constraint(constraint);
    }
    let solution = model
        .with_time_limit(limit.as_secs_f64())
        .solve()
        .map_err(|e| from_resolution(e, limit))?;
    if !matches!(solution.status(), SolutionStatus::Optimal) {
        return Err(LpError::TimeLimit(limit));
    }
    Ok(wanted.iter().map(|&v| solution.value(v)).collect())
}

impl fmt::Display for Solver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Solver::Microlp => "microlp",
            #[cfg(feature = "highs")]
            Solver::Highs => "highs",
        })
    }
}

impl FromStr for Solver {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if let Some(known) = Self::ALL.iter().find(|k| k.to_string() == s) {
            return Ok(*known);
        }
        Err(match s {
            "highs" => "this qmend was built without HiGHS; install it with `--features highs` \
                        (needs CMake, a C++ compiler and libclang)"
                .into(),
            _ => format!("unknown solver `{s}`; known: microlp, highs"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solvers_are_read_as_they_are_written() {
        for solver in Solver::ALL {
            assert_eq!(solver.to_string().parse::<Solver>().unwrap(), *solver);
        }
        assert!("gurobi".parse::<Solver>().unwrap_err().contains("microlp"));
        if cfg!(not(feature = "highs")) {
            assert!(
                "highs"
                    .parse::<Solver>()
                    .unwrap_err()
                    .contains("--features")
            );
        }
    }
}
