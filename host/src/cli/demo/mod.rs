//! `qmend demo`

mod example;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::args::{BackendArgs, DeviceArg};
use super::context::{Context, Done, UserError};
use super::repair::outcome_json;
use super::{interrupt, stages, verify};
use crate::calibrate::Method;
use crate::data::Dataset;
use crate::device::QemuOptions;
use crate::device::qemu::MPS2_AN386;
use crate::export::{plan, write_image};
use crate::localize::{Metric, localize};
use crate::model::{Preprocess, QuantizedModel};
use crate::quantize::QuantizeConfig;
use crate::repair::certificate::Certificate;
use crate::repair::{Job, RepairConfig, Strategy, Targets, Tests};
use crate::report::{Proportion, Table};
use example::Example;

/// Walk the whole road on an embedded example, in under a minute
///
/// A small network that PyTorch exported, and images of Fashion-MNIST that it was not trained on,
/// go through the same code as files of your own: import, calibrate, quantize with 8-, 4-, 3- and
/// 2-bit weights, localize, repair, write the image, measure on test images used for nothing else,
/// replay the certificate, and compare every output bit on an emulated Cortex-M4 where the emulator
/// and the firmware are there. Everything made goes to a folder, the example's own files included.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Width of the weights of the model that goes on to image, certificate and device
    #[arg(long, default_value = "4", value_name = "8|4|3|2", value_parser = super::quantize::parse_bits)]
    bits: u8,
    /// Folder for the files made; its files of the demo's names are replaced
    #[arg(long, default_value = "qmend-demo", value_name = "DIR")]
    out: PathBuf,
    /// What runs the image: auto (qemu where it is there, else host), qemu, host, or none
    #[arg(long, default_value = "auto", value_name = "auto|qemu|host|none", value_parser = parse_device)]
    device: DemoDevice,
    /// Inputs to run on the device
    #[arg(long, default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4744))]
    inputs: u64,
    /// Seconds that all repairs together may take
    #[arg(long, default_value_t = 36.0, value_name = "SECONDS")]
    time_budget: f64,
    #[command(flatten)]
    backend: BackendArgs,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DemoDevice {
    Auto,
    None,
    This(DeviceArg),
}

fn parse_device(s: &str) -> Result<DemoDevice, String> {
    match s {
        "auto" => Ok(DemoDevice::Auto),
        "none" => Ok(DemoDevice::None),
        other => other
            .parse()
            .map(DemoDevice::This)
            .map_err(|e: String| format!("{e}; here also auto and none")),
    }
}

/// Widths of weights, in the order of the table.
const WIDTHS: [u8; 4] = [8, 4, 3, 2];

/// How much of the time a width gets, relative to the others.
fn share(bits: u8) -> f64 {
    if bits == 8 { 1.0 } else { 3.0 }
}

/// One width's road from float to repaired.
struct Row {
    bits: u8,
    quantized: Proportion,
    repaired: Proportion,
    original: (QuantizedModel, Vec<u8>),
    mended: (QuantizedModel, Vec<u8>),
    outcome: Value,
    edits: String,
    /// Wall time of the repair.
    seconds: f64,
    certificate: Certificate,
    /// The repair inputs as the integer model takes them.
    inputs: Vec<i8>,
    suspects: Vec<Value>,
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let start = Instant::now();
    if !(args.time_budget > 0.0 && args.time_budget < 1e6) {
        return Err(UserError::new(
            "--time-budget is not a positive number of seconds",
            "give a number such as 36",
        )
        .into());
    }
    interrupt::listen();
    std::fs::create_dir_all(&args.out)
        .with_context(|| format!("{}: the folder cannot be made", args.out.display()))?;

    let bar = context.progress.start("import", 0);
    let Example {
        graph,
        calibration,
        repair,
        holdout,
        test,
    } = Example::load()?;
    let teacher = stages::Teacher::new(graph, args.backend.backend)?;
    bar.finish(&format!(
        "{} with {} weights; {} images: {} to calibrate, {} to repair, {} held out, {} to test",
        example::NAME,
        teacher.graph.weight_count(),
        calibration.len() + repair.len() + holdout.len() + test.len(),
        calibration.len(),
        repair.len(),
        holdout.len(),
        test.len()
    ));
    let pre = Preprocess {
        scale: 1.0 / 255.0,
        ..Preprocess::default()
    };
    let labels: Vec<usize> = test
        .checked_labels(teacher.outputs(), example::NAME, "accuracy")?
        .iter()
        .map(|&l| l as usize)
        .collect();
    let bar = context.progress.start("float", 0);
    let float = Proportion::agreement(&teacher.classes(&test, &pre)?, &labels);
    bar.finish(&format!("accuracy {} on the test images", float.percent()));

    let sets = Sets {
        calibration: &calibration,
        repair: &repair,
        holdout: &holdout,
        test: &test,
        labels: &labels,
    };
    let mut rows = Vec::new();
    let mut budget = args.time_budget;
    for (i, bits) in WIDTHS.into_iter().enumerate() {
        // At 8 bits there is little to mend; what a width leaves over is the next ones'.
        let shares: f64 = WIDTHS[i..].iter().map(|&b| share(b)).sum();
        let limit = Duration::from_secs_f64((budget * share(bits) / shares).max(0.1));
        rows.push(one_width(
            args, context, &teacher, &sets, &pre, bits, limit,
        )?);
        budget -= rows.last().map_or(0.0, |r| r.seconds);
    }
    let chosen = rows
        .iter()
        .find(|r| r.bits == args.bits)
        .context("the chosen width was not made")?;

    let files = write_files(args, context, &rows, chosen)?;
    context.say("");
    context.say(accuracy_table(float, &rows));
    context.say(format_args!(
        "accuracy on {} test images used for nothing else; float {}; won back: share of the loss",
        test.len(),
        float.percent()
    ));

    let wrong = chosen
        .certificate
        .replay(&chosen.mended.0, &chosen.mended.1, &chosen.inputs)?;
    context.say(format_args!(
        "certificate of the {}-bit model: {}",
        args.bits,
        if wrong.is_empty() {
            format!(
                "{} repaired tests replayed, all as certified",
                chosen.certificate.repaired.len()
            )
        } else {
            format!("DOES NOT HOLD: {}", wrong[0])
        }
    ));
    let mut holds = wrong.is_empty();

    let (device, missing) = device(args, context);
    let mut device_fields = Value::Null;
    if let Some(device) = device {
        let n = usize::try_from(args.inputs)
            .unwrap_or(usize::MAX)
            .min(test.len());
        let (model, image) = &chosen.mended;
        let inputs = test.integers(0..n, &model.preprocess, model.tensor(model.input));
        let report = stages::on_device(context, &device, model, image, &inputs)?;
        verify::say(&report, context);
        holds &= report.identical();
        device_fields = stages::device_json(&report);
    }
    if let Some(why) = &missing {
        context.say(format_args!("no emulated Cortex-M4: {why}"));
    }

    let seconds = start.elapsed().as_secs_f64();
    context.say(format_args!(
        "files in {}; took {seconds:.1} s. By hand, the same:",
        args.out.display()
    ));
    context.say(by_hand(args));
    Ok(Done {
        fields: json!({
            "float_accuracy": float.share(),
            "quantized_accuracy": chosen.quantized.share(),
            "repaired_accuracy": chosen.repaired.share(),
            "test_size": test.len(),
            "bits": args.bits,
            "widths": rows.iter().map(|r| row_json(float, r)).collect::<Vec<_>>(),
            "certificate": {"holds": wrong.is_empty(), "replayed": chosen.certificate.repaired.len()},
            "device": device_fields,
            "device_missing": missing,
            "image_bytes": chosen.mended.1.len(),
            "arena_bytes": plan(&chosen.mended.0)?.arena_bytes,
            "files": files,
            "seconds": seconds,
        }),
        holds,
        plain: None,
    })
}

/// The data of the demo.
struct Sets<'a> {
    calibration: &'a Dataset,
    repair: &'a Dataset,
    holdout: &'a Dataset,
    test: &'a Dataset,
    labels: &'a [usize],
}

fn one_width(
    args: &Args,
    context: &Context,
    teacher: &stages::Teacher,
    sets: &Sets<'_>,
    pre: &Preprocess,
    bits: u8,
    limit: Duration,
) -> Result<Row> {
    let config = QuantizeConfig {
        bits,
        ..QuantizeConfig::default()
    };
    let model = stages::quantized(teacher, sets.calibration, pre, Method::default(), &config)?;
    let image = write_image(&model)?;
    let quantized =
        Proportion::agreement(&stages::integer_classes(&model, sets.test)?, sets.labels);
    let tests = stages::tests(teacher, &model, sets.repair, Targets::Teacher)?;
    let kept = stages::tests(teacher, &model, sets.holdout, Targets::Teacher)?;
    let suspects = suspects(teacher, &model, &tests)?;

    let settings = RepairConfig {
        // `auto` repairs better, but takes a minute for every width.
        strategy: [Strategy::Layer, Strategy::Margin].into(),
        time_budget: Some(limit),
        backend: args.backend.backend,
        ..RepairConfig::default()
    };
    let job = Job {
        graph: &teacher.graph,
        float: &teacher.net,
        model: &model,
        repair: &tests,
        holdout: &kept,
    };
    let what = format!("{bits}-bit weights");
    let outcome = stages::repaired(context, what, &job, &settings, |o| {
        format!(
            "agrees with the float network on {} of {} repair images, {} before",
            o.after.repair, o.repair_tests, o.before.repair
        )
    })?;
    let repaired = Proportion::agreement(
        &stages::integer_classes(&outcome.model, sets.test)?,
        sets.labels,
    );
    let mended = write_image(&outcome.model)?;
    let certificate = Certificate::new(
        (&model, &image),
        &outcome,
        &mended,
        &tests,
        Targets::Teacher,
        &settings,
    )?;
    let e = outcome.edits;
    Ok(Row {
        bits,
        quantized,
        repaired,
        seconds: outcome.seconds,
        outcome: without_lists(outcome_json(&outcome)),
        edits: format!("{} / {} / {}", e.biases, e.multipliers, e.weights),
        original: (model, image),
        mended: (outcome.model, mended),
        certificate,
        inputs: tests.integers,
        suspects,
    })
}

/// An outcome without the lists that are as long as the data: the certificate has them.
fn without_lists(mut outcome: Value) -> Value {
    if let Some(o) = outcome.as_object_mut() {
        o.remove("unfixable_tests");
    }
    outcome
}

/// The five most suspicious neurons.
fn suspects(
    teacher: &stages::Teacher,
    model: &QuantizedModel,
    tests: &Tests,
) -> Result<Vec<Value>> {
    let found = localize(
        &teacher.graph,
        &teacher.net,
        model,
        &tests.reals,
        &tests.integers,
    )?;
    let top = found.ranking(Metric::Ochiai, 0).into_iter().take(5);
    Ok(top
        .map(
            |r| json!({"layer": found.layer_name(r.node), "channel": r.channel, "ochiai": r.score}),
        )
        .collect())
}

/// Share of the lost accuracy that repair won back; none where nothing worth the name was lost.
fn won_back(float: Proportion, row: &Row) -> Option<f64> {
    let lost = float.share() - row.quantized.share();
    (lost > 0.002).then(|| (row.repaired.share() - row.quantized.share()) / lost)
}

fn accuracy_table(float: Proportion, rows: &[Row]) -> Table {
    let mut table = Table::new([
        "weights",
        "flash",
        "quantized",
        "repaired",
        "won back",
        "changed biases / multipliers / weights",
    ]);
    for r in rows {
        table.row([
            format!("{}-bit", r.bits),
            r.mended.1.len().to_string(),
            r.quantized.percent(),
            r.repaired.percent(),
            won_back(float, r).map_or("-".into(), |w| format!("{:.0} %", 100.0 * w)),
            r.edits.clone(),
        ]);
    }
    table
}

fn row_json(float: Proportion, r: &Row) -> Value {
    json!({
        "bits": r.bits,
        "quantized_accuracy": r.quantized.share(),
        "repaired_accuracy": r.repaired.share(),
        "won_back": won_back(float, r),
        "image_bytes": r.mended.1.len(),
        "suspects": r.suspects,
        "outcome": r.outcome,
    })
}

fn write_files(args: &Args, context: &Context, rows: &[Row], chosen: &Row) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut write = |name: String, bytes: &[u8]| -> Result<()> {
        let path = args.out.join(name);
        context.write(&path, bytes, true)?;
        files.push(path);
        Ok(())
    };
    write(example::NAME.into(), example::MODEL)?;
    write("t10k-images-idx3-ubyte.gz".into(), example::IMAGES)?;
    write("t10k-labels-idx1-ubyte.gz".into(), example::LABELS)?;
    for r in rows {
        write(format!("quantized-{}bit.qmend", r.bits), &r.original.1)?;
        write(format!("repaired-{}bit.qmend", r.bits), &r.mended.1)?;
    }
    write(
        format!("certificate-{}bit.json", chosen.bits),
        chosen.certificate.to_json().as_bytes(),
    )?;
    Ok(files)
}

/// The device to use, and why the emulator is not it.
fn device(args: &Args, _context: &Context) -> (Option<DeviceArg>, Option<String>) {
    match &args.device {
        DemoDevice::None => (None, None),
        DemoDevice::This(device) => (Some(device.clone()), None),
        DemoDevice::Auto => match QemuOptions::default().find() {
            Ok(_) => (Some(DeviceArg::Qemu(MPS2_AN386)), None),
            Err(e) => (Some(DeviceArg::Host), Some(e.to_string())),
        },
    }
}

/// The commands that do the same on files.
fn by_hand(args: &Args) -> String {
    let file = |name: &str| args.out.join(name).display().to_string();
    let (model, images) = (file(example::NAME), file("t10k-images-idx3-ubyte.gz"));
    let b = args.bits;
    let quantized = Path::new("my.qmend").display();
    format!(
        "  qmend quantize {model} --data {images}:{} --scale 1/255 --weights {b} -o {quantized}\n  \
           qmend repair {model} {quantized} --data {images}:{} --holdout {images}:{} -o mended.qmend --certificate mended.json --strategy layer,margin\n  \
           qmend eval mended.qmend --data {images}:{} --reference {model}\n  \
           qmend verify mended.qmend --data {images}:{} --certificate mended.json",
        example::range("calibration"),
        example::range("repair"),
        example::range("holdout"),
        example::range("test"),
        example::range("repair"),
    )
}
