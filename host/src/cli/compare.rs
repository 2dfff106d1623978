//! `qmend compare`

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::args::{BackendArgs, PreprocessArgs, ReadArgs, spec_parser};
use super::context::{Context, Done, UserError};
use super::models;
use super::stages::{self, Teacher};
use crate::compare::{
    Against, Decibels, LayerComparison, LayerReport, Layers, RuleComparison, RuleReport, plot,
    xnnpack,
};
use crate::data::{DataSpec, Dataset, Values};
use crate::model::{QuantizedModel, Rounding};
use crate::report::{Proportion, Table, short_name};

/// Layers below this ratio are pointed out where no threshold is given.
const DEFAULT_THRESHOLD: f64 = 10.0;

/// Show layer by layer where an integer model leaves its float original, or why a desktop computes
/// other bits
///
/// With MODEL and QUANT: for every tensor that both have (matched by name), the
/// signal-to-quantization-noise ratio in dB, the noise power that the layer adds in per cent of the
/// signal's, the cosine similarity, the share of elements saturated by more than a step, the share
/// whose sign differs by more than rounding, and the largest error in quantization steps. The first
/// layer below --threshold-db is named; where the threshold was given, the exit code is then 1.
///
/// With QUANT alone and --against: the integer model under its own rounding and under another rule,
/// how many outputs and classes differ, and in which layer that starts.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "qmend compare MODEL QUANT --data DATA [OPTIONS]\n       \
                            qmend compare QUANT --against RULE --data DATA [OPTIONS]"
)]
pub struct Args {
    /// The float network; with --against, the integer model
    model: PathBuf,
    /// The integer model that was quantized from it
    quant: Option<PathBuf>,
    /// Samples to compare on: FILE, FOLDER, or either with a range as in FILE:0..500
    ///
    /// Raw values as `quantize` took them. Labels are not needed.
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    data: DataSpec,
    /// Compare the integer model with itself under another rounding rule: litert-xnnpack (LiteRT on
    /// a desktop), litert-reference (its reference kernels) or tflm
    #[arg(long, value_name = "RULE", value_parser = parse_against, conflicts_with_all = ["quant", "threshold_db", "plot"])]
    against: Option<Against>,
    /// Point out layers whose ratio is below this many decibels, and end with exit code 1 if there
    /// are any; by default those below 10 dB are pointed out, and the exit code is 0
    #[arg(long, value_name = "DB", allow_hyphen_values = true, value_parser = parse_db)]
    threshold_db: Option<f64>,
    /// Draw the ratio of every layer into this .svg file
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,
    /// Replace files that exist
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    read: ReadArgs,
    #[command(flatten)]
    backend: BackendArgs,
}

fn parse_against(s: &str) -> Result<Against, String> {
    s.parse()
}

fn parse_db(s: &str) -> Result<f64, String> {
    s.parse()
        .ok()
        .filter(|v: &f64| v.is_finite())
        .ok_or_else(|| "not a number of decibels".into())
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let mut read = vec![args.model.as_path(), args.data.path.as_path()];
    read.extend(args.quant.as_deref());
    context.check_targets(&args.plot, &read, args.force)?;
    match (&args.quant, args.against) {
        (Some(quant), _) => with_float(args, quant, context),
        (None, Some(against)) => with_rule(args, against, context),
        (None, None) => Err(UserError::new(
            "one model has nothing to be compared with",
            "give the float network and the integer model, or an integer model and --against RULE",
        )
        .into()),
    }
}

/// Ranges of `batch` samples.
fn batches(n: usize, batch: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..n)
        .step_by(batch)
        .map(move |start| start..(start + batch).min(n))
}

fn integers(data: &Dataset, range: std::ops::Range<usize>, model: &QuantizedModel) -> Vec<i8> {
    data.integers(range, &model.preprocess, model.tensor(model.input))
}

/// What the float network takes, for the samples whose integers these are.
fn reals(
    data: &Dataset,
    range: std::ops::Range<usize>,
    model: &QuantizedModel,
    integers: &[i8],
) -> Vec<f32> {
    // int8 data without preprocessing are the model's input integers, not reals.
    if matches!(data.values, Values::I8(_)) && model.preprocess.is_identity() {
        let input = model.tensor(model.input);
        return integers.iter().map(|&q| input.dequantize(q)).collect();
    }
    data.real(range, &model.preprocess)
}

fn with_float(args: &Args, quant: &std::path::Path, context: &Context) -> Result<Done> {
    let teacher = Teacher::new(models::load_float(&args.model)?, args.backend.backend)?;
    let mut file = models::load_integer(quant)?;
    stages::check_pair(&teacher, &file.model)?;
    let data = stages::integer_data(
        context,
        &args.data,
        &args.read,
        &mut file,
        (&args.preprocess, quant),
    )?;
    let model = file.model;
    let mut comparison = LayerComparison::new(&teacher.graph, &teacher.net, &model)?;
    let bar = context.progress.start("compare", data.len() as u64);
    for range in batches(data.len(), comparison.batch()) {
        let integers = integers(&data, range.clone(), &model);
        comparison.add(&reals(&data, range.clone(), &model, &integers), &integers)?;
        bar.update(range.end as u64, "");
    }
    bar.finish(&format!("{} samples", data.len()));
    let layers = comparison.finish();

    let threshold = args.threshold_db.unwrap_or(DEFAULT_THRESHOLD);
    let below = layers.first_below(threshold);
    context.say(table(&layers));
    context.say(verdict(&layers, threshold));
    if let Some(path) = &args.plot {
        let name = |p: &std::path::Path| {
            let name = p.file_name().unwrap_or(p.as_os_str());
            name.to_string_lossy().into_owned()
        };
        let title = format!(
            "{} against {}, {} samples",
            name(quant),
            name(&args.model),
            layers.samples
        );
        context.write(
            path,
            plot(&layers, &title, threshold).as_bytes(),
            args.force,
        )?;
        context.say(format_args!("wrote {}", path.display()));
    }
    let mut done = Done::new(json!({
        "model": args.model,
        "quant": quant,
        "n": layers.samples,
        "same_class": layers.same_class,
        "threshold_db": threshold,
        "first_below": below.map(|l| l.layer.as_str()),
        "largest_addition": layers.largest_addition().map(|l| l.layer.as_str()),
        "layers": layers.layers.iter().map(layer_json).collect::<Vec<_>>(),
        "unmatched": layers.unmatched,
        "data_sha256": data.fingerprint(),
    }));
    done.holds = below.is_none() || args.threshold_db.is_none();
    Ok(done)
}

/// A ratio for programs: JSON has no infinity.
fn db_json(d: Decibels) -> Value {
    match d {
        Decibels::Finite(v) => json!(v),
        Decibels::Infinite => json!("infinity"),
        Decibels::Undefined => Value::Null,
    }
}

fn layer_json(l: &LayerReport) -> Value {
    json!({
        "layer": l.layer,
        "node": l.node,
        "kind": l.kind,
        "tensor": l.tensor,
        "sqnr_db": db_json(l.metrics.sqnr()),
        "added_noise": l.added_noise,
        "cosine": l.metrics.cosine(),
        "saturation": l.metrics.saturation(),
        "sign_disagreement": l.metrics.sign_disagreement(),
        "max_error_steps": l.metrics.max_error_steps,
        "elements": l.metrics.count,
    })
}

fn table(layers: &Layers) -> Table {
    let mut t = Table::new([
        "#",
        "layer",
        "operator",
        "SQNR dB",
        "noise added",
        "cosine",
        "saturated",
        "sign differs",
        "max error, steps",
    ]);
    for l in &layers.layers {
        let m = &l.metrics;
        t.row([
            l.node.map_or("-".into(), |n| n.to_string()),
            short_name(&l.layer),
            l.kind.to_string(),
            m.sqnr().to_string(),
            l.added_noise
                .map_or("-".into(), |a| format!("{:.3} %", 100.0 * a)),
            m.cosine().map_or("-".into(), |c| format!("{c:.5}")),
            format!("{:.4} %", 100.0 * m.saturation()),
            format!("{:.3} %", 100.0 * m.sign_disagreement()),
            format!("{:.1}", m.max_error_steps),
        ]);
    }
    t
}

/// What the numbers say, in words.
fn verdict(layers: &Layers, threshold: f64) -> String {
    let agreement = Proportion {
        count: layers.same_class,
        n: layers.samples,
    };
    let mut text = format!(
        "same class in {} of {} samples ({})",
        layers.same_class,
        layers.samples,
        agreement.percent()
    );
    match layers.first_below(threshold) {
        Some(l) => {
            text += &format!(
                "\nthe integer model leaves the float network at layer `{}` ({}): its signal-to-noise ratio of {} dB is the first below {threshold} dB",
                short_name(&l.layer),
                l.kind,
                l.metrics.sqnr()
            );
        }
        None => text += &format!("\nno layer is below {threshold} dB"),
    }
    if let Some(l) = layers.layers.iter().find(|l| l.node.is_none())
        && l.metrics.saturation() > 0.01
    {
        text += &format!(
            "\n{:.1} % of the input's values are beyond its range: are these the raw values that the model was made for? (a file of another tool has no preprocessing of its own: give --scale, --mean and --std)",
            100.0 * l.metrics.saturation()
        );
    }
    if let Some(l) = layers.largest_addition() {
        text += &format!(
            "\nmost noise is added by layer `{}` ({}): {:.3} % of its signal's power",
            short_name(&l.layer),
            l.kind,
            100.0 * l.added_noise.unwrap_or_default()
        );
        if l.metrics.saturation() > 0.01 {
            text += &format!(
                "; {:.1} % of its elements saturate, so its range is too narrow",
                100.0 * l.metrics.saturation()
            );
        }
    }
    if !layers.unmatched.is_empty() {
        text += &format!(
            "\n{} of {} layers have no counterpart in the float network: {}",
            layers.unmatched.len(),
            layers.unmatched.len() + layers.layers.iter().filter(|l| l.node.is_some()).count(),
            layers
                .unmatched
                .iter()
                .map(|n| short_name(n))
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    text
}

fn with_rule(args: &Args, against: Against, context: &Context) -> Result<Done> {
    let mut file = models::load_integer(&args.model)?;
    let data = stages::integer_data(
        context,
        &args.data,
        &args.read,
        &mut file,
        (&args.preprocess, &args.model),
    )?;
    let other = match against {
        Against::LitertXnnpack => None,
        Against::LitertReference => Some(file.under(Rounding::LiteRtReference, &args.model)?),
        Against::Tflm => Some(file.under(Rounding::Tflm, &args.model)?),
    };
    let model = file.model;
    let mut comparison =
        RuleComparison::new(&model, against).with_context(|| model.name.clone())?;
    if let Some(other) = other {
        comparison = comparison.with_other(other)?;
    }
    let bar = context.progress.start("compare", data.len() as u64);
    for range in batches(data.len(), comparison.batch()) {
        comparison.add(&integers(&data, range.clone(), &model))?;
        bar.update(range.end as u64, "");
    }
    bar.finish(&format!("{} samples", data.len()));
    let report = comparison.finish();
    context.say(rule_table(&report));
    context.say(rule_verdict(&report, against));
    let mut fields = json!({
        "model": args.model,
        "against": against.to_string(),
        "rounding": format!("{:?}", model.rounding),
        "n": report.samples,
        "output_elements": report.output_elements,
        "differing_outputs": report.differing_outputs,
        "differing_classes": report.differing_classes,
        "first_layer": report.first().map(|l| l.layer.as_str()),
        "layers": report.layers,
        "data_sha256": data.fingerprint(),
    });
    if against == Against::LitertXnnpack {
        let recordings = xnnpack::VERIFIED
            .map(|r| json!({"model": r.model, "met": r.met, "recorded": r.recorded}));
        fields["verified"] = json!(recordings);
    }
    Ok(Done::new(fields))
}

fn rule_table(report: &RuleReport) -> Table {
    let mut t = Table::new([
        "#",
        "layer",
        "operator",
        "elements",
        "differing",
        "largest",
        "from this layer alone",
    ]);
    for (i, l) in report.layers.iter().enumerate() {
        t.row([
            i.to_string(),
            short_name(&l.layer),
            l.kind.to_string(),
            l.elements.to_string(),
            l.differing.to_string(),
            l.largest.to_string(),
            l.own.to_string(),
        ]);
    }
    t
}

fn rule_verdict(report: &RuleReport, against: Against) -> String {
    let why = match against {
        Against::LitertXnnpack => {
            "LiteRT on a desktop hands int8 models to XNNPACK, which rounds a scaled accumulator once, in f32, where microcontrollers round twice in integers"
        }
        Against::LitertReference => {
            "LiteRT's reference kernels round fully connected layers once, where microcontrollers round twice, and take some multipliers in f32"
        }
        Against::Tflm => "TensorFlow Lite for Microcontrollers rounds twice in every layer",
    };
    let mut text = format!(
        "under {against}, {} of {} output elements and {} of {} classes differ",
        report.differing_outputs, report.output_elements, report.differing_classes, report.samples
    );
    match report.first() {
        Some(l) => {
            text += &format!(
                "; the first layer that differs is `{}` ({}): {} of {} elements, by at most {}\n{why}",
                short_name(&l.layer),
                l.kind,
                l.differing,
                l.elements,
                l.largest
            );
        }
        None => text += "; no layer differs",
    }
    if against == Against::LitertXnnpack {
        let met: usize = xnnpack::VERIFIED.iter().map(|r| r.met).sum();
        let all: usize = xnnpack::VERIFIED.iter().map(|r| r.recorded).sum();
        text += &format!(
            "\nthis is a model of XNNPACK's x86-64 kernels: it gives {met} of {all} recorded output elements of {} networks (LiteRT 2.3.0); changes of scale and functions by table are computed by the device's rule",
            xnnpack::VERIFIED.len()
        );
    }
    text
}
