//! One program of the sequence: rows with what they need, over one family of edits.

use super::rows::{MarginRow, margins_of};
use crate::float::{FloatError, Surrogate};
use crate::model::{Linear, QuantizedModel};
use crate::repair::State;
use crate::repair::lp::{Bounds, FitProblem, Row, fit};
use crate::repair::run::Context;
use crate::repair::state::Proposal;

/// A kind of edit: the variables of a program, and how its answer becomes integers.
pub trait Family {
    /// Number of variables.
    fn count(&self) -> usize;

    /// `[rows][variables]`: change of each margin per unit of each variable.
    ///
    /// # Errors
    /// [`FloatError`] where the model cannot be differentiated.
    fn coefficients(
        &self,
        state: &State<'_>,
        surrogate: &Surrogate,
        rows: &[MarginRow],
    ) -> Result<Vec<f32>, FloatError>;

    /// The integers that a solution stands for.
    fn proposal(&self, model: &QuantizedModel, solution: &[f64]) -> Proposal;
}

/// The linear part of a node that is known to have one.
pub(super) fn linear_of(model: &QuantizedModel, node: usize) -> &Linear {
    model.nodes[node]
        .op
        .linear()
        .expect("edits name linear nodes")
}

/// What a unit of a passing test's margin costs in strict mode, against a unit of a failing one's.
const GUARD: f64 = 300.0;

/// Margins linearised at the current model.
pub struct Program {
    rows: Vec<MarginRow>,
    wants: Vec<Row>,
    coefficients: Vec<f32>,
    variables: usize,
    /// One step of a logit.
    quantum: f64,
}

impl Program {
    /// Linearises `rows` in the variables of `family`.
    ///
    /// # Errors
    /// [`FloatError`] where the model cannot be differentiated.
    pub fn new(
        state: &State<'_>,
        surrogate: &Surrogate,
        family: &dyn Family,
        rows: Vec<MarginRow>,
    ) -> Result<Self, FloatError> {
        let mut program = Self {
            rows: Vec::new(),
            wants: Vec::new(),
            coefficients: Vec::new(),
            variables: family.count(),
            quantum: state.model().tensor(state.logits()).scale as f64,
        };
        program.add(state, surrogate, family, rows)?;
        Ok(program)
    }

    fn add(
        &mut self,
        state: &State<'_>,
        surrogate: &Surrogate,
        family: &dyn Family,
        rows: Vec<MarginRow>,
    ) -> Result<(), FloatError> {
        self.coefficients
            .extend(family.coefficients(state, surrogate, &rows)?);
        for row in &rows {
            // In strict mode a test that passed must pass before a failing one gains anything.
            let guarded = state.strict() && state.passed_at_start(row.test);
            let (need, below) = if guarded {
                (2.0 * self.quantum, GUARD)
            } else {
                (state.tau(), 1.0)
            };
            self.wants.push(Row {
                target: need - row.margin,
                below,
                above: 0.0,
            });
        }
        self.rows.extend(rows);
        Ok(())
    }

    /// Asks more for tests that a proposal broke although the linearisation kept them.
    ///
    /// # Errors
    /// [`FloatError`] where the model cannot be differentiated.
    pub fn guard(
        &mut self,
        state: &State<'_>,
        surrogate: &Surrogate,
        family: &dyn Family,
        broken: &[usize],
    ) -> Result<(), FloatError> {
        let mut new = Vec::new();
        for &test in broken {
            let mut known = false;
            for (row, want) in self.rows.iter().zip(&mut self.wants) {
                if row.test == test {
                    known = true;
                    // Twice as much each time: the linearisation may be far off.
                    let need = (want.target + row.margin).max(self.quantum);
                    want.target = 2.0 * need - row.margin;
                    want.below = GUARD;
                }
            }
            if !known {
                new.extend(margins_of(state, test));
            }
        }
        self.add(state, surrogate, family, new)
    }

    /// What of the wanted margins is missing at a solution, by the linearisation.
    pub fn missing(&self, solution: &[f64]) -> f64 {
        self.coefficients
            .chunks_exact(self.variables.max(1))
            .zip(&self.wants)
            .map(|(g, want)| {
                let raised: f64 = g.iter().zip(solution).map(|(&g, d)| g as f64 * d).sum();
                want.below * (want.target - raised).max(0.0)
            })
            .sum()
    }

    /// The edits that raise the wanted margins, each inside its range; `price` is a share of the
    /// price at which nothing would move. `None` where there is no answer (which is reported).
    pub fn solve(
        &self,
        ranges: &[(f64, f64)],
        price: f64,
        context: &mut Context<'_>,
    ) -> Option<Vec<f64>> {
        let k = self.variables;
        let mut slope = vec![0.0f64; k];
        for (g, want) in self.coefficients.chunks_exact(k.max(1)).zip(&self.wants) {
            if want.target > 0.0 {
                slope
                    .iter_mut()
                    .zip(g)
                    .for_each(|(s, &g)| *s += want.below * g as f64);
            }
        }
        let price = price * slope.iter().fold(0.0f64, |m, s| m.max(s.abs()));
        let bounds: Vec<Bounds> = ranges
            .iter()
            .map(|&(lo, hi)| Bounds { lo, hi, price })
            .collect();
        let problem = FitProblem {
            coefficients: &self.coefficients,
            rows: &self.wants,
            bounds: &bounds,
        };
        match fit(&problem, context.lp()) {
            Ok(d) => Some(d),
            Err(e) => {
                context.lp_failed("the whole network".into(), e);
                None
            }
        }
    }
}
