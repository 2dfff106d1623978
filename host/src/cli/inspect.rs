//! `qmend inspect`

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use qmend_shared::image::Model;
use serde_json::{Value, json};

use super::args::{ReadArgs, spec_parser};
use super::context::{Context, Done, UserError};
use super::layers::{Window, float_activation, integer_activation};
use super::models::{self, AnyModel, Integer, Kind};
use super::sign::verifying_key;
use crate::data::{DataSpec, Dataset, load_spec};
use crate::export::plan;
use crate::export::signature::{SignatureError, VerifyingKey, check, hex};
use crate::graph::Graph;
use crate::model::{Preprocess, QuantizedModel};
use crate::repair::certificate::{Certificate, sha256_hex};
use crate::report::{Table, short_name};

/// Show what is in a file: a float network, an integer model, data, or a certificate
///
/// Layers with their numbers (`--layer` takes them, and whole names), names (long ones shortened;
/// --json has them whole), shapes (height x width x channels), weights
/// and scales; for data its shape, type, range of values and classes.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file (.onnx, .tflite, .qmend, .npz, .npy, IDX, CSV, .json) or image folder
    #[arg(value_name = "FILE", value_parser = spec_parser())]
    file: DataSpec,
    /// Verify an integer model's signature with this public key (.pub, of `qmend keygen`); exit code
    /// 1 where it does not hold or there is none
    #[arg(long, value_name = "FILE.pub")]
    key: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let path: &Path = &args.file.path;
    let ends = |e: &str| path.extension().is_some_and(|x| x.eq_ignore_ascii_case(e));
    if ends("json") {
        return certificate(path, context);
    }
    if path.is_file() && (ends("onnx") || ends("tflite") || models::kind(path)? != Kind::Other) {
        match (models::load_any(path)?, &args.key) {
            (AnyModel::Float(graph), None) => return Ok(float(&graph, context)),
            (AnyModel::Integer(model), key) => {
                let mut done = integer(&model, context)?;
                let key = key.as_deref().map(verifying_key).transpose()?;
                done.holds = signature(&model, key.as_ref(), context, &mut done.fields);
                return Ok(done);
            }
            _ => {}
        }
    }
    if args.key.is_some() {
        return Err(UserError::new(
            format!("{}: only integer models are signed", path.display()),
            "leave out --key",
        )
        .into());
    }
    let data = load_spec(&args.file, &args.read.options(None, &[]))?;
    Ok(dataset(&data, context))
}

/// A certificate holds a few hundred bytes a test; a longer file is none.
const MAX_CERTIFICATE: u64 = 1 << 30;

fn dims(shape: [usize; 3]) -> String {
    format!("{}x{}x{}", shape[0], shape[1], shape[2])
}

fn float(graph: &Graph, context: &Context) -> Done {
    let mut table = Table::new([
        "#",
        "layer",
        "operator",
        "output",
        "kernel",
        "stride",
        "padding",
        "activation",
        "weights",
    ]);
    let mut layers = Vec::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        let weights = node.op.weights().map_or(0, |w| w.data.len());
        let shown = if weights == 0 {
            "-".into()
        } else {
            weights.to_string()
        };
        let window = Window::of_float(&node.op);
        let [kernel, stride, padding] = Window::cells(window.as_ref());
        let activation = float_activation(&node.op);
        table.row([
            i.to_string(),
            short_name(&node.name),
            node.op.kind().into(),
            dims(graph.shape(node.output)),
            kernel,
            stride,
            padding,
            activation.clone().unwrap_or("-".into()),
            shown,
        ]);
        layers.push(json!({
            "name": node.name,
            "operator": node.op.kind(),
            "output": graph.shape(node.output),
            "window": Window::json(window.as_ref()),
            "activation": activation,
            "weights": weights,
        }));
    }
    let (input, output) = (graph.shape(graph.input), graph.shape(graph.output));
    context.say(format_args!(
        "float network {}: input {}, output {}",
        graph.name,
        dims(input),
        dims(output)
    ));
    context.say(table);
    context.say(format_args!("{} weights", graph.weight_count()));
    Done::new(json!({
        "kind": "float",
        "name": graph.name,
        "input": input,
        "output": output,
        "file_layout": if graph.input_was_nchw { "nchw" } else { "nhwc" },
        "weights": graph.weight_count(),
        "layers": layers,
    }))
}

/// Every operator of an integer model.
pub fn layer_table(model: &QuantizedModel) -> Table {
    let mut table = Table::new([
        "#",
        "layer",
        "operator",
        "output",
        "kernel",
        "stride",
        "padding",
        "activation",
        "scale",
        "zero",
        "bits",
        "weights",
    ]);
    for (i, node) in model.nodes.iter().enumerate() {
        let out = model.tensor(node.output);
        let (bits, weights) = node.op.linear().map_or(("-".into(), "-".into()), |l| {
            (l.bits.to_string(), l.weights.len().to_string())
        });
        let window = Window::of_integer(&node.op);
        let [kernel, stride, padding] = Window::cells(window.as_ref());
        table.row([
            i.to_string(),
            short_name(&node.name),
            node.op.kind().into(),
            dims(out.shape),
            kernel,
            stride,
            padding,
            integer_activation(node, out).unwrap_or("-".into()),
            format!("{:.6}", out.scale),
            out.zero_point.to_string(),
            bits,
            weights,
        ]);
    }
    table
}

/// As [`layer_table`], for programs.
pub fn layers_json(model: &QuantizedModel) -> Vec<Value> {
    let layer = |node: &crate::model::Node| {
        let out = model.tensor(node.output);
        json!({
            "name": node.name,
            "operator": node.op.kind(),
            "output": out.shape,
            "scale": out.scale,
            "zero_point": out.zero_point,
            "window": Window::json(Window::of_integer(&node.op).as_ref()),
            "activation": integer_activation(node, out),
            "bits": node.op.linear().map(|l| l.bits),
            "weights": node.op.linear().map_or(0, |l| l.weights.len()),
        })
    };
    model.nodes.iter().map(layer).collect()
}

fn integer(file: &Integer, context: &Context) -> Result<Done> {
    let Integer { model, image, .. } = file;
    let (input, output) = (model.tensor(model.input), model.tensor(model.output));
    let plan = plan(model)?;
    let self_tests = Model::from_bytes(image)
        .ok()
        .and_then(|m| m.self_tests())
        .map_or(0, |tests| tests.count());
    let hash = sha256_hex(&file.file);
    context.say(format_args!(
        "integer model {}: input {} (scale {}, zero point {}), output {} (scale {}, zero point {})",
        model.name,
        dims(input.shape),
        input.scale,
        input.zero_point,
        dims(output.shape),
        output.scale,
        output.zero_point
    ));
    context.say(layer_table(model));
    context.say(preprocess_words(&model.preprocess));
    if !model.labels.is_empty() {
        context.say(format_args!("classes: {}", model.labels.join(", ")));
    }
    if self_tests > 0 {
        context.say(format_args!("{self_tests} self-tests in the image"));
    }
    context.say(format_args!(
        "{} bytes of flash, {} bytes of RAM for activations ({:.1} % more than the most that tensors need at once, {}), SHA-256 {hash}",
        image.len(),
        plan.arena_bytes,
        100.0 * (plan.arena_bytes as f64 / plan.lower_bound.max(1) as f64 - 1.0),
        plan.lower_bound,
    ));
    Ok(Done::new(json!({
        "kind": "integer",
        "name": model.name,
        "input": {"shape": input.shape, "scale": input.scale, "zero_point": input.zero_point},
        "output": {"shape": output.shape, "scale": output.scale, "zero_point": output.zero_point},
        "rounding": format!("{:?}", model.rounding).to_lowercase(),
        "preprocess": model.preprocess,
        "classes": model.labels,
        "image_bytes": image.len(),
        "self_tests": self_tests,
        "arena_bytes": plan.arena_bytes,
        "arena_lower_bound_bytes": plan.lower_bound,
        "image_sha256": hash,
        "layers": layers_json(model),
    })))
}

/// What the signature says and whether that is so; whether all holds that was asked for.
fn signature(
    file: &Integer,
    key: Option<&VerifyingKey>,
    context: &Context,
    fields: &mut Value,
) -> bool {
    let Some(block) = &file.signature else {
        fields["signature"] = Value::Null;
        if key.is_some() {
            context.say("not signed");
        }
        return key.is_none();
    };
    let found = check(&file.image, block, key);
    let id = hex(&block.key_id);
    let verdict = match (&found, key) {
        (Err(e), _) => format!("does NOT hold: {e}"),
        (Ok(()), Some(_)) => "holds".into(),
        (Ok(()), None) => "speaks of this image; `--key FILE.pub` verifies who made it".to_string(),
    };
    context.say(format_args!(
        "signature: version {}, key {id}; {verdict}",
        block.version
    ));
    fields["signature"] = json!({
        "version": block.version,
        "key_id": id,
        "image_matches": !matches!(found, Err(SignatureError::OtherImage)),
        "verified": key.map(|_| found.is_ok()),
    });
    found.is_ok()
}

fn preprocess_words(p: &Preprocess) -> String {
    if p.is_identity() {
        return "preprocessing: none, raw values go in as they are".into();
    }
    let list = |v: &[f32]| match v {
        [one] => one.to_string(),
        many => format!("{many:?}"),
    };
    let mut formula = format!("raw * {}", p.scale);
    if !p.mean.is_empty() {
        formula += &format!(" - {}", list(&p.mean));
    }
    if !p.std.is_empty() {
        formula = format!("({formula}) / {}", list(&p.std));
    }
    format!("preprocessing: real = {formula}")
}

fn dataset(data: &Dataset, context: &Context) -> Done {
    let (lo, hi) = data.values.range().unwrap_or((0.0, 0.0));
    context.say(format_args!(
        "{} samples of {} {} from {lo} to {hi}, read as height x width x channels",
        data.len(),
        dims(data.shape),
        data.values.dtype()
    ));
    let mut counts = Vec::new();
    if let Some(labels) = &data.labels {
        let classes = labels
            .iter()
            .max()
            .map_or(0, |&m| m as usize + 1)
            .max(data.class_names.len());
        let mut all = std::collections::BTreeMap::new();
        labels
            .iter()
            .for_each(|&l| *all.entry(l).or_insert(0usize) += 1);
        let mut table = Table::new(["class", "samples", "name"]);
        for (class, n) in &all {
            let name = data
                .class_names
                .get(*class as usize)
                .cloned()
                .unwrap_or_default();
            table.row([class.to_string(), n.to_string(), name.clone()]);
            counts.push(json!({"class": class, "n": n, "name": name}));
        }
        context.say(format_args!("labels 0 to {}:", classes.saturating_sub(1)));
        context.say(table);
    } else {
        context.say("no labels");
    }
    let hash = data.fingerprint();
    context.say(format_args!("SHA-256 of the samples and labels: {hash}"));
    Done::new(json!({
        "kind": "data",
        "source": data.source,
        "n": data.len(),
        "shape": data.shape,
        "dtype": data.values.dtype(),
        "range": [lo, hi],
        "labels": data.labels.is_some(),
        "classes": counts,
        "data_sha256": hash,
    }))
}

fn certificate(path: &Path, context: &Context) -> Result<Done> {
    let c = read_certificate(path)?;
    context.say(format_args!(
        "certificate of a repair ({}, qmend {}): {} of {} repair tests pass, {} before; holdout {} of {}, {} before",
        c.settings.strategy,
        c.settings.version,
        c.passing[1],
        c.tests,
        c.passing[0],
        c.holdout_passing[1],
        c.holdout_tests,
        c.holdout_passing[0]
    ));
    context.say(format_args!(
        "{} tests repaired, {} lost, {} not mended; image {}",
        c.repaired.len(),
        c.lost.len(),
        c.unfixable.len(),
        c.image_sha256
    ));
    Ok(Done::new(json!({"kind": "certificate", "certificate": c})))
}

/// Reads a certificate from a file.
pub fn read_certificate(path: &Path) -> Result<Certificate> {
    let refused = |why: String| {
        UserError::new(
            format!("{}: {why}", path.display()),
            "give the file that `qmend repair --certificate` wrote",
        )
    };
    let mut text = Vec::new();
    File::open(path)
        .and_then(|f| f.take(MAX_CERTIFICATE + 1).read_to_end(&mut text))
        .map_err(|e| refused(format!("cannot be read ({e})")))?;
    if text.len() as u64 > MAX_CERTIFICATE {
        return Err(refused(format!(
            "longer than {MAX_CERTIFICATE} bytes, so no certificate"
        ))
        .into());
    }
    let text = String::from_utf8(text).map_err(|_| refused("not a certificate".into()))?;
    Ok(Certificate::from_json(&text).map_err(|e| refused(e.to_string()))?)
}
