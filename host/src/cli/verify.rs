//! `qmend verify`

use std::collections::HashSet;
use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::args::{DeviceArg, PreprocessArgs, ReadArgs, spec_parser};
use super::context::{Context, Done, UserError};
use super::inspect::read_certificate;
use super::{models, stages};
use crate::data::DataSpec;
use crate::device::VerifyReport;
use crate::repair::certificate::{Certificate, sha256_hex};

/// Check on host or device, bit by bit, that an integer model gives the results that it should
///
/// With --certificate: the image's hash, the data's hash, and the class and integer outputs of
/// every repaired test are replayed; --data is then the repair data, cut as it was at `repair`.
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
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    data: DataSpec,
    /// The certificate (.json) that `qmend repair --certificate` wrote
    #[arg(long, value_name = "FILE.json")]
    certificate: Option<PathBuf>,
    /// What runs the image: host, qemu[:MACHINE] for an emulated board with the real firmware, or
    /// serial:PORT for a board (also tcp:HOST:PORT), which is flashed first where it has another
    #[arg(
        long,
        default_value = "host",
        value_name = "host|qemu[:MACHINE]|serial:PORT"
    )]
    device: DeviceArg,
    /// Run at most this many inputs on the device (the certificate is replayed in full)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    inputs: Option<u64>,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    read: ReadArgs,
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let mut file = models::load_integer(&args.quant)?;
    let data = stages::integer_data(
        context,
        &args.data,
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
    if let Some(path) = &args.certificate {
        let certificate = read_certificate(path)?;
        if certificate.tests != data.len() {
            return Err(UserError::new(
                format!(
                    "{} speaks of {} repair tests, {} holds {}",
                    path.display(),
                    certificate.tests,
                    data.source,
                    data.len()
                ),
                "give the repair data with the same range as at `repair`",
            )
            .into());
        }
        let mut wrong = contradictions(&certificate);
        wrong.extend(certificate.replay(model, &file.file, &inputs)?);
        for line in wrong.iter().take(10) {
            context.say(format_args!("does not hold: {line}"));
        }
        if wrong.is_empty() {
            context.say(format_args!(
                "the certificate holds: {} repaired tests replayed",
                certificate.repaired.len()
            ));
        } else {
            context.say(format_args!(
                "the certificate does not hold ({} differences)",
                wrong.len()
            ));
        }
        fields["certificate"] = json!({"holds": wrong.is_empty(), "replayed": certificate.repaired.len(), "wrong": wrong});
        holds &= wrong.is_empty();
    }

    let run = args.inputs.map_or(data.len(), |n| {
        data.len().min(usize::try_from(n).unwrap_or(usize::MAX))
    });
    let report = stages::on_device(
        context,
        &args.device,
        model,
        &file.image,
        &inputs[..run * data.elements()],
    )?;
    say(&report, context);
    holds &= report.identical();
    fields["identical"] = json!(report.identical());
    fields["device"] = stages::device_json(&report);
    Ok(Done {
        fields,
        holds,
        plain: None,
    })
}

/// What in a certificate cannot be true whatever the model computes: its counts follow from its
/// lists.
fn contradictions(c: &Certificate) -> Vec<String> {
    let mut wrong = Vec::new();
    for t in &c.repaired {
        if t.after != t.target || t.before == t.target {
            wrong.push(format!(
                "test {}: class {} before and {} after, where {} is wanted, is no repair",
                t.test, t.before, t.after, t.target
            ));
        }
    }
    // Lost tests are among those that still fail.
    let failing: HashSet<usize> = c.unfixable.iter().copied().collect();
    let mut changed = HashSet::new();
    for (test, fails) in c
        .repaired
        .iter()
        .map(|t| (t.test, false))
        .chain(c.lost.iter().map(|&t| (t, true)))
    {
        if test >= c.tests || failing.contains(&test) != fails || !changed.insert(test) {
            wrong.push(format!("test {test} cannot be in the lists where it is"));
        }
    }
    let after = c.tests.checked_sub(failing.len());
    let before = after.and_then(|n| (n + c.lost.len()).checked_sub(c.repaired.len()));
    if [before, after] != c.passing.map(Some) || failing.len() != c.unfixable.len() {
        wrong.push(format!(
            "{} passing tests before and {} after do not follow from {} tests, {} repaired, {} lost and {} failing",
            c.passing[0],
            c.passing[1],
            c.tests,
            c.repaired.len(),
            c.lost.len(),
            c.unfixable.len()
        ));
    }
    if c.settings.strict && !c.lost.is_empty() {
        wrong.push("a strict repair lost tests".into());
    }
    let [before, after] = c.holdout_passing;
    if after < before || after > c.holdout_tests {
        wrong.push(format!(
            "{before} passing holdout tests before and {after} after, of {}",
            c.holdout_tests
        ));
    }
    wrong
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
