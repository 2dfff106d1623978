//! `qmend eval`

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::args::{BackendArgs, DeviceArg, PreprocessArgs, ReadArgs, spec_parser};
use super::context::{Context, Done, UserError};
use super::models::{self, AnyModel, Integer};
use super::stages::{self, Teacher};
use super::verify;
use crate::classes::classes;
use crate::data::{DataSpec, Dataset, npy_bytes};
use crate::export::write_image;
use crate::model::{Preprocess, Rounding};
use crate::report::{Proportion, mcnemar_exact};

/// Measure a model's accuracy on labelled data
///
/// Integer models run on the bit-exact engine and bring their preprocessing; for a float network
/// give --scale, --mean and --std as at `quantize`. With --reference, also how often two models
/// give the same class, and McNemar's exact test of whether their accuracies differ by chance.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The model: float (.onnx, .tflite) or integer (.qmend, int8 .tflite)
    model: PathBuf,
    /// Test data: FILE, FOLDER, or either with a range as in FILE:5000..10000
    ///
    /// Raw values as `quantize` took them. Without labels, --outputs or --reference must say what
    /// to do with the outputs.
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    data: DataSpec,
    /// Write the raw outputs to this .npy file, one row a sample: int8 of an integer model, float32
    /// of a float network
    #[arg(long, value_name = "FILE.npy")]
    outputs: Option<PathBuf>,
    /// Also run every sample of an integer model on a device and compare all outputs: host (the
    /// device's engine on this machine), qemu[:MACHINE] (the firmware on an emulated board), or
    /// serial:PORT (a board, also tcp:HOST:PORT), which is flashed first where it has another model
    ///
    /// Where they are identical, the accuracy is the device's; else the exit code is 1.
    #[arg(long, value_name = "host|qemu[:MACHINE]|serial:PORT")]
    device: Option<DeviceArg>,
    /// Rule by which an integer model rounds, in place of its own: tflm (TensorFlow Lite for
    /// Microcontrollers), or litert-reference (LiteRT's reference kernels)
    #[arg(long, value_name = "tflm|litert-reference", value_parser = rounding)]
    rounding: Option<Rounding>,
    /// Compare with this model, float or integer, on the same data
    #[arg(long, value_name = "MODEL")]
    reference: Option<PathBuf>,
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

fn rounding(name: &str) -> Result<Rounding, String> {
    match name {
        "tflm" => Ok(Rounding::Tflm),
        "litert-reference" => Ok(Rounding::LiteRtReference),
        _ => Err("rules are tflm and litert-reference".into()),
    }
}

/// A model under evaluation.
enum Subject {
    Float(Box<Teacher>),
    Integer(Box<Integer>),
}

impl Subject {
    fn load(path: &std::path::Path, args: &Args) -> Result<Self> {
        Ok(match models::load_any(path)? {
            AnyModel::Float(_) if args.rounding.is_some() && path == args.model => {
                return Err(UserError::new(
                    format!("{}: a float network does not round", path.display()),
                    "leave out --rounding, or give the integer model",
                )
                .into());
            }
            AnyModel::Float(graph) => {
                Subject::Float(Box::new(Teacher::new(*graph, args.backend.backend)?))
            }
            AnyModel::Integer(mut m) => {
                if let Some(rule) = args.rounding {
                    m.model = m.under(rule, path)?;
                    // What --device runs.
                    m.image = write_image(&m.model)?;
                }
                Subject::Integer(m)
            }
        })
    }

    fn shape(&self) -> [usize; 3] {
        match self {
            Subject::Float(t) => t.shape(),
            Subject::Integer(m) => m.model.tensor(m.model.input).shape,
        }
    }

    fn outputs(&self) -> usize {
        match self {
            Subject::Float(t) => t.outputs(),
            Subject::Integer(m) => m.model.tensor(m.model.output).elements(),
        }
    }

    fn name(&self) -> &str {
        match self {
            Subject::Float(t) => &t.graph.name,
            Subject::Integer(m) => &m.model.name,
        }
    }

    /// Classes, and the raw outputs as a .npy file.
    fn run(&self, data: &Dataset, pre: &Preprocess) -> Result<(Vec<usize>, Vec<u8>)> {
        let shape = [data.len(), self.outputs()];
        Ok(match self {
            Subject::Float(t) => {
                let out = t.run(data, pre)?;
                let bytes: Vec<u8> = out.iter().flat_map(|v| v.to_le_bytes()).collect();
                (
                    classes(&out, self.outputs()),
                    npy_bytes("<f4", &shape, &bytes),
                )
            }
            Subject::Integer(m) => {
                let out = stages::run_integer(&m.model, data)?;
                let bytes: Vec<u8> = out.iter().map(|&v| v as u8).collect();
                (
                    classes(&out, self.outputs()),
                    npy_bytes("|i1", &shape, &bytes),
                )
            }
        })
    }
}

/// What stands between the data and every model: an image's own preprocessing, or else the command
/// line's, or that of int8 data for a file that holds none. It serves the other model too.
fn preprocess(
    args: &Args,
    subject: &mut Subject,
    reference: Option<&mut Subject>,
    data: &Dataset,
) -> Result<Preprocess> {
    let channels = subject.shape()[2];
    let paths = [Some(&args.model), args.reference.as_ref()];
    let mut integers: Vec<(&mut Integer, &PathBuf)> = [Some(subject), reference]
        .into_iter()
        .zip(paths)
        .filter_map(|(s, path)| match s? {
            Subject::Integer(m) => Some((&mut **m, path?)),
            Subject::Float(_) => None,
        })
        .collect();
    // Images first.
    integers.sort_by_key(|(m, _)| !m.is_image());
    let mut first: Option<Preprocess> = None;
    for (m, path) in integers {
        match &first {
            Some(pre) if !m.is_image() => m.model.preprocess = pre.clone(),
            _ => m.take_preprocess(&args.preprocess, path, data)?,
        }
        first.get_or_insert_with(|| m.model.preprocess.clone());
    }
    Ok(match first {
        Some(pre) => pre,
        None => args.preprocess.preprocess(channels)?,
    })
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    context.check_targets(&args.outputs, &[&args.model, &args.data.path], args.force)?;
    let mut subject = Subject::load(&args.model, args)?;
    if args.device.is_some() && matches!(subject, Subject::Float(_)) {
        return Err(UserError::new(
            format!(
                "{}: a float network, and devices run integer models",
                args.model.display()
            ),
            "make one with `qmend quantize`, or leave --device out",
        )
        .into());
    }
    let mut reference = args
        .reference
        .as_ref()
        .map(|p| Subject::load(p, args))
        .transpose()?;
    let names = [Some(&subject), reference.as_ref()]
        .into_iter()
        .flatten()
        .find_map(|s| match s {
            Subject::Integer(m) => Some(&m.model.labels[..]),
            Subject::Float(_) => None,
        })
        .unwrap_or_default();
    let data = stages::data_for(
        &args.data,
        &args.read,
        subject.shape(),
        names,
        subject.name(),
    )?;
    let pre = preprocess(args, &mut subject, reference.as_mut(), &data)?;
    match &subject {
        Subject::Integer(m) => stages::warn_of_range(context, &data, &m.model),
        Subject::Float(_) => stages::say_inputs(context, &data, &pre),
    }
    let device = match (&subject, &args.device) {
        (Subject::Integer(m), Some(device)) => Some((m, device)),
        _ => None,
    };
    let labels = match (&data.labels, args.outputs.is_some() || reference.is_some()) {
        (None, true) => None,
        _ => Some(data.checked_labels(subject.outputs(), subject.name(), "accuracy")?),
    };

    let bar = context.progress.start("evaluate", 0);
    let (found, raw) = subject.run(&data, &pre)?;
    let other = match &reference {
        Some(r) => {
            // The reference may see the same samples under another shape of as many elements.
            let seen = data.clone().check_shape(r.shape(), r.name())?;
            Some(r.run(&seen, &pre)?.0)
        }
        None => None,
    };
    bar.finish(&format!("{} samples", data.len()));
    let report = match device {
        Some((m, device)) => {
            let inputs = data.model_inputs(&m.model);
            let report = stages::on_device(context, device, &m.model, &m.signed_image(), &inputs)?;
            verify::say(&report, context);
            if !report.identical() {
                context.say("what follows is this machine's, not the device's");
            }
            Some(report)
        }
        None => None,
    };
    if let Some(path) = &args.outputs {
        context.write(path, &raw, args.force)?;
        context.say(format_args!("wrote {}", path.display()));
    }

    let mut fields = json!({"model": args.model, "n": data.len(), "accuracy": null, "data_sha256": data.fingerprint()});
    let labels: Option<Vec<usize>> = labels.map(|l| l.iter().map(|&l| l as usize).collect());
    if let Some(labels) = &labels {
        let p = Proportion::agreement(&found, labels);
        let (lo, hi) = p.wilson95();
        context.say(format_args!(
            "accuracy {} ({} of {}; 95 % interval {:.2} to {:.2} %)",
            p.percent(),
            p.count,
            p.n,
            100.0 * lo,
            100.0 * hi
        ));
        fields["accuracy"] = json!(p.share());
        fields["correct"] = json!(p.count);
        fields["interval95"] = json!([lo, hi]);
    }
    if let Some(other) = &other {
        let same = Proportion::agreement(&found, other);
        context.say(format_args!(
            "same class as the reference: {} ({} of {})",
            same.percent(),
            same.count,
            same.n
        ));
        let mut r = json!({"model": args.reference, "agreement": same.share()});
        if let Some(labels) = &labels {
            let p = Proportion::agreement(other, labels);
            let only = |a: &[usize], b: &[usize]| {
                (0..labels.len())
                    .filter(|&i| a[i] == labels[i] && b[i] != labels[i])
                    .count()
            };
            let (ours, theirs) = (only(&found, other), only(other, &found));
            let p_value = mcnemar_exact(ours, theirs);
            context.say(format_args!(
                "reference accuracy {}; right only here {ours}, only there {theirs} (McNemar's exact p = {p_value:.2e})",
                p.percent()
            ));
            r["accuracy"] = json!(p.share());
            r["only_model_right"] = json!(ours);
            r["only_reference_right"] = json!(theirs);
            r["mcnemar_p"] = json!(p_value);
        }
        fields["reference"] = r;
    }
    if let Some(report) = &report {
        fields["identical"] = json!(report.identical());
        fields["device"] = stages::device_json(report);
    }
    Ok(Done {
        fields,
        holds: report.is_none_or(|r| r.identical()),
        plain: None,
    })
}
