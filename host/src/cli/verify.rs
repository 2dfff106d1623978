//! `qmend verify`

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::args::{DeviceArg, PreprocessArgs, ReadArgs, spec_parser};
use super::context::{Context, Done, UserError};
use super::inspect::read_certificate;
use super::{models, on_device, stages};
use crate::classes::classes;
use crate::data::DataSpec;
use crate::device::VerifyReport;
use crate::engine::Engine;
use crate::model::QuantizedModel;
use crate::repair::certificate::{Certificate, sha256_hex};
use crate::repair::robust::Robust;

/// Check on host or device, bit by bit, that an integer model gives the results that it should
///
/// With --certificate: its lists are checked against each other, and the image's hash, the data's
/// hash, the class of every repair test and the integer logits of every repaired one are replayed;
/// --data is then the repair data, cut as it was at `repair`. --original replays the model before.
/// In any case: the image is run as the device runs it (--device host: the device's engine on this
/// machine; --device qemu: the firmware on an emulated Cortex-M4) and every output integer is
/// compared with the engine that repair and eval use.
///
/// Exit code 1 where anything differs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The integer model (.qmend, int8 .tflite)
    quant: PathBuf,
    /// Inputs to run: FILE, FOLDER, or either with a range as in FILE:0..2500; raw values as
    /// `quantize` took them
    #[arg(long, value_name = "DATA", value_parser = spec_parser(), required_unless_present = "self_test")]
    data: Option<DataSpec>,
    /// The certificate (.json) that `qmend repair --certificate` wrote
    #[arg(long, value_name = "FILE.json")]
    certificate: Option<PathBuf>,
    /// What runs the image: host, qemu[:MACHINE] for an emulated board with the real firmware, or
    /// serial:PORT for a board (also tcp:HOST:PORT), which is flashed first where it has another;
    /// gdb:HOST:PORT for a board behind a debugger's GDB server (OpenOCD, pyOCD, probe-rs, J-Link)
    /// whose agent speaks by RTT; probe:CHIP for one behind a debug probe (in builds with the feature
    /// `probe`; PROBE_RS_PROBE, PROBE_RS_SPEED and the like say more)
    #[arg(
        long,
        default_value = "host",
        value_name = "host|qemu[:MACHINE]|serial:PORT|gdb:HOST:PORT|probe:CHIP"
    )]
    device: DeviceArg,
    /// The integer model before the repair: what the certificate says of it is replayed too
    #[arg(long, value_name = "QUANT", requires = "certificate")]
    original: Option<PathBuf>,
    /// Certify, by sound interval propagation through the integers, which tests keep their class
    /// for every input within this many steps of the input's integers (of the certificate's
    /// repaired tests, else of all of --data), and the most steps that each is certified for
    #[arg(long, value_name = "K")]
    robust: Option<u8>,
    /// Run at most this many inputs on the device, repaired tests first (the certificate is
    /// replayed in full on the host)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    inputs: Option<u64>,
    /// Compare every intermediate tensor on the device with the engine, and name the first element
    /// that differs
    #[arg(long)]
    layers: bool,
    /// Let the device run the self-tests that the model carries (of `repair --self-test` or `export
    /// --self-test`); needs no --data
    #[arg(long)]
    self_test: bool,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    read: ReadArgs,
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let mut file = models::load_integer(&args.quant)?;
    let mut self_tested = None;
    if args.self_test {
        let (fields, holds) = on_device::self_test(context, &args.device, &file)?;
        self_tested = Some((fields, holds));
    }
    let Some(spec) = &args.data else {
        let (tested, holds) = self_tested.unwrap_or_default();
        let fields = json!({
            "model": args.quant,
            "image_sha256": sha256_hex(&file.file),
            "self_test": tested,
        });
        let plain = None;
        return Ok(Done {
            fields,
            holds,
            plain,
        });
    };
    let data = stages::integer_data(
        context,
        spec,
        &args.read,
        &mut file,
        (&args.preprocess, &args.quant),
    )?;
    let model = &file.model;
    let inputs = data.model_inputs(model);
    let mut fields = json!({
        "model": args.quant,
        "image_sha256": sha256_hex(&file.file),
        "data_sha256": data.fingerprint(),
    });

    let mut holds = true;
    let mut order: Vec<usize> = (0..data.len()).collect();
    let mut certificate = None;
    if let Some(path) = &args.certificate {
        let c = read_certificate(path)?;
        if c.tests != data.len() {
            return Err(UserError::new(
                format!(
                    "{} speaks of {} repair tests, {} holds {}",
                    path.display(),
                    c.tests,
                    data.source,
                    data.len()
                ),
                "give the repair data with the same range as at `repair`",
            )
            .into());
        }
        let mut wrong = c.replay(model, &file.file, &inputs)?;
        if let Some(path) = &args.original {
            let mut before = models::load_integer(path)?;
            before.take_preprocess(&args.preprocess, path, &data)?;
            wrong.extend(c.replay_original(&before.model, &before.file, &inputs)?);
        }
        for line in wrong.iter().take(10) {
            context.say(format_args!("does not hold: {line}"));
        }
        context.say(if wrong.is_empty() {
            format!(
                "the certificate holds: {} tests replayed, {} of them repaired",
                c.tests,
                c.repaired.len()
            )
        } else {
            format!(
                "the certificate does not hold ({} differences)",
                wrong.len()
            )
        });
        fields["certificate"] = json!({
            "holds": wrong.is_empty(),
            "replayed": c.repaired.len(),
            "original_replayed": args.original.is_some(),
            "wrong": wrong,
            "robust": c.robust,
        });
        holds &= wrong.is_empty();
        // What was repaired runs on the device first, so that --inputs cuts off other tests.
        let repaired: HashSet<usize> = c.repaired.iter().map(|t| t.test).collect();
        order.sort_by_key(|i| !repaired.contains(i));
        certificate = Some(c);
    }
    if let Some(steps) = args.robust {
        fields["robust"] = robust(context, model, &inputs, certificate.as_ref(), steps)?;
    }

    let run = args.inputs.map_or(data.len(), |n| {
        data.len().min(usize::try_from(n).unwrap_or(usize::MAX))
    });
    order.truncate(run);
    let sample = data.elements();
    let chosen: Vec<i8> = order
        .iter()
        .flat_map(|&i| inputs[i * sample..(i + 1) * sample].iter().copied())
        .collect();
    let mut report =
        stages::on_device(context, &args.device, model, &file.signed_image(), &chosen)?;
    if let Some(d) = &mut report.first_difference {
        d.input = order.get(d.input).copied().unwrap_or(d.input);
    }
    if let Some(c) = &certificate {
        let on_device = c.repaired.len().min(run);
        context.say(format_args!(
            "{on_device} of the {} repaired tests ran on {}",
            c.repaired.len(),
            report.device.name
        ));
        fields["certificate"]["on_device"] = json!(on_device);
    }
    say(&report, context);
    holds &= report.identical();
    fields["identical"] = json!(report.identical());
    fields["device"] = stages::device_json(&report);
    if args.layers {
        let sent = file.signed_image();
        let (found, same) = on_device::layers(
            context,
            (&args.device, &report.device.name),
            model,
            &sent,
            (&chosen, &order),
        )?;
        fields["layers"] = found;
        holds &= same;
    }
    if let Some((tested, passed)) = self_tested {
        fields["self_test"] = tested;
        holds &= passed;
    }
    Ok(Done {
        fields,
        holds,
        plain: None,
    })
}

/// Certifies boxes around tests: those that a certificate lists as repaired, else all of the data
/// with the class that the model gives them.
fn robust(
    context: &Context,
    model: &QuantizedModel,
    inputs: &[i8],
    certificate: Option<&Certificate>,
    steps: u8,
) -> Result<serde_json::Value> {
    let sample = model.tensor(model.input).elements();
    let scores = crate::repair::logits(model);
    let kept = Engine::new(model)?.run_keep(inputs, &[scores]).concat();
    let all = classes(&kept, model.tensor(scores).elements());
    let (tests, targets): (Vec<usize>, Vec<usize>) = match certificate {
        // A test that is not in the data has been complained of already.
        Some(c) => c
            .repaired
            .iter()
            .filter(|t| t.test < all.len())
            .map(|t| (t.test, t.target))
            .unzip(),
        None => all.iter().copied().enumerate().unzip(),
    };
    let r = Robust::new(model)?;
    let bar = context.progress.start("boxes", 0);
    let chosen: Vec<i8> = tests
        .iter()
        .flat_map(|&i| inputs[i * sample..(i + 1) * sample].iter().copied())
        .collect();
    let largest = r.largest(&chosen, &targets);
    let certified = largest.iter().flatten().filter(|k| **k >= steps).count();
    bar.finish(&format!("{} tests", tests.len()));
    let mut sorted: Vec<Option<u8>> = largest.clone();
    sorted.sort_unstable();
    context.say(format_args!(
        "certified: {certified} of {} {} keep their class for every input within {steps} steps of the input's integers ({}); median {}, most {} steps. Of the others nothing is known: the method is incomplete",
        tests.len(),
        if certificate.is_some() { "repaired tests" } else { "inputs" },
        if r.decided_on() == "output" { "decided on the output" } else { "decided on the logits before softmax" },
        sorted.get(sorted.len() / 2).copied().flatten().unwrap_or(0),
        sorted.last().copied().flatten().unwrap_or(0),
    ));
    let not: Vec<usize> = tests
        .iter()
        .zip(&largest)
        .filter(|(_, k)| k.is_none_or(|k| k < steps))
        .map(|(t, _)| *t)
        .collect();
    Ok(json!({
        "steps": steps,
        "decided_on": r.decided_on(),
        "tests": tests,
        "certified": certified,
        "not_certified": not,
        "largest_steps": largest,
    }))
}

/// A device's report in words.
pub fn say(report: &VerifyReport, context: &Context) {
    let on = &report.device.name;
    match &report.first_difference {
        None => context.say(format_args!("identical: every output of {} inputs on {on}", report.inputs)),
        Some(d) => context.say(format_args!(
            "{} of {} inputs differ on {on}; the first: input {}, operator {} ({}), element {}: host {}, device {}",
            report.differing_inputs, report.inputs, d.input, d.name, d.kind, d.element, d.host, d.device
        )),
    }
    if let Some(i) = report.instructions {
        context.say(format_args!(
            "instructions an inference: {} (from {} to {})",
            i.median, i.min, i.max
        ));
    }
    if let Some(t) = &report.time {
        let unit = if t.clock.cycles { "cycles" } else { "ticks" };
        context.say(format_args!(
            "{unit} an inference: {} (from {} to {}) at {} Hz by {}, {} microseconds",
            t.median, t.min, t.max, t.clock.hz, t.clock.counter, t.median_microseconds
        ));
    }
    let m = &report.memory;
    let stack = m
        .stack_high_water
        .map_or(String::new(), |s| format!(", stack at most {s}"));
    let firmware = match report.device.code_bytes {
        0 => String::new(),
        bytes => format!(", firmware {bytes}"),
    };
    context.say(format_args!(
        "bytes of flash: image {}{firmware}; of RAM: arena {}, with input and output {}{stack}",
        report.image_bytes, m.arena_bytes, m.tensor_bytes
    ));
}
