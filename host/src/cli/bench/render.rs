//! The table as CSV, JSON and Markdown, and for the terminal.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::row::{Row, Spread, groups, won_back_together};
use super::run::Results;
use crate::report::{Proportion, Table};

/// Columns of the CSV: one line a row, that is a model, width, rounding, method and seed.
const COLUMNS: [&str; 42] = [
    "model",
    "width",
    "rounding",
    "started_from",
    "method",
    "seed",
    "test_samples",
    "float_correct",
    "before_correct",
    "after_correct",
    "float_accuracy",
    "before_accuracy",
    "before_low95",
    "before_high95",
    "after_accuracy",
    "after_low95",
    "after_high95",
    "won_back",
    "only_before_right",
    "only_after_right",
    "mcnemar_p",
    "test_agreeing_before",
    "test_agreeing_after",
    "repair_tests",
    "repair_passing_before",
    "repair_passing_after",
    "holdout_tests",
    "holdout_passing_before",
    "holdout_passing_after",
    "biases_changed",
    "multipliers_changed",
    "weights_changed",
    "repaired",
    "lost",
    "unsolved_programs",
    "stopped",
    "image_bytes",
    "quantize_seconds",
    "seconds",
    "cpu_seconds",
    "peak_bytes",
    "key",
];

/// The table as CSV (RFC 4180), shares from 0 to 1.
///
/// # Errors
/// None but for memory.
pub fn csv(rows: &[Row]) -> anyhow::Result<Vec<u8>> {
    let mut out = csv::Writer::from_writer(Vec::new());
    out.write_record(COLUMNS)?;
    for r in rows {
        let number = |x: f64| format!("{x:.6}");
        let (before, after) = (r.before(), r.after());
        let interval = |p: Proportion| [p.wilson95().0, p.wilson95().1].map(number);
        let [before_low, before_high] = interval(before);
        let [after_low, after_high] = interval(after);
        let cells: [String; COLUMNS.len()] = [
            r.model.clone(),
            r.width.clone(),
            r.rounding.clone(),
            r.started_from.clone(),
            r.method.clone(),
            r.seed.to_string(),
            r.test_samples.to_string(),
            r.float_correct.to_string(),
            r.before_correct.to_string(),
            r.after_correct.to_string(),
            number(r.float().share()),
            number(before.share()),
            before_low,
            before_high,
            number(after.share()),
            after_low,
            after_high,
            r.won_back().map_or(String::new(), number),
            r.only_before.to_string(),
            r.only_after.to_string(),
            format!("{:e}", r.p()),
            r.agreeing[0].to_string(),
            r.agreeing[1].to_string(),
            r.repair[2].to_string(),
            r.repair[0].to_string(),
            r.repair[1].to_string(),
            r.holdout[2].to_string(),
            r.holdout[0].to_string(),
            r.holdout[1].to_string(),
            r.edits[0].to_string(),
            r.edits[1].to_string(),
            r.edits[2].to_string(),
            r.repaired.to_string(),
            r.lost.to_string(),
            r.unsolved.to_string(),
            r.stopped.clone().unwrap_or_default(),
            r.image_bytes.to_string(),
            format!("{:.3}", r.quantize_seconds),
            format!("{:.3}", r.seconds),
            r.cpu_seconds.map_or(String::new(), |s| format!("{s:.2}")),
            r.peak_bytes.map_or(String::new(), |b| b.to_string()),
            r.key.clone(),
        ];
        out.write_record(&cells)?;
    }
    Ok(out.into_inner()?)
}

/// The table for programs: the rows as measured with what follows from them, and the groups over
/// seeds.
pub fn json(results: &Results) -> Value {
    let row = |r: &Row| {
        let mut v = json!(r);
        v["float_accuracy"] = json!(r.float().share());
        v["before_accuracy"] = json!(r.before().share());
        v["before_interval95"] = json!(r.before().wilson95());
        v["after_accuracy"] = json!(r.after().share());
        v["after_interval95"] = json!(r.after().wilson95());
        v["won_back"] = json!(r.won_back());
        v["mcnemar_p"] = json!(r.p());
        v
    };
    let group = |g: &Vec<&Row>| {
        let [model, width, rounding, method] = g[0].group();
        let spread = |f: &dyn Fn(&Row) -> Option<f64>| Spread::of(g.iter().filter_map(|r| f(r)));
        let share = |r: &Row, i: usize| r.agreeing[i] as f64 / r.test_samples.max(1) as f64;
        let agreeing = |i: usize| spread(&|r| Some(share(r, i)));
        json!({
            "model": model,
            "width": width,
            "rounding": rounding,
            "method": method,
            "seeds": g.iter().map(|r| r.seed).collect::<Vec<_>>(),
            "float_accuracy": spread(&|r| Some(r.float().share())),
            "before_accuracy": spread(&|r| Some(r.before().share())),
            "after_accuracy": spread(&|r| Some(r.after().share())),
            "won_back": spread(&Row::won_back),
            "won_back_together": won_back_together(g),
            "test_agreeing_before": agreeing(0),
            "test_agreeing_after": agreeing(1),
            "largest_p": g.iter().map(|r| r.p()).fold(0.0, f64::max),
            "seconds": spread(&|r| Some(r.seconds)),
            "cpu_seconds": spread(&|r| r.cpu_seconds),
            "peak_bytes": g.iter().filter_map(|r| r.peak_bytes).max(),
        })
    };
    json!({
        "models": results.models.iter().map(|m| json!({
            "name": m.name,
            "sizes": m.sizes.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
            "notes": m.notes,
        })).collect::<Vec<_>>(),
        "rows": results.rows.iter().map(row).collect::<Vec<_>>(),
        "groups": groups(&results.rows).iter().map(group).collect::<Vec<_>>(),
    })
}

/// For the terminal.
pub fn table(results: &Results) -> Table {
    let mut table = Table::new([
        "model", "weights", "rounding", "method", "before", "after", "won back", "p", "repair",
        "holdout", "s",
    ]);
    for g in groups(&results.rows) {
        let c = Cells::of(&g, false);
        table.row([
            g[0].model.clone(),
            g[0].width.clone(),
            c.rounding,
            g[0].method.clone(),
            c.before,
            c.after,
            c.won_back,
            c.p,
            c.repair,
            c.holdout,
            c.seconds,
        ]);
    }
    table
}

/// The report: for each model its sets and its table.
pub fn markdown(title: &str, about: &str, command: &str, results: &Results) -> String {
    let mut m = String::new();
    if !title.is_empty() {
        let _ = writeln!(m, "## {title}\n");
    }
    if !about.is_empty() {
        let _ = writeln!(m, "{}\n", about.trim());
    }
    let _ = writeln!(m, "```sh\n{command}\n```\n");
    for about in &results.models {
        let rows: Vec<Row> = results
            .rows
            .iter()
            .filter(|r| r.model == about.name)
            .cloned()
            .collect();
        let Some(first) = rows.first() else { continue };
        let seeds: Vec<u64> = {
            let mut s: Vec<u64> = rows.iter().map(|r| r.seed).collect();
            s.sort_unstable();
            s.dedup();
            s
        };
        let sizes: Vec<String> = about
            .sizes
            .iter()
            .map(|(n, k)| format!("{k} {n}"))
            .collect();
        let float = if seeds.len() == 1 {
            interval(first.float())
        } else {
            spread(rows.iter().map(|r| r.float().share()))
        };
        let _ = writeln!(
            m,
            "`{}`: float accuracy {float} on the test set. Sets: {}. {}, at most {} s a repair.{}\n",
            about.name,
            sizes.join(", "),
            if let [seed] = seeds[..] {
                format!("Seed {seed}")
            } else {
                format!("Mean (least to most) over seeds {}", list(&seeds))
            },
            about.budget,
            about
                .notes
                .first()
                .map_or(String::new(), |n| format!(" Note: {n}.")),
        );
        let _ = writeln!(
            m,
            "| weights | rounding | method | accuracy before | after | won back | McNemar p | test agreement | repair agreement | holdout agreement | biases / multipliers / weights changed | bytes | seconds | CPU s | peak MiB |"
        );
        let _ = writeln!(
            m,
            "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
        );
        for g in groups(&rows) {
            let c = Cells::of(&g, true);
            let _ = writeln!(
                m,
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                g[0].width,
                c.rounding,
                g[0].method,
                c.before,
                c.after,
                c.won_back,
                c.p,
                c.agreement,
                c.repair,
                c.holdout,
                c.edits,
                g.iter().map(|r| r.image_bytes).max().unwrap_or(0),
                c.seconds,
                c.cpu,
                c.peak
            );
        }
        m.push('\n');
    }
    m
}

fn list(seeds: &[u64]) -> String {
    seeds
        .iter()
        .map(u64::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A group's numbers in words; with one seed the plain values, with several the mean and the range.
struct Cells {
    rounding: String,
    before: String,
    after: String,
    won_back: String,
    p: String,
    agreement: String,
    repair: String,
    holdout: String,
    edits: String,
    seconds: String,
    cpu: String,
    peak: String,
}

impl Cells {
    fn of(g: &[&Row], intervals: bool) -> Self {
        let one = (g.len() == 1).then(|| g[0]);
        let accuracy = |f: fn(&Row) -> Proportion| match one {
            Some(r) if intervals => interval(f(r)),
            Some(r) => f(r).percent(),
            None => spread(g.iter().map(|r| f(r).share())),
        };
        let p = g.iter().map(|r| r.p()).fold(0.0, f64::max);
        let mean = |f: &dyn Fn(&Row) -> f64| g.iter().map(|r| f(r)).sum::<f64>() / g.len() as f64;
        let of = |f: fn(&Row) -> [usize; 3]| {
            let [before, after] = [0, 1].map(|i| mean(&|r| f(r)[i] as f64));
            format!("{before:.0} -> {after:.0}")
        };
        let [b, m, w] = [0, 1, 2].map(|i| mean(&|r| r.edits[i] as f64));
        let mut from: Vec<&str> = g.iter().map(|r| r.started_from.as_str()).collect();
        from.dedup();
        Cells {
            rounding: if g[0].rounding == "best" {
                format!("best ({})", from.join(", "))
            } else {
                g[0].rounding.clone()
            },
            before: accuracy(Row::before),
            after: accuracy(Row::after),
            won_back: match (
                won_back_together(g),
                Spread::of(g.iter().filter_map(|r| r.won_back())),
            ) {
                _ if g[0].method == "none" => "-".into(),
                (Some(all), Some(each)) if each.n > 1 => format!(
                    "{:.0} % ({:.0} to {:.0})",
                    100.0 * all,
                    100.0 * each.least,
                    100.0 * each.most
                ),
                (Some(all), _) => format!("{:.0} %", 100.0 * all),
                (None, _) => "-".into(),
            },
            p: match p {
                _ if g[0].method == "none" => "-".into(),
                p if p < 1e-4 => "< 0.0001".into(),
                p => format!("{p:.4}"),
            },
            agreement: {
                let share =
                    |i: usize| mean(&|r| r.agreeing[i] as f64 / r.test_samples.max(1) as f64);
                let [before, after] = [0, 1].map(|i| 100.0 * share(i));
                format!("{before:.2} -> {after:.2} %")
            },
            repair: of(|r| r.repair),
            holdout: of(|r| r.holdout),
            edits: format!("{b:.0} / {m:.0} / {w:.0}"),
            seconds: format!("{:.1}", mean(&|r| r.seconds)),
            cpu: Spread::of(g.iter().filter_map(|r| r.cpu_seconds))
                .map_or("-".into(), |s| format!("{:.1}", s.mean)),
            peak: g
                .iter()
                .filter_map(|r| r.peak_bytes)
                .max()
                .map_or("-".into(), |b| (b >> 20).to_string()),
        }
    }
}

/// A share in per cent with its 95 % interval.
fn interval(p: Proportion) -> String {
    let (lo, hi) = p.wilson95();
    format!("{} [{:.2}, {:.2}]", p.percent(), 100.0 * lo, 100.0 * hi)
}

/// Mean and range of shares, in per cent.
pub fn spread(values: impl IntoIterator<Item = f64>) -> String {
    match Spread::of(values) {
        None => "-".into(),
        Some(s) => format!(
            "{:.2} % ({:.2} to {:.2})",
            100.0 * s.mean,
            100.0 * s.least,
            100.0 * s.most
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::row;
    use super::super::run::About;
    use super::*;

    fn results(rows: Vec<Row>) -> Results {
        Results {
            rows,
            models: vec![About {
                name: "net".into(),
                sizes: vec![("repair", 30), ("test", 100)],
                notes: vec!["seed 0: one image twice".into()],
                budget: 5.0,
            }],
            kept: 0,
        }
    }

    #[test]
    fn every_row_of_the_csv_has_every_column() {
        let text = csv(&[row("margin", 0, 85), row("layer,margin", 1, 86)]).unwrap();
        let mut read = csv::Reader::from_reader(&text[..]);
        assert_eq!(read.headers().unwrap().len(), COLUMNS.len());
        let rows: Vec<csv::StringRecord> = read.records().map(Result::unwrap).collect();
        let at = |name: &str| COLUMNS.iter().position(|c| *c == name).unwrap();
        assert_eq!(&rows[1][at("method")], "layer,margin");
        assert_eq!(&rows[0][at("won_back")], "0.500000");
        assert_eq!(&rows[0][at("peak_bytes")], (32 << 20).to_string());
        assert!(rows[0][at("mcnemar_p")].parse::<f64>().unwrap() < 1.0);
    }

    #[test]
    fn one_seed_shows_intervals_and_several_show_the_range() {
        let one = markdown("T", "", "qmend", &results(vec![row("margin", 0, 85)]));
        assert!(one.contains("| 85.00 % [76.72, 90.69] |"), "{one}");
        assert!(
            one.contains("Seed 0") && one.contains("one image twice"),
            "{one}"
        );
        let two = results(vec![row("margin", 0, 85), row("margin", 1, 87)]);
        let text = markdown("T", "", "qmend", &two);
        assert!(text.contains("86.00 % (85.00 to 87.00)"), "{text}");
        assert!(text.contains("60 % (50 to 70)"), "{text}");
        assert!(text.contains("| 82.00 -> 92.00 % |"), "{text}");
        assert_eq!(json(&two)["groups"][0]["after_accuracy"]["n"], 2);
        assert_eq!(json(&two)["groups"][0]["won_back"]["n"], 2);
        let together = json(&two)["groups"][0]["won_back_together"].as_f64();
        assert!((together.unwrap() - 0.6).abs() < 1e-9);
        assert_eq!(json(&two)["rows"].as_array().map(Vec::len), Some(2));
    }
}
