//! `qmend repair`

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;

use super::args::{BackendArgs, ImageOutputArgs, PreprocessArgs, ReadArgs, spec_parser};
use super::context::{Context, Done, UserError};
use super::pair::{PairArgs, split};
use super::quantize::parse_word;
use super::{interrupt, models, on_device, stages};
use crate::data::DataSpec;
use crate::export::tflite::{Patchable, Replaced};
use crate::export::write_image;
use crate::localize::Metric;
use crate::model::QuantizedModel;
use crate::repair::certificate::Certificate;
use crate::repair::lp::Solver;
use crate::repair::{Chain, Freedom, Job, Outcome, RepairConfig, Targets, Variations};
use crate::report::{Proportion, Table};

/// Mend an integer model where it differs from its float network
///
/// Linear programs, and descent along the network's gradient, find small changes of biases,
/// multipliers and weights; the bit-exact engine
/// replays every one, and it stays only if it fixes more repair tests than it breaks and the
/// holdout set does not get worse. The repair and holdout sets must be disjoint, and hold data that
/// the float network was not trained on: on its own training data it is too sure of itself to show
/// where the integers break. 2,000 or more samples each work well. At the end the
/// repair is kept only if its gain on the holdout set is beyond chance and, where that set has
/// labels, they are not met less often; else the model is written as it was, and the report says
/// why.
///
/// Ctrl-C, or the end of --time-budget, keeps the best model so far.
///
/// An int8 .tflite can be written as a .tflite again (-o FILE.tflite): the original file in which
/// only bytes of weights and biases differ; with --repair-multipliers also weight scales. Layers are
/// matched by structure where names differ, and that is reported.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "qmend repair MODEL QUANT --data DATA [--holdout DATA] -o FILE [OPTIONS]\n       \
                            qmend repair --float MODEL --quant QUANT --data DATA [--holdout DATA] -o FILE [OPTIONS]"
)]
pub struct Args {
    #[command(flatten)]
    pair: PairArgs,
    /// Repair data: FILE, FOLDER, or either with a range as in FILE:0..2500; raw values as
    /// `quantize` took them
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    data: DataSpec,
    /// Holdout data, disjoint from --data: decides which changes stay; by default a quarter of --data
    /// (drawn by --shuffle 0 where it has no range), which then does not mend
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    holdout: Option<DataSpec>,
    /// More data to learn from without labels, such as the calibration data, disjoint from --holdout
    /// (strategies descent and auto)
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    unlabelled: Option<DataSpec>,
    /// Labels of --holdout in a file of their own, where --labels gives those of --data
    #[arg(long, value_name = "FILE|none")]
    holdout_labels: Option<String>,
    #[command(flatten)]
    output: ImageOutputArgs,
    /// How: neuron (signs of single neurons, as in QNNRepair), layer (values of single neurons),
    /// margin (class margins of the whole network), descent (class probabilities and hidden
    /// activations of the whole network, by gradients), several of them one after the other (layer,margin), or auto
    #[arg(long, default_value = "auto", value_name = "STRATEGY[,STRATEGY]", value_parser = parse_word::<Chain>)]
    strategy: Chain,
    /// How descent varies the repair data: any of shift,flip,noise,blend, or none; by default what
    /// suits the input's shape (images: shift,flip,blend; spectrograms: shift along the height, noise,
    /// blend) for half of the rounds, then none
    #[arg(long, value_name = "none|shift,flip,noise,blend")]
    augment: Option<Variations>,
    /// Keep a repair only if by chance the holdout set would show its gain with less than this
    /// probability (of classes, or, where more are mended than broken, of samples that come nearer to the
    /// float network's probabilities); 1 keeps all that is not worse
    #[arg(long, default_value_t = RepairConfig::default().significance, value_name = "P", value_parser = parse_share)]
    significance: f64,
    /// What a test should give: the float network's class (teacher) or the data's label (labels)
    #[arg(long, default_value = "teacher", value_name = "teacher|labels", value_parser = parse_targets)]
    targets: Targets,
    /// Keep every passing repair test passing
    #[arg(long)]
    strict: bool,
    /// Stop after this many seconds with the best so far
    #[arg(long, value_name = "SECONDS", value_parser = parse_seconds)]
    time_budget: Option<Duration>,
    /// Write a certificate (.json) that `qmend verify` can replay
    #[arg(long, value_name = "FILE.json")]
    certificate: Option<PathBuf>,
    /// Put the first N repaired tests into the image, with the outputs that the repaired model gives
    /// for them: `verify --self-test` lets a device run them
    #[arg(long, value_name = "N", value_parser = parse_count)]
    self_test: Option<usize>,
    /// Certify which repaired tests keep their class for every input within this many steps of the
    /// input's integers, and the most steps for each (in the certificate too)
    #[arg(long, value_name = "K")]
    robust: Option<u8>,
    /// Metric that ranks neurons for --top: tarantula, ochiai, dstar, jaccard, ample, euclid, wong3,
    /// or random as the control
    #[arg(long, default_value = "ochiai", value_name = "METRIC", value_parser = parse_word::<Metric>)]
    metric: Metric,
    /// Change only this many of the most suspicious neurons; by default any
    #[arg(long, value_name = "N", value_parser = parse_count)]
    top: Option<usize>,
    /// Most rounds of each kind of change (descent: 60 batches each); 0 changes nothing
    #[arg(long, default_value_t = RepairConfig::default().rounds, value_name = "N")]
    rounds: usize,
    /// Do the whole repair this many times, with the seeds after --seed, and keep what the holdout set
    /// likes best; starts share the time budget
    #[arg(long, default_value_t = RepairConfig::default().starts, value_name = "N", value_parser = parse_count)]
    starts: usize,
    /// Random roundings of a program's fractions of weight steps that margin tries where the plain
    /// rounding is refused
    #[arg(long, default_value_t = RepairConfig::default().draws, value_name = "N")]
    draws: usize,
    /// What solves the linear programs: microlp, or highs where qmend was built with it
    #[arg(long, default_value_t, value_name = "SOLVER", value_parser = parse_word::<Solver>)]
    solver: Solver,
    /// Longest time for one linear program
    #[arg(long, default_value = "20", value_name = "SECONDS", value_parser = parse_seconds)]
    lp_limit: Duration,
    /// Leave weights alone: change biases and multipliers only (strategies margin and auto)
    #[arg(long)]
    no_weight_steps: bool,
    /// Where a .tflite is written: change multipliers too, by the float32 weight scales of their
    /// channels (and the scales of the biases, which follow)
    ///
    /// A multiplier takes the nearest value that such a scale gives, and every change is replayed
    /// with that value. Layers with one scale for all weights keep their multipliers.
    #[arg(long)]
    repair_multipliers: bool,
    /// Seed of all that is drawn
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Go on although repair and holdout share samples
    #[arg(long)]
    allow_overlap: bool,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

fn parse_share(s: &str) -> Result<f64, String> {
    match s.parse() {
        Ok(p) if p > 0.0 && p <= 1.0 => Ok(p),
        _ => Err("not a probability above 0".into()),
    }
}

fn parse_targets(s: &str) -> Result<Targets, String> {
    match s {
        "teacher" => Ok(Targets::Teacher),
        "labels" => Ok(Targets::Labels),
        _ => Err("targets are teacher or labels".into()),
    }
}

fn parse_count(s: &str) -> Result<usize, String> {
    match s.parse() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err("not a whole number above 0".into()),
    }
}

pub fn parse_seconds(s: &str) -> Result<Duration, String> {
    let seconds: f64 = s
        .parse()
        .map_err(|_| "not a number of seconds".to_string())?;
    if seconds > 0.0 && seconds < 1e9 {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("not a positive number of seconds".into())
    }
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let [float, quant] = args.pair.files()?;
    let mut sources = vec![float.as_path(), &args.data.path];
    sources.extend(args.holdout.as_ref().map(|h| h.path.as_path()));
    context.check_targets(
        [&args.output.output].into_iter().chain(&args.certificate),
        &sources,
        args.output.force,
    )?;
    interrupt::listen();
    let teacher = stages::Teacher::new(models::load_float(float)?, args.backend.backend)?;
    let mut original = models::load_integer(quant)?;
    stages::check_pair(&teacher, &original.model)?;
    let mut read = args.read.clone();
    let [mending, deciding] = match &args.holdout {
        Some(holdout) => [args.data.clone(), holdout.clone()],
        None => {
            let m = &original.model;
            let all = stages::data_for(&args.data, &read, teacher.shape(), &m.labels, &m.name)?;
            split(context, &args.data, &mut read, all.len())?
        }
    };
    let data = stages::integer_data(
        context,
        &mending,
        &read,
        &mut original,
        (&args.preprocess, quant),
    )?;
    let model = &original.model;
    if args.holdout.is_some() && (args.holdout_labels.is_some() || read.labels.is_some()) {
        // The labels' file of --data does not fit the holdout set.
        read.labels.clone_from(&args.holdout_labels);
    }
    let holdout = stages::data_for(
        &deciding,
        &read,
        teacher.shape(),
        &model.labels,
        &model.name,
    )?;
    stages::warn_of_range(context, &holdout, model);
    stages::check_disjoint(
        context,
        ("repair", &data),
        ("holdout", &holdout),
        args.allow_overlap,
    )?;
    let mut tests = stages::tests(&teacher, model, &data, args.targets)?;
    if let Some(spec) = &args.unlabelled {
        let bare = super::args::ReadArgs {
            labels: None,
            ..args.read.clone()
        };
        let more = stages::data_for(spec, &bare, teacher.shape(), &model.labels, &model.name)?;
        stages::warn_of_range(context, &more, model);
        let names = (("unlabelled", &more), ("holdout", &holdout));
        stages::check_disjoint(context, names.0, names.1, args.allow_overlap)?;
        tests = tests.with_extra(more.real(0..more.len(), &model.preprocess));
    }
    let kept = stages::tests(&teacher, model, &holdout, args.targets)?;
    let target = Target::new(&args.output.output, &original, args.repair_multipliers)?;
    if args.self_test.is_some() && !matches!(target, Target::Image) {
        return Err(UserError::new(
            "a .tflite holds no self-tests",
            "leave out --self-test, or write a .qmend",
        )
        .into());
    }
    let matched = stages::matched_layers(context, &teacher.graph, model);
    let config = RepairConfig {
        strategy: args.strategy.clone(),
        augment: args.augment,
        significance: args.significance,
        metric: args.metric,
        top: args.top,
        strict: args.strict,
        time_budget: args.time_budget,
        solver: args.solver,
        lp_limit: args.lp_limit,
        seed: args.seed,
        rounds: args.rounds,
        starts: args.starts,
        draws: args.draws,
        weight_steps: !args.no_weight_steps,
        freedom: target.freedom(),
        backend: args.backend.backend,
        ..RepairConfig::default()
    };

    let job = Job {
        graph: &teacher.graph,
        float: &teacher.net,
        model,
        repair: &tests,
        holdout: &kept,
    };
    let outcome = stages::repaired(context, "repair", &job, &config, |o| {
        format!("{} proposals, {} kept", o.steps.len(), accepted(o))
    })?;

    let (mut written, replaced) = target.bytes(&outcome.model)?;
    let mut self_tests = 0;
    if let Some(n) = args.self_test {
        let chosen = &outcome.repaired[..outcome.repaired.len().min(n)];
        written = on_device::with_repaired(&written, &outcome.model, &tests.integers, chosen)?;
        self_tests = chosen.len();
        if self_tests < n {
            context.warn(format_args!(
                "{self_tests} tests were repaired, so the image has no more self-tests than these"
            ));
        }
    }
    let mut certified = None;
    if args.certificate.is_some() || args.robust.is_some() {
        let mut c = Certificate::new(
            (model, &original.file),
            &outcome,
            &written,
            &tests,
            args.targets,
            &config,
        )?;
        if let Some(steps) = args.robust {
            c.add_robust(&outcome.model, &tests.integers, steps)?;
        }
        certified = Some(c);
    }
    let robust = certified.as_ref().and_then(|c| c.robust.clone());
    let certificate = args
        .certificate
        .as_ref()
        .zip(certified.as_ref().map(Certificate::to_json));
    context.write(&args.output.output, &written, args.output.force)?;
    if let Some((path, json)) = &certificate {
        context.write(path, json.as_bytes(), args.output.force)?;
    }
    say(&outcome, context);
    context.say(format_args!(
        "wrote {} ({} bytes)",
        args.output.output.display(),
        written.len()
    ));
    if let Some(r) = replaced {
        context.say(format_args!(
            "{} bytes of {} layers differ from {}; everything else is as it was",
            r.bytes,
            r.layers,
            quant.display()
        ));
    }
    if let Some((path, _)) = &certificate {
        context.say(format_args!("wrote {}", path.display()));
    }
    if let Some(r) = &robust {
        context.say(format_args!(
            "certified: {} of {} repaired tests keep their class for every input within {} steps of the input's integers (decided on the {}); of the others nothing is known",
            r.certified,
            outcome.repaired.len(),
            r.steps,
            r.decided_on
        ));
    }
    let mut fields = outcome_json(&outcome);
    fields["robust"] = json!(robust);
    fields["self_tests"] = json!(self_tests);
    fields["output"] = json!(args.output.output);
    fields["certificate"] = json!(args.certificate);
    fields["targets"] = json!(args.targets);
    fields["replaced"] = json!(replaced);
    fields["matched"] = matched;
    fields["repair"]["data_sha256"] = json!(data.fingerprint());
    fields["holdout"]["data_sha256"] = json!(holdout.fingerprint());
    Ok(Done::new(fields))
}

/// What the result is written as.
enum Target {
    /// An image.
    Image,
    /// The original .tflite with other weights and biases.
    Tflite(Box<Patchable>),
}

impl Target {
    /// By the extension of the file to write.
    fn new(output: &Path, original: &models::Integer, multipliers: bool) -> Result<Self> {
        if !output
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("tflite"))
        {
            if multipliers {
                return Err(UserError::new(
                    "--repair-multipliers is for .tflite files; in an image multipliers change in any case",
                    "leave it out, or write a .tflite",
                )
                .into());
            }
            return Ok(Target::Image);
        }
        if !original.is_tflite() {
            return Err(UserError::new(
                format!(
                    "{}: the model did not come from a .tflite, so there is none to put the repair into",
                    output.display()
                ),
                "write a .qmend (-o FILE.qmend); `qmend export` makes a .tflite of it where that is possible",
            )
            .into());
        }
        let name = output.display().to_string();
        let mut patchable = Patchable::new(&original.file, &name)?;
        if multipliers {
            patchable = patchable.with_multipliers();
        }
        Ok(Target::Tflite(Box::new(patchable)))
    }

    fn freedom(&self) -> Freedom {
        match self {
            Target::Image => Freedom::default(),
            Target::Tflite(p) => p.freedom(),
        }
    }

    fn bytes(&self, model: &QuantizedModel) -> Result<(Vec<u8>, Option<Replaced>)> {
        match self {
            Target::Image => Ok((write_image(model)?, None)),
            Target::Tflite(p) => {
                let (bytes, replaced) = p.patch(model).context("the repaired model")?;
                Ok((bytes, Some(replaced)))
            }
        }
    }
}

fn accepted(o: &Outcome) -> usize {
    o.steps
        .iter()
        .filter(|s| s.verdict == crate::repair::Verdict::Accepted)
        .count()
}

fn pairs(o: &Outcome) -> [(&'static str, Proportion, Proportion); 2] {
    let of = |count, n| Proportion { count, n };
    [
        (
            "repair",
            of(o.before.repair, o.repair_tests),
            of(o.after.repair, o.repair_tests),
        ),
        (
            "holdout",
            of(o.before.holdout, o.holdout_tests),
            of(o.after.holdout, o.holdout_tests),
        ),
    ]
}

fn say(o: &Outcome, context: &Context) {
    let mut table = Table::new(["set", "tests", "passing before", "after"]);
    for (name, before, after) in pairs(o) {
        table.row([
            name.to_string(),
            before.n.to_string(),
            before.percent(),
            after.percent(),
        ]);
    }
    context.say(table);
    context.say(format_args!(
        "changed {} biases, {} multipliers, {} weights; {} tests repaired, {} lost, {} still failing",
        o.edits.biases,
        o.edits.multipliers,
        o.edits.weights,
        o.repaired.len(),
        o.lost.len(),
        o.unfixable.len()
    ));
    if !o.unsolved.is_empty() {
        context.say(format_args!(
            "{} linear programs had no answer; the first: {}: {}",
            o.unsolved.len(),
            o.unsolved[0].0,
            o.unsolved[0].1
        ));
    }
    if let Some(why) = o.withdrawn {
        context.say(format_args!("nothing was changed: {why}"));
    }
    if let Some(why) = o.stopped {
        context.say(format_args!(
            "stopped early ({why}); this is the best so far"
        ));
    }
}

/// An outcome for programs.
pub fn outcome_json(o: &Outcome) -> serde_json::Value {
    let [repair, holdout] = pairs(o).map(|(_, before, after)| {
        json!({
            "n": before.n,
            "passing_before": before.count,
            "passing_after": after.count,
            "agreement_before": before.share(),
            "agreement_after": after.share(),
        })
    });
    let unsolved: Vec<_> = o
        .unsolved
        .iter()
        .map(|(what, why)| json!({"what": what, "why": why.to_string()}))
        .collect();
    json!({
        "repair": repair,
        "holdout": holdout,
        "edits": o.edits,
        "repaired": o.repaired.len(),
        "lost": o.lost.len(),
        "unfixable": o.unfixable.len(),
        "unfixable_tests": o.unfixable,
        "steps": o.steps,
        "unsolved": unsolved,
        "stopped": o.stopped,
        "withdrawn": o.withdrawn,
        "seconds": o.seconds,
    })
}
