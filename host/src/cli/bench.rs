//! `qmend bench`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::args::{BackendArgs, PreprocessArgs, ReadArgs, spec_parser};
use super::context::{Context, Done, UserError};
use super::quantize::{parse_bits, parse_word};
use super::{interrupt, models, stages};
use crate::calibrate::Method as Calibration;
use crate::data::{DataSpec, Dataset};
use crate::localize::Metric;
use crate::quantize::{QuantizeConfig, Scales, WeightRounding};
use crate::repair::{Chain, Job, Outcome, RepairConfig, Step, Targets, repair};
use crate::report::{Proportion, Table, mcnemar_exact};

/// Measure methods side by side, in a form that others can repeat
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Repair one network at several widths by several methods, and compare on test data
    Repair(RepairArgs),
    Engine(super::bench_engine::Args),
}

/// Every width is quantized once; every method starts from that model with the same repair and
/// holdout sets, and is judged on the test set, which nothing else reads. The table states the
/// accuracy before and after with 95 % intervals (Wilson), the share of the loss against float that
/// was won back, McNemar's exact p against the model before, agreement with the float network on
/// the repair and holdout sets, the integers changed, and the seconds.
#[derive(Debug, clap::Args)]
struct RepairArgs {
    /// The float network
    model: PathBuf,
    /// Calibration data
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    data: DataSpec,
    /// Repair data
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    repair: DataSpec,
    /// Holdout data: decides which changes stay
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    holdout: DataSpec,
    /// Test data, with labels
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    test: DataSpec,
    /// Widths of weights
    #[arg(long, default_value = "8,4,3,2", value_delimiter = ',', value_name = "8,4,3,2", value_parser = parse_bits)]
    weights: Vec<u8>,
    /// How weights are rounded before the repair: nearest, squant or gptq
    #[arg(long, default_value = "nearest", value_name = "ROUNDING", value_parser = parse_word::<WeightRounding>)]
    rounding: WeightRounding,
    /// How weight scales are chosen: max or mse; by default max at 8 bits and mse below
    #[arg(long, value_name = "max|mse", value_parser = parse_word::<Scales>)]
    scales: Option<Scales>,
    /// Correct biases before the repair
    #[arg(long)]
    bias_correction: bool,
    /// One weight scale a layer
    #[arg(long)]
    per_tensor: bool,
    /// Methods, each STRATEGY[+STRATEGY...][:METRIC][:top=N][:strict][:no-weights]
    #[arg(
        long,
        default_value = "neuron:ochiai,neuron:random,layer,margin,auto",
        value_delimiter = ',',
        value_name = "METHODS"
    )]
    methods: Vec<Method>,
    /// Longest time for one repair
    #[arg(long, default_value = "120", value_name = "SECONDS", value_parser = super::repair::parse_seconds)]
    time_budget: Duration,
    /// Seed of all that is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Write the table as Markdown
    #[arg(long, short, value_name = "FILE.md")]
    output: Option<PathBuf>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

/// One way to repair.
#[derive(Clone, Debug, PartialEq)]
struct Method {
    name: String,
    strategy: Chain,
    metric: Option<Metric>,
    top: Option<usize>,
    strict: bool,
    weight_steps: bool,
}

impl FromStr for Method {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut parts = s.split(':');
        let mut method = Method {
            name: s.to_string(),
            strategy: parts.next().unwrap_or_default().parse()?,
            metric: None,
            top: None,
            strict: false,
            weight_steps: true,
        };
        for part in parts {
            match part {
                "strict" => method.strict = true,
                "no-weights" => method.weight_steps = false,
                _ => match part.strip_prefix("top=") {
                    Some(n) => {
                        method.top =
                            Some(n.parse().map_err(|_| format!("top={n} is not a number"))?);
                    }
                    None => method.metric = Some(part.parse()?),
                },
            }
        }
        Ok(method)
    }
}

/// A method at a width.
struct Cell {
    bits: u8,
    method: String,
    before: Proportion,
    after: Proportion,
    /// Test samples that only the model before, and only the repaired one, has right.
    only: [usize; 2],
    outcome: Outcome,
}

impl Cell {
    fn won_back(&self, float: Proportion) -> Option<f64> {
        let lost = float.share() - self.before.share();
        (lost > 0.005).then(|| (self.after.share() - self.before.share()) / lost)
    }

    fn p(&self) -> f64 {
        mcnemar_exact(self.only[0], self.only[1])
    }
}

/// Runs the benchmark.
pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let args = match &args.what {
        What::Repair(args) => args,
        What::Engine(args) => return super::bench_engine::run(args, context),
    };
    interrupt::listen();
    if let Some(path) = &args.output {
        context.check_targets([path], &[&args.model, &args.data.path], args.force)?;
    }
    let teacher = stages::Teacher::new(models::load_float(&args.model)?, args.backend.backend)?;
    let pre = args.preprocess.preprocess(teacher.shape()[2])?;
    let read = |spec: &DataSpec| {
        stages::data_for(spec, &args.read, teacher.shape(), &[], &teacher.graph.name)
    };
    let sets = [
        read(&args.data)?,
        read(&args.repair)?,
        read(&args.holdout)?,
        read(&args.test)?,
    ];
    let names = ["calibration", "repair", "holdout", "test"];
    for (i, a) in sets.iter().enumerate() {
        for (j, b) in sets.iter().enumerate().skip(i + 1) {
            stages::check_disjoint(context, (names[i], a), (names[j], b), false)?;
        }
    }
    let [calibration, repair_set, holdout, test] = &sets;
    let labels: Vec<usize> = test
        .checked_labels(teacher.outputs(), &teacher.graph.name, "accuracy")?
        .iter()
        .map(|&l| l as usize)
        .collect();

    let mut cells = Vec::new();
    for &bits in &args.weights {
        let config = QuantizeConfig {
            bits,
            scales: args.scales,
            weight_rounding: args.rounding,
            bias_correction: args.bias_correction,
            per_tensor: args.per_tensor,
            ..QuantizeConfig::default()
        };
        let model =
            stages::quantized(&teacher, calibration, &pre, Calibration::default(), &config)?;
        let tests = stages::tests(&teacher, &model, repair_set, Targets::Teacher)?
            .with_extra(calibration.real(0..calibration.len(), &pre));
        let kept = stages::tests(&teacher, &model, holdout, Targets::Teacher)?;
        let mut repaired = Vec::new();
        for method in &args.methods {
            let default = RepairConfig::default();
            let settings = RepairConfig {
                strategy: method.strategy.clone(),
                metric: method.metric.unwrap_or(default.metric),
                top: method.top,
                strict: method.strict,
                weight_steps: method.weight_steps,
                time_budget: Some(args.time_budget),
                seed: args.seed,
                backend: args.backend.backend,
                ..default
            };
            let bar = context
                .progress
                .start(format!("{bits}-bit, {}", method.name), 0);
            let mut steps = 0;
            let outcome = repair(
                &Job {
                    graph: &teacher.graph,
                    float: &teacher.net,
                    model: &model,
                    repair: &tests,
                    holdout: &kept,
                },
                &settings,
                &interrupt::asked,
                &mut |s: &Step| {
                    steps += 1;
                    bar.update(
                        steps,
                        &format!("{} of {} tests pass", s.score.repair, tests.len()),
                    );
                },
            )?;
            bar.finish(&format!("{:.1} s", outcome.seconds));
            if interrupt::asked() {
                return Err(UserError::new("interrupted", "run the benchmark again").into());
            }
            repaired.push((method.name.clone(), outcome));
        }
        // Only now, with everything decided, is the test set looked at.
        let before = stages::integer_classes(&model, test)?;
        for (method, outcome) in repaired {
            let after = stages::integer_classes(&outcome.model, test)?;
            let only = [(&before, &after), (&after, &before)].map(|(a, b)| {
                (0..labels.len())
                    .filter(|&i| a[i] == labels[i] && b[i] != labels[i])
                    .count()
            });
            cells.push(Cell {
                bits,
                method,
                before: Proportion::agreement(&before, &labels),
                after: Proportion::agreement(&after, &labels),
                only,
                outcome,
            });
        }
    }
    let float = Proportion::agreement(&teacher.classes(test, &pre)?, &labels);

    context.say(table(float, &cells));
    let markdown = markdown(args, &teacher.graph.name, &sets, float, &cells);
    if let Some(path) = &args.output {
        context.write(path, markdown.as_bytes(), args.force)?;
        context.say(format_args!("wrote {}", path.display()));
    }
    Ok(Done::new(json!({
        "model": args.model,
        "float_accuracy": float.share(),
        "sizes": {"calibration": calibration.len(), "repair": repair_set.len(), "holdout": holdout.len(), "test": test.len()},
        "seed": args.seed,
        "rounding": args.rounding.to_string(),
        "cells": cells.iter().map(|c| cell_json(float, c)).collect::<Vec<_>>(),
    })))
}

const HEAD: [&str; 9] = [
    "weights",
    "method",
    "before",
    "after",
    "won back",
    "p",
    "repair set",
    "holdout set",
    "s",
];

fn cells_of(float: Proportion, c: &Cell) -> [String; 9] {
    let o = &c.outcome;
    let p = c.p();
    [
        format!("{}-bit", c.bits),
        c.method.clone(),
        c.before.percent(),
        c.after.percent(),
        c.won_back(float)
            .map_or("-".into(), |w| format!("{:.0} %", 100.0 * w)),
        if p < 1e-4 {
            "< 0.0001".into()
        } else {
            format!("{p:.4}")
        },
        format!("{} -> {}", o.before.repair, o.after.repair),
        format!("{} -> {}", o.before.holdout, o.after.holdout),
        format!("{:.0}", o.seconds),
    ]
}

fn table(float: Proportion, cells: &[Cell]) -> Table {
    let mut table = Table::new(HEAD);
    for c in cells {
        table.row(cells_of(float, c));
    }
    table
}

fn markdown(
    args: &RepairArgs,
    name: &str,
    sets: &[Dataset; 4],
    float: Proportion,
    cells: &[Cell],
) -> String {
    let mut m = String::new();
    let interval = |p: Proportion| {
        let (lo, hi) = p.wilson95();
        format!("{} [{:.2}, {:.2}]", p.percent(), 100.0 * lo, 100.0 * hi)
    };
    let _ = writeln!(
        m,
        "`{name}`: float accuracy {} on {} test samples. Sets: {} calibration, {} repair, {} holdout, {} test. \
         Rounding {}{}{}, seed {}, at most {} s a repair.\n",
        interval(float),
        float.n,
        sets[0].len(),
        sets[1].len(),
        sets[2].len(),
        sets[3].len(),
        args.rounding,
        if args.bias_correction {
            " with bias correction"
        } else {
            ""
        },
        if args.per_tensor {
            ", one weight scale a layer"
        } else {
            ""
        },
        args.seed,
        args.time_budget.as_secs_f64()
    );
    let _ = writeln!(
        m,
        "| weights | method | accuracy before [95 %] | after [95 %] | won back | McNemar p | repair agreement | holdout agreement | biases / multipliers / weights changed | unsolved programs | seconds |"
    );
    let _ = writeln!(m, "|---|---|---|---|---|---|---|---|---|---|---|");
    for c in cells {
        let row = cells_of(float, c);
        let e = c.outcome.edits;
        let _ = writeln!(
            m,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} / {} / {} | {} | {} |",
            row[0],
            row[1],
            interval(c.before),
            interval(c.after),
            row[4],
            row[5],
            row[6],
            row[7],
            e.biases,
            e.multipliers,
            e.weights,
            c.outcome.unsolved.len(),
            row[8]
        );
    }
    m
}

fn cell_json(float: Proportion, c: &Cell) -> Value {
    json!({
        "bits": c.bits,
        "method": c.method,
        "accuracy_before": c.before.share(),
        "accuracy_after": c.after.share(),
        "interval_before": c.before.wilson95(),
        "interval_after": c.after.wilson95(),
        "won_back": c.won_back(float),
        "only_before_right": c.only[0],
        "only_after_right": c.only[1],
        "mcnemar_p": c.p(),
        "outcome": super::repair::outcome_json(&c.outcome),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repair::Strategy;

    #[test]
    fn methods_are_named_by_strategy_and_settings() {
        let m: Method = "neuron:random:top=10:strict".parse().unwrap();
        assert_eq!(m.strategy, Strategy::Neuron.into());
        assert_eq!(
            (m.metric, m.top, m.strict),
            (Some(Metric::Random), Some(10), true)
        );
        assert!("nonsense".parse::<Method>().is_err());
        assert!("margin:nonsense".parse::<Method>().is_err());
        assert!("margin:top=x".parse::<Method>().is_err());
    }
}
