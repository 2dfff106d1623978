//! `bench localize`: does it matter which neurons may change?
//!
//! The same repair, allowed to change only the first N neurons of a ranking: for every metric, and
//! for several random orders as the control.

use std::fmt::Write as _;

use super::super::context::UserError;
use super::method::Method;
use super::render::spread;
use super::row::{Row, Spread};
use super::suite::{Suite, Sweep};
use crate::localize::Metric;

/// Replaces the suite's methods by the sweep's. Every metric runs with the suite's first seed, the
/// control with as many seeds as there are draws: the split stays the same, since the pool of a
/// sweep is not shuffled anew.
///
/// # Errors
/// A sweep whose strategies or metrics do not exist.
pub fn expand(suite: &Suite, sweep: &Sweep) -> Result<Suite, UserError> {
    let bad = |e: String| UserError::new(e, "mend [localize] in the suite");
    let mut methods = Vec::new();
    for strategy in &sweep.strategies {
        for &top in &sweep.tops {
            if top == 0 {
                methods.push(method(strategy, Metric::Ochiai, top));
                continue;
            }
            for metric in sweep.metrics().map_err(bad)? {
                methods.push(method(strategy, metric, top));
            }
        }
    }
    let methods: Result<Vec<Vec<Method>>, String> = methods
        .iter()
        .map(|m| {
            let draws = if m.contains(":random:") {
                sweep.draws
            } else {
                1
            };
            (0..draws).map(|d| draw(m, d).parse()).collect()
        })
        .collect();
    let mut all = suite.clone();
    all.methods = methods.map_err(bad)?.concat();
    for e in &mut all.models {
        e.methods = None;
        e.seeds = Some(vec![suite.seeds(e).first().copied().unwrap_or(0)]);
    }
    Ok(all)
}

fn method(strategy: &str, metric: Metric, top: usize) -> String {
    let top = if top == 0 {
        "all".into()
    } else {
        top.to_string()
    };
    format!("{strategy}:{metric}:top={top}")
}

fn draw(method: &str, d: u64) -> String {
    format!("{method}:seed={d}")
}

/// One table a model, width, rounding and strategy: metrics down, numbers of neurons across.
pub fn markdown(sweep: &Sweep, command: &str, about: &str, rows: &[Row]) -> String {
    let mut m = String::new();
    if !about.is_empty() {
        let _ = writeln!(m, "{}\n", about.trim());
    }
    let _ = writeln!(m, "```sh\n{command}\n```\n");
    let mut done: Vec<[String; 4]> = Vec::new();
    for row in rows {
        let Some((strategy, _, _)) = parts(&row.method) else {
            continue;
        };
        let id = [&row.model, &row.width, &row.rounding, &strategy].map(String::clone);
        if done.contains(&id) {
            continue;
        }
        let of: Vec<(Metric, usize, &Row)> = rows
            .iter()
            .filter(|r| [&r.model, &r.width, &r.rounding] == [&id[0], &id[1], &id[2]])
            .filter_map(|r| parts(&r.method).map(|(s, metric, top)| (s, metric, top, r)))
            .filter(|(s, ..)| *s == id[3])
            .map(|(_, metric, top, r)| (metric, top, r))
            .collect();
        let _ = writeln!(
            m,
            "`{}`, {} weights, {} rounding, strategy `{}`: float {}, before the repair {}, {} test samples.\n",
            id[0],
            id[1],
            id[2],
            id[3],
            row.float().percent(),
            row.before().percent(),
            row.test_samples
        );
        table(&mut m, sweep, &of);
        done.push(id);
    }
    m
}

fn table(m: &mut String, sweep: &Sweep, of: &[(Metric, usize, &Row)]) {
    let heads: Vec<String> = sweep
        .tops
        .iter()
        .map(|&t| if t == 0 { "all".into() } else { t.to_string() })
        .collect();
    let _ = writeln!(m, "| metric | {} |", heads.join(" | "));
    let _ = writeln!(m, "|---|{}", "---|".repeat(heads.len()));
    let accuracy = |metric: Metric, top: usize| {
        of.iter()
            .filter(move |(k, t, _)| *t == top && (*k == metric || top == 0))
            .map(|(_, _, r)| r.after().share())
    };
    // A metric wins at a number of neurons where it is above every draw of the control, and loses
    // where it is below every one.
    let mut score = (0, 0, 0);
    for metric in sweep.metrics().unwrap_or_default() {
        let cells: Vec<String> = sweep
            .tops
            .iter()
            .map(|&top| {
                if metric == Metric::Random && top != 0 {
                    return spread(accuracy(metric, top));
                }
                let Some(found) = Spread::of(accuracy(metric, top)) else {
                    return "-".into();
                };
                if top != 0
                    && let Some(control) = Spread::of(accuracy(Metric::Random, top))
                {
                    score.2 += 1;
                    score.0 += usize::from(found.mean > control.most);
                    score.1 += usize::from(found.mean < control.least);
                }
                format!("{:.2} %", 100.0 * found.mean)
            })
            .collect();
        let _ = writeln!(m, "| {metric} | {} |", cells.join(" | "));
    }
    let _ = writeln!(
        m,
        "\nOf {} cells of the metrics, {} lie above every random draw and {} below every one.\n",
        score.2, score.0, score.1
    );
}

/// Strategy with its settings, metric and number of neurons of a sweep's method.
fn parts(method: &str) -> Option<(String, Metric, usize)> {
    let mut pieces: Vec<&str> = method.split(':').collect();
    pieces.retain(|p| !p.starts_with("seed="));
    let top = pieces.pop()?.strip_prefix("top=")?;
    let metric = pieces.pop()?.parse().ok()?;
    let top = if top == "all" { 0 } else { top.parse().ok()? };
    Some((pieces.join(":"), metric, top))
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::*;

    const SUITE: &str = r#"
        [localize]
        strategies = ["neuron", "margin:no-weights"]
        tops = [5, 0]
        metrics = ["ochiai"]
        draws = 2
        [[model]]
        float = "net.onnx"
        data = { calibration = "c", repair = "r", holdout = "h", test = "t" }
    "#;

    #[test]
    fn a_sweep_becomes_methods_with_the_control_drawn_several_times() {
        let suite: Suite = toml::from_str(SUITE).unwrap();
        let all = expand(&suite, suite.localize.as_ref().unwrap()).unwrap();
        let names: Vec<&str> = all.methods.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names.len(), 8);
        assert!(
            names.contains(&"margin:no-weights:random:top=5:seed=1"),
            "{names:?}"
        );
        assert_eq!(
            parts("margin:no-weights:random:top=5:seed=1"),
            Some(("margin:no-weights".into(), Metric::Random, 5))
        );
        assert_eq!(parts("neuron:ochiai:top=all:seed=0").map(|p| p.2), Some(0));
        assert_eq!(parts("auto"), None);
    }

    #[test]
    fn the_table_sets_metrics_against_every_draw() {
        let suite: Suite = toml::from_str(SUITE).unwrap();
        let sweep = suite.localize.unwrap();
        let rows = [
            row("neuron:ochiai:top=5:seed=0", 0, 88),
            row("neuron:random:top=5:seed=0", 0, 84),
            row("neuron:random:top=5:seed=1", 0, 86),
            row("neuron:ochiai:top=all:seed=0", 0, 89),
        ];
        let text = markdown(&sweep, "qmend", "", &rows);
        assert!(text.contains("| metric | 5 | all |"), "{text}");
        assert!(text.contains("| ochiai | 88.00 % | 89.00 % |"), "{text}");
        assert!(
            text.contains("| random | 85.00 % (84.00 to 86.00) | 89.00 % |"),
            "{text}"
        );
        assert!(
            text.contains("Of 1 cells of the metrics, 1 lie above every random draw and 0 below"),
            "{text}"
        );
    }
}
