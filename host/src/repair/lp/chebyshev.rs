//! The paper's program: the smallest largest change of one neuron's weights that gives its
//! pre-activation the wanted sign in every test.
//!
//! ```text
//! minimise   M + price * sum_i s_i
//! subject to |d_k| <= M,  lo_k <= d_k <= hi_k
//!            sign_i * (p_i + g_i.d) >= margin - s_i,  s_i >= 0
//! ```
//!
//! (QNNRepair, SEFM 2023, section 3.3. The slack is ours: one contradictory test must not make a
//! neuron infeasible.)

use super::{LpError, Means};
use good_lp::{Expression, variable, variables};

/// One test: its pre-activation and the sign that it should have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SignRow {
    /// The pre-activation as it is.
    pub now: f64,
    /// Whether it should be positive.
    pub positive: bool,
    /// Price of a unit of slack.
    pub price: f64,
}

/// Solves the program; the answer has one entry a weight. `coefficients` is `[rows][weights]`,
/// `bounds` the change that each weight allows, `margin` how far from zero a sign must be.
///
/// # Errors
/// [`LpError`] where the solver fails or its time runs out.
pub fn chebyshev(
    coefficients: &[f32],
    rows: &[SignRow],
    bounds: &[(f64, f64)],
    margin: f64,
    Means { solver, limit }: Means,
) -> Result<Vec<f64>, LpError> {
    let k = bounds.len();
    if rows.is_empty() || k == 0 {
        return Ok(vec![0.0; k]);
    }
    let mut vars = variables!();
    let largest = vars.add(variable().min(0.0));
    let d: Vec<_> = bounds
        .iter()
        .map(|&(lo, hi)| vars.add(variable().min(lo).max(hi)))
        .collect();
    let slack: Vec<_> = rows.iter().map(|_| vars.add(variable().min(0.0))).collect();
    let mut objective = Expression::with_capacity(rows.len() + 1);
    objective.add_mul(1.0, largest);
    for (row, &s) in rows.iter().zip(&slack) {
        objective.add_mul(row.price, s);
    }
    let mut constraints = Vec::with_capacity(rows.len() + 2 * k);
    for &d in &d {
        constraints.push((d - largest).leq(0.0));
        constraints.push((d + largest).geq(0.0));
    }
    for ((row, g), &s) in rows.iter().zip(coefficients.chunks_exact(k)).zip(&slack) {
        let sign = if row.positive { 1.0 } else { -1.0 };
        let mut e = Expression::with_capacity(k + 1);
        for (&g, &d) in g.iter().zip(&d) {
            if g != 0.0 {
                e.add_mul(sign * g as f64, d);
            }
        }
        e.add_mul(1.0, s);
        constraints.push(e.geq(margin - sign * row.now));
    }
    let found = solver.solve(vars.minimise(objective), constraints, &d, limit)?;
    Ok(found
        .iter()
        .zip(bounds)
        .map(|(v, &(lo, hi))| v.clamp(lo, hi))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::lp::Solver;
    use std::time::Duration;

    const MEANS: Means = Means {
        solver: Solver::Microlp,
        limit: Duration::from_secs(5),
    };

    #[test]
    fn the_smallest_change_spreads_evenly_over_the_weights() {
        // -1 + 2 d0 + 2 d1 >= 0.2 is met with the least maximum by d0 = d1 = 0.3.
        let rows = [SignRow {
            now: -1.0,
            positive: true,
            price: 100.0,
        }];
        let d = chebyshev(&[2.0, 2.0], &rows, &[(-5.0, 5.0); 2], 0.2, MEANS).unwrap();
        assert!(
            (d[0] - 0.3).abs() < 1e-9 && (d[1] - 0.3).abs() < 1e-9,
            "{d:?}"
        );
    }

    #[test]
    fn contradictory_tests_leave_slack_and_not_an_error() {
        let rows = [
            SignRow {
                now: -1.0,
                positive: true,
                price: 1.0,
            },
            SignRow {
                now: -1.0,
                positive: false,
                price: 10.0,
            },
        ];
        let d = chebyshev(&[1.0, 1.0], &rows, &[(-5.0, 5.0)], 0.0, MEANS).unwrap();
        assert!(d[0].abs() < 1.0 + 1e-9, "{d:?}");
    }
}
