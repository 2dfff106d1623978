//! `qmend bench`: measurements that others can repeat.
//!
//! - [`suite`]: the file that says what is run; [`method`]: its words.
//! - [`sets`]: the four disjoint sets; [`run`]: the rows; [`journal`]: rows kept on disk.
//! - [`row`]: what is measured and what follows; [`render`]: CSV, JSON, Markdown.
//! - [`localize`]: the sweep over numbers of neurons.
//! - [`engine`]: the host engine's throughput.

mod engine;
mod journal;
mod localize;
mod method;
mod render;
mod row;
mod run;
mod sets;
mod spec;
mod suite;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::args::{BackendArgs, PreprocessArgs, ReadArgs, spec_parser};
use super::context::{Context, Done, UserError};
use super::quantize::parse_word;
use crate::data::DataSpec;
use crate::quantize::Scales;
use journal::Journal;
use method::{Factor, Method, Start, Width};
use spec::{Set, Sets};
use suite::{Entry, Suite};

/// Methods where none are named.
const DEFAULT_METHODS: &str = "neuron:ochiai,neuron:random,layer,margin,auto";

/// Measure methods side by side, in a form that others can repeat
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Repair networks at several widths by several methods, and compare on test data
    Repair(Box<RepairArgs>),
    /// Compare rankings of neurons: accuracy after repairing only the first N of each
    Localize(LocalizeArgs),
    Engine(engine::Args),
}

/// With --suite: every model, seed, width, rounding and method of a TOML file (those in docs/suites
/// are examples). Without: one network, given here.
///
/// Every width is quantized once a rounding; every method starts from that model with the same
/// repair and holdout sets, and is judged on the test set, which nothing else reads. The sets must
/// be disjoint, by content: sets that share more than one sample in a hundred are refused, fewer
/// are noted in the report. The table states the accuracy before and after with 95 % intervals
/// (Wilson) or, over several seeds, mean and range; the share of the loss against float that was
/// won back; McNemar's exact p against the model before; agreement with the float network on the
/// repair and holdout sets; the integers changed; seconds and peak memory.
///
/// With -o FILE.md the table goes to FILE.md, FILE.csv and FILE.json, and every row is kept in
/// FILE.rows.jsonl as soon as it is finished: the same command, run again after an interruption,
/// goes on with the rows that are missing. Rows of another build of this program, of other data or
/// other settings are made anew.
///
/// A suite holds `seeds`, `time_budget`, `targets`, `scales`, `widths` (8, "4-per-tensor"),
/// `roundings` ("nearest", "gptq+bias", "best"), `methods` ("none", "layer,margin",
/// "neuron:ochiai:top=30", "auto:strict") and [[model]] tables with `float`, optionally `quant`,
/// `scale`, `mean`, `std`, and `data` with `calibration`, `repair`, `holdout`, `test` and perhaps
/// `unlabelled` (more to learn from): files with ranges, or numbers of samples (and "rest") out of `pool`, which each seed shuffles anew.
/// Paths start from the suite's folder; $NAME is replaced from the environment.
#[derive(Debug, clap::Args)]
struct RepairArgs {
    /// The float network
    #[arg(required_unless_present = "suite")]
    model: Option<PathBuf>,
    /// A suite of models, data and methods (.toml), in place of the arguments below
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["model", "data", "repair", "holdout", "test", "scale", "mean", "std"])]
    suite: Option<PathBuf>,
    /// Calibration data
    #[arg(long, value_name = "DATA", value_parser = spec_parser(), required_unless_present = "suite")]
    data: Option<DataSpec>,
    /// Repair data
    #[arg(long, value_name = "DATA", value_parser = spec_parser(), required_unless_present = "suite")]
    repair: Option<DataSpec>,
    /// More data to learn from without labels, beside the calibration data (strategies descent and
    /// auto)
    #[arg(long, value_name = "DATA", value_parser = spec_parser(), conflicts_with = "suite")]
    unlabelled: Option<DataSpec>,
    /// Holdout data: decides which changes stay
    #[arg(long, value_name = "DATA", value_parser = spec_parser(), required_unless_present = "suite")]
    holdout: Option<DataSpec>,
    /// Test data, with labels
    #[arg(long, value_name = "DATA", value_parser = spec_parser(), required_unless_present = "suite")]
    test: Option<DataSpec>,
    /// Widths of weights, each 8, 4, 3 or 2, or with one scale a layer as in 8-per-tensor
    #[arg(
        long,
        default_value = "8,4,3,2",
        value_delimiter = ',',
        value_name = "8,4,3,2"
    )]
    weights: Vec<Width>,
    /// How weights are rounded before the repair: nearest, squant, gptq, adaround or coordinate, or
    /// best: whichever of them, with bias correction, agrees best on the holdout set
    #[arg(long, default_value = "nearest", value_name = "ROUNDING")]
    rounding: Start,
    /// How weight scales are chosen: max or mse; by default max at 8 bits and mse below
    #[arg(long, value_name = "max|mse", value_parser = parse_word::<Scales>)]
    scales: Option<Scales>,
    /// Correct biases before the repair
    #[arg(long)]
    bias_correction: bool,
    /// One weight scale a layer, at every width
    #[arg(long)]
    per_tensor: bool,
    /// Methods, each STRATEGY[:METRIC][:top=N][:rounds=N][:draws=N][:starts=N][:seed=N][:solver=S][:strict]
    /// [:no-weights]; a chain of strategies as layer+margin
    #[arg(long, default_value = DEFAULT_METHODS, value_delimiter = ',', value_name = "METHODS")]
    methods: Vec<Method>,
    /// Longest time for one repair
    #[arg(long, default_value = "120", value_name = "SECONDS", value_parser = super::repair::parse_seconds)]
    time_budget: Duration,
    /// Seed of all that is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

/// The suite's models, widths and roundings, and the section [localize] of the suite: `strategies`
/// ("neuron", "margin:no-weights"), `tops` (numbers of neurons, 0 for all), `metrics` (all by
/// default) and `draws` (of the random control). Every cell is the accuracy on the test set after a
/// repair that may change only the first N neurons of the ranking.
#[derive(Debug, clap::Args)]
struct LocalizeArgs {
    /// The suite (.toml); see `qmend bench repair --help`
    #[arg(long, value_name = "FILE.toml")]
    suite: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

/// Where results go.
#[derive(Debug, clap::Args)]
struct OutputArgs {
    /// Write the table as FILE.md, FILE.csv and FILE.json, and finished rows to FILE.rows.jsonl
    #[arg(long, short, value_name = "FILE.md")]
    output: Option<PathBuf>,
    /// Replace the tables if they exist; finished rows stay
    #[arg(long)]
    force: bool,
    /// Forget the rows that were finished before
    #[arg(long)]
    fresh: bool,
}

impl OutputArgs {
    fn files(&self) -> Vec<PathBuf> {
        let with = |ext: &str| {
            self.output
                .iter()
                .map(move |o| o.with_extension(ext))
                .collect()
        };
        [with("md"), with("csv"), with("json")]
            .into_iter()
            .flat_map(|v: Vec<PathBuf>| v)
            .collect()
    }

    /// The journal beside the tables; refuses at once what could not be written at the end.
    fn journal(&self, context: &Context, inputs: &[&Path]) -> Result<Journal> {
        context.check_targets(&self.files(), inputs, self.force)?;
        match &self.output {
            None => Ok(Journal::none()),
            Some(o) => Journal::open(&o.with_extension("rows.jsonl"), self.fresh),
        }
    }

    fn write(
        &self,
        context: &Context,
        markdown: &str,
        results: &run::Results,
        json: &Value,
    ) -> Result<()> {
        let text = format!("{:#}\n", crate::report::document("bench", json.clone()));
        let contents = [
            markdown.as_bytes().to_vec(),
            render::csv(&results.rows)?,
            text.into_bytes(),
        ];
        for (path, bytes) in self.files().iter().zip(&contents) {
            context.write(path, bytes, self.force)?;
            context.say(format_args!("wrote {}", path.display()));
        }
        Ok(())
    }
}

/// Runs the benchmark.
pub fn run(args: &Args, context: &Context) -> Result<Done> {
    match &args.what {
        What::Repair(args) => repair(args, context),
        What::Localize(args) => sweep(args, context),
        What::Engine(args) => engine::run(args, context),
    }
}

fn repair(args: &RepairArgs, context: &Context) -> Result<Done> {
    let suite = match &args.suite {
        Some(path) => Suite::load(path)?,
        None => args.suite()?,
    };
    let inputs: Vec<&Path> = args
        .suite
        .iter()
        .chain(&args.model)
        .map(PathBuf::as_path)
        .collect();
    let mut journal = args.output.journal(context, &inputs)?;
    let results = run::run(&suite, args.backend.backend, &mut journal, context)?;
    say_kept(&results, context);
    context.say(render::table(&results));
    let markdown = render::markdown(&suite.title, &suite.about, &command(), &results);
    let mut fields = render::json(&results);
    fields["suite"] = json!(args.suite);
    fields["title"] = json!(suite.title);
    fields["version"] = json!(env!("CARGO_PKG_VERSION"));
    fields["threads"] = json!(rayon::current_num_threads());
    args.output.write(context, &markdown, &results, &fields)?;
    Ok(Done::new(fields))
}

fn sweep(args: &LocalizeArgs, context: &Context) -> Result<Done> {
    let given = Suite::load(&args.suite)?;
    let sweep = given.localize.clone().ok_or_else(|| {
        UserError::new(
            format!("{}: no section [localize]", args.suite.display()),
            "add one, with strategies, tops, metrics and draws as `qmend bench localize --help` says (an empty one takes the defaults)",
        )
    })?;
    let suite = localize::expand(&given, &sweep)?;
    let mut journal = args.output.journal(context, &[&args.suite])?;
    let results = run::run(&suite, args.backend.backend, &mut journal, context)?;
    say_kept(&results, context);
    let markdown = localize::markdown(&sweep, &command(), &suite.about, &results.rows);
    context.say(&markdown);
    let mut fields = render::json(&results);
    fields["suite"] = json!(args.suite);
    fields["version"] = json!(env!("CARGO_PKG_VERSION"));
    args.output.write(context, &markdown, &results, &fields)?;
    Ok(Done::new(fields))
}

fn say_kept(results: &run::Results, context: &Context) {
    if results.kept > 0 {
        context.say(format_args!(
            "{} of {} rows were finished before and are kept",
            results.kept,
            results.rows.len()
        ));
    }
}

/// The command that is running, for the report: what its tables were made by.
fn command() -> String {
    let plain = |s: &str| {
        s.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_./:,=+$".contains(c))
    };
    let mut words = vec!["qmend".to_string()];
    words.extend(std::env::args().skip(1).map(|a| {
        if plain(&a) && !a.is_empty() {
            a
        } else {
            format!("'{}'", a.replace('\'', "'\\''"))
        }
    }));
    words.join(" ")
}

impl RepairArgs {
    /// The arguments as a suite of one model.
    fn suite(&self) -> Result<Suite> {
        let missing = "clap asks for it where there is no suite";
        let model = self.model.as_ref().context(missing)?;
        let set =
            |s: &Option<DataSpec>| -> Result<Set> { Ok(Set::File(s.clone().context(missing)?)) };
        let factors = |v: &[f32]| v.iter().map(|&x| Factor(x)).collect();
        Ok(Suite {
            title: String::new(),
            about: String::new(),
            seeds: vec![self.seed],
            time_budget: self.time_budget.as_secs_f64(),
            targets: Default::default(),
            scales: self.scales.map(|s| s.to_string()),
            widths: self
                .weights
                .iter()
                .map(|w| Width {
                    per_tensor: w.per_tensor || self.per_tensor,
                    ..*w
                })
                .collect(),
            roundings: vec![match self.rounding {
                Start::One(w, bias) => Start::One(w, bias || self.bias_correction),
                Start::Best => Start::Best,
            }],
            methods: self.methods.clone(),
            localize: None,
            models: vec![Entry {
                name: None,
                float: model.to_string_lossy().into_owned(),
                float_path: Some(model.clone()),
                quant: None,
                scale: self.preprocess.scale.map(Factor),
                mean: factors(&self.preprocess.mean),
                std: factors(&self.preprocess.std),
                layout: None,
                x_key: None,
                y_key: None,
                read: Some(self.read.clone()),
                widths: None,
                roundings: None,
                methods: None,
                seeds: None,
                time_budget: None,
                data: Sets {
                    pool: None,
                    shuffle: false,
                    calibration: Some(set(&self.data)?),
                    unlabelled: self.unlabelled.clone().map(Set::File),
                    repair: set(&self.repair)?,
                    holdout: set(&self.holdout)?,
                    test: set(&self.test)?,
                },
            }],
            folder: PathBuf::new(),
        })
    }
}
