//! Running a suite: every row that is not finished yet.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::super::context::{Context, UserError};
use super::super::{interrupt, models, stages};
use super::journal::Journal;
use super::method::{Method, Start, Width};
use super::row::Row;
use super::sets::{self, Loaded};
use super::suite::{Entry, Suite};
use crate::calibrate::Method as Calibration;
use crate::classes::classes;
use crate::export::write_image;
use crate::float::Backend;
use crate::model::{Preprocess, QuantizedModel};
use crate::quantize::QuantizeConfig;
use crate::repair::certificate::sha256_hex;
use crate::repair::{Job, Tests};
use crate::report::{Proportion, cpu_seconds, peak_bytes, reset_peak};

/// What a suite gave.
pub struct Results {
    /// In the order of the suite.
    pub rows: Vec<Row>,
    /// Sizes of the sets and what is to be said of them, by model.
    pub models: Vec<About>,
    /// Rows that were finished before.
    pub kept: usize,
}

/// A model in words.
pub struct About {
    pub name: String,
    pub sizes: Vec<(&'static str, usize)>,
    pub notes: Vec<String>,
    /// Longest time for one repair, in seconds.
    pub budget: f64,
}

/// Runs what is missing. Rows are kept by `journal` as they are finished.
///
/// # Errors
/// Whatever a model, a data set or a repair says; and where the user interrupts, how to go on.
pub fn run(
    suite: &Suite,
    backend: Backend,
    journal: &mut Journal,
    context: &Context,
) -> Result<Results> {
    interrupt::listen();
    let total: usize = suite.models.iter().map(|e| cells(suite, e)).sum();
    let mut results = Results {
        rows: Vec::new(),
        models: Vec::new(),
        kept: 0,
    };
    let program = std::env::current_exe()
        .and_then(std::fs::read)
        .map_or(String::new(), |bytes| sha256_hex(&bytes));
    for entry in &suite.models {
        let name = suite.name(entry);
        let mut about: Option<About> = None;
        for &seed in suite.seeds(entry) {
            let mut part = Part::load(suite, entry, backend, seed)
                .with_context(|| format!("model {name} of the suite"))?;
            part.program.clone_from(&program);
            let about = about.get_or_insert_with(|| About {
                name: name.clone(),
                sizes: part.sets.named().map(|(n, d)| (n, d.len())).collect(),
                notes: Vec::new(),
                budget: suite.budget(entry),
            });
            for note in &part.sets.notes {
                context.warn(format_args!("{name}, seed {seed}: {note}"));
                about.notes.push(format!("seed {seed}: {note}"));
            }
            part.run(journal, context, total, &mut results)?;
        }
        results.models.extend(about);
    }
    Ok(results)
}

fn cells(suite: &Suite, e: &Entry) -> usize {
    let starts = match e.quant {
        Some(_) => 1,
        None => suite.widths(e).len() * suite.roundings(e).len(),
    };
    suite.seeds(e).len() * starts * suite.methods(e).len()
}

/// A model at a seed.
struct Part<'a> {
    suite: &'a Suite,
    entry: &'a Entry,
    name: String,
    seed: u64,
    backend: Backend,
    program: String,
    teacher: stages::Teacher,
    given: Option<models::Integer>,
    pre: Preprocess,
    sets: Loaded,
    labels: Vec<usize>,
    /// Hashes of files, preprocessing and sets.
    identity: serde_json::Value,
    /// Right answers of the float network on the test set; computed when first needed.
    /// The float network's classes on the test set, once they were needed.
    float: Option<Vec<usize>>,
}

/// An integer model that methods start from.
struct Begin {
    model: QuantizedModel,
    from: String,
    seconds: f64,
    tests: Tests,
    kept: Tests,
    /// Classes on the test set.
    before: Vec<usize>,
}

impl<'a> Part<'a> {
    fn load(suite: &'a Suite, entry: &'a Entry, backend: Backend, seed: u64) -> Result<Self> {
        let float_path = suite.float(entry)?;
        let teacher = stages::Teacher::new(models::load_float(&float_path)?, backend)?;
        let quant_path = entry.quant.as_ref().map(|q| suite.path(q)).transpose()?;
        let mut given = quant_path
            .as_deref()
            .map(models::load_integer)
            .transpose()?;
        let name = suite.name(entry);
        let sets = sets::load(suite, entry, teacher.shape(), &name, seed)?;
        let pre = match (&mut given, &quant_path) {
            (Some(file), Some(path)) => {
                stages::check_pair(&teacher, &file.model)?;
                file.take_preprocess(&entry.preprocess(), path, &sets.repair)?;
                file.model.preprocess.clone()
            }
            _ => entry.preprocess().preprocess(teacher.shape()[2])?,
        };
        let labels = sets
            .test
            .checked_labels(teacher.outputs(), &name, "accuracy")?
            .iter()
            .map(|&l| l as usize)
            .collect();
        let identity = json!({
            "float": file_hash(&float_path)?,
            "quant": quant_path.as_deref().map(file_hash).transpose()?,
            "preprocess": pre,
            "sets": sets.named().map(|(n, d)| (n, d.fingerprint())).collect::<Vec<_>>(),
        });
        Ok(Part {
            suite,
            entry,
            name,
            seed,
            backend,
            program: String::new(),
            teacher,
            given,
            pre,
            sets,
            labels,
            identity,
            float: None,
        })
    }

    fn run(
        &mut self,
        journal: &mut Journal,
        context: &Context,
        total: usize,
        results: &mut Results,
    ) -> Result<()> {
        let starts: Vec<Option<(Width, Start)>> = match &self.given {
            Some(_) => vec![None],
            None => {
                let roundings = self.suite.roundings(self.entry);
                let widths = self.suite.widths(self.entry);
                let both = |w: &Width| roundings.iter().map(|r| Some((*w, *r))).collect::<Vec<_>>();
                widths.iter().flat_map(both).collect()
            }
        };
        for start in starts {
            let mut begin: Option<Begin> = None;
            for method in self.suite.methods(self.entry) {
                let key = self.key(start, method);
                if let Some(row) = journal.get(&key) {
                    results.rows.push(row.clone());
                    results.kept += 1;
                    continue;
                }
                let at = results.rows.len() + 1;
                let what = format!(
                    "{at} of {total}: {}, {}, {}, seed {}",
                    self.name,
                    words(start).join(", "),
                    method.name,
                    self.seed
                );
                if begin.is_none() {
                    begin = Some(self.begin(start)?);
                }
                let begin = begin.as_ref().context("made just now")?;
                let row = self.row(key, start, method, begin, context, what)?;
                if interrupt::asked() {
                    return Err(UserError::new(
                        format!("interrupted after {} of {total} rows", results.rows.len()),
                        "run the same command again: with -o, finished rows are kept",
                    )
                    .into());
                }
                journal.add(&row)?;
                results.rows.push(row);
            }
        }
        Ok(())
    }

    /// What decides a row. A row that another build of the program made is made again.
    fn key(&self, start: Option<(Width, Start)>, method: &Method) -> String {
        let all = json!({
            "program": self.program,
            "name": self.name,
            "model": self.identity,
            "start": words(start),
            "scales": self.suite.scales,
            "labels": self.suite.targets == super::suite::Wanted::Labels,
            "method": method.name,
            "seed": self.seed,
            "time_budget": self.suite.budget(self.entry),
            "backend": format!("{:?}", self.backend),
        });
        sha256_hex(all.to_string().as_bytes())
    }

    fn begin(&mut self, start: Option<(Width, Start)>) -> Result<Begin> {
        let targets = self.suite.targets.into();
        let tests =
            |model: &QuantizedModel, data| stages::tests(&self.teacher, model, data, targets);
        let clock = Instant::now();
        let mut best: Option<(usize, QuantizedModel, String)> = None;
        match (start, &self.given) {
            (Some((width, start)), _) => {
                for (rounding, bias) in start.candidates() {
                    let model = self.quantized(width, rounding, bias)?;
                    let name = Start::One(rounding, bias).to_string();
                    let passing = match start {
                        Start::One(..) => 0,
                        Start::Best => passing(&model, &tests(&model, &self.sets.holdout)?)?,
                    };
                    if best.as_ref().is_none_or(|(b, ..)| passing > *b) {
                        best = Some((passing, model, name));
                    }
                }
            }
            (None, Some(given)) => best = Some((0, given.model.clone(), "as given".into())),
            (None, None) => {}
        }
        let (_, model, from) = best.context("no rounding to start from")?;
        let seconds = clock.elapsed().as_secs_f64();
        Ok(Begin {
            // The calibration images teach too: no label of theirs is needed.
            tests: tests(&model, &self.sets.repair)?.with_extra(
                [&self.sets.calibration, &self.sets.unlabelled]
                    .into_iter()
                    .flatten()
                    .flat_map(|data| data.real(0..data.len(), &self.pre))
                    .collect(),
            ),
            kept: tests(&model, &self.sets.holdout)?,
            before: stages::integer_classes(&model, &self.sets.test)?,
            model,
            from,
            seconds,
        })
    }

    fn quantized(
        &self,
        width: Width,
        weight_rounding: crate::quantize::WeightRounding,
        bias_correction: bool,
    ) -> Result<QuantizedModel> {
        let config = QuantizeConfig {
            bits: width.bits,
            per_tensor: width.per_tensor,
            scales: self
                .suite
                .scales()
                .map_err(|e| UserError::new(e, "set `scales` in the suite to max or mse"))?,
            weight_rounding,
            bias_correction,
            ..QuantizeConfig::default()
        };
        let calibration = self
            .sets
            .calibration
            .as_ref()
            .context("no calibration set")?;
        stages::quantized(
            &self.teacher,
            calibration,
            &self.pre,
            Calibration::default(),
            &config,
        )
    }

    fn row(
        &mut self,
        key: String,
        start: Option<(Width, Start)>,
        method: &Method,
        begin: &Begin,
        context: &Context,
        what: String,
    ) -> Result<Row> {
        let [width, rounding] = words(start);
        let classes = match self.float.take() {
            Some(found) => found,
            None => self.teacher.classes(&self.sets.test, &self.pre)?,
        };
        let classes = &*self.float.insert(classes);
        let float = Proportion::agreement(classes, &self.labels);
        let mut row = Row {
            key,
            model: self.name.clone(),
            width,
            rounding,
            started_from: begin.from.clone(),
            method: method.name.clone(),
            seed: self.seed,
            test_samples: float.n,
            float_correct: float.count,
            before_correct: Proportion::agreement(&begin.before, &self.labels).count,
            after_correct: 0,
            only_before: 0,
            only_after: 0,
            agreeing: [Proportion::agreement(&begin.before, classes).count, 0],
            repair: [0, 0, begin.tests.len()],
            holdout: [0, 0, begin.kept.len()],
            edits: [0; 3],
            repaired: 0,
            lost: 0,
            unsolved: 0,
            stopped: None,
            image_bytes: 0,
            quantize_seconds: begin.seconds,
            seconds: 0.0,
            cpu_seconds: None,
            peak_bytes: None,
        };
        reset_peak();
        let cpu = cpu_seconds();
        let after;
        match &method.config {
            None => {
                let bar = context.progress.start(what, 0);
                row.repair[..2].fill(passing(&begin.model, &begin.tests)?);
                row.holdout[..2].fill(passing(&begin.model, &begin.kept)?);
                row.image_bytes = write_image(&begin.model)?.len();
                after = begin.before.clone();
                bar.finish("measured");
            }
            Some(config) => {
                let mut config = config.clone();
                config.time_budget = Some(Duration::from_secs_f64(self.suite.budget(self.entry)));
                config.seed = method.seed.unwrap_or(self.seed);
                config.backend = self.backend;
                let job = Job {
                    graph: &self.teacher.graph,
                    float: &self.teacher.net,
                    model: &begin.model,
                    repair: &begin.tests,
                    holdout: &begin.kept,
                };
                let o = stages::repaired(context, what, &job, &config, |o| {
                    format!(
                        "{} -> {} of {} tests pass",
                        o.before.repair, o.after.repair, o.repair_tests
                    )
                })?;
                row.repair[..2].copy_from_slice(&[o.before.repair, o.after.repair]);
                row.holdout[..2].copy_from_slice(&[o.before.holdout, o.after.holdout]);
                row.edits = [o.edits.biases, o.edits.multipliers, o.edits.weights];
                (row.repaired, row.lost) = (o.repaired.len(), o.lost.len());
                row.unsolved = o.unsolved.len();
                row.stopped = o.stopped.map(String::from);
                row.seconds = o.seconds;
                row.cpu_seconds = cpu_seconds().zip(cpu).map(|(now, then)| now - then);
                row.peak_bytes = peak_bytes();
                row.image_bytes = write_image(&o.model)?.len();
                // Only now, with everything decided, is the test set looked at.
                after = stages::integer_classes(&o.model, &self.sets.test)?;
            }
        }
        row.after_correct = Proportion::agreement(&after, &self.labels).count;
        row.agreeing[1] = Proportion::agreement(&after, classes).count;
        let only = |a: &[usize], b: &[usize]| {
            let right = |c: &[usize], i: usize| c[i] == self.labels[i];
            (0..self.labels.len())
                .filter(|&i| right(a, i) && !right(b, i))
                .count()
        };
        row.only_before = only(&begin.before, &after);
        row.only_after = only(&after, &begin.before);
        Ok(row)
    }
}

/// Width and rounding for the report.
fn words(start: Option<(Width, Start)>) -> [String; 2] {
    match start {
        Some((width, rounding)) => [width.to_string(), rounding.to_string()],
        None => ["as given".into(), "as given".into()],
    }
}

/// Tests whose class is the wanted one.
fn passing(model: &QuantizedModel, tests: &Tests) -> Result<usize> {
    let outputs = crate::engine::Engine::new(model)?.run(&tests.integers);
    let found = classes(&outputs, model.tensor(model.output).elements());
    Ok(Proportion::agreement(&found, &tests.targets).count)
}

fn file_hash(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(sha256_hex(&bytes))
}
