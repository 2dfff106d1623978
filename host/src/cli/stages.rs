//! Steps that several commands take in the same way.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::args::{DeviceArg, PreprocessArgs, ReadArgs};
use super::context::{Context, UserError};
use super::interrupt;
use super::models::Integer;
use crate::calibrate::{Method, Range, calibrate};
use crate::classes::classes;
use crate::data::{DataSpec, Dataset, Values, load_spec, overlap};
use crate::device::port::BAUD;
use crate::device::{
    Device, Difference, Gdb, HostDevice, Port, Qemu, QemuOptions, VerifyReport, verify,
};
use crate::engine::Engine;
use crate::float::{Backend, FloatNet};
use crate::graph::Graph;
use crate::localize::match_layers;
use crate::model::{Preprocess, QuantizedModel};
use crate::quantize::{QuantizeConfig, quantize};
use crate::repair::{Job, Outcome, RepairConfig, Step, Targets, Tests, repair};

/// Reads data for a model whose input is `shape`.
pub fn data_for(
    spec: &DataSpec,
    read: &ReadArgs,
    shape: [usize; 3],
    classes: &[String],
    who: &str,
) -> Result<Dataset> {
    let data = load_spec(spec, &read.options(Some(shape), classes))?;
    Ok(data.check_shape(shape, who)?)
}

/// Reads data for an integer model and settles its preprocessing ([`Integer::take_preprocess`]);
/// warns where the values cannot be what that preprocessing was made for.
pub fn integer_data(
    context: &Context,
    spec: &DataSpec,
    read: &ReadArgs,
    file: &mut Integer,
    (args, path): (&PreprocessArgs, &Path),
) -> Result<Dataset> {
    let shape = file.model.tensor(file.model.input).shape;
    let data = data_for(spec, read, shape, &file.model.labels, &file.model.name)?;
    file.take_preprocess(args, path, &data)?;
    warn_of_range(context, &data, &file.model);
    Ok(data)
}

/// Warns where data cannot be what a model's preprocessing was made for.
pub fn warn_of_range(context: &Context, data: &Dataset, model: &QuantizedModel) {
    // Such data are the input's integers.
    if matches!(data.values, Values::I8(_)) && model.preprocess.is_identity() {
        return;
    }
    let input = model.tensor(model.input);
    let (lo, hi) = real_range(data, &model.preprocess);
    let end = |q: i32| (q - i32::from(input.zero_point)) as f32 * input.scale;
    let (least, most) = (end(-128), end(127));
    let span = most - least;
    if hi - lo < span * NARROW || lo < least - span || hi > most + span {
        let (raw_lo, raw_hi) = data.values.range().unwrap_or((0.0, 0.0));
        context.warn(format_args!(
            "{}: its raw values, {raw_lo} to {raw_hi}, become {lo} to {hi} by the model's preprocessing, and its input holds {least} to {most}; are they the raw values that `quantize` took, not preprocessed already? (for a model that is no .qmend: see --scale, --mean, --std)",
            data.source
        ));
    }
}

/// Data that use less of the model's input range than this were hardly meant for it.
const NARROW: f32 = 1.0 / 32.0;
/// Longest wait for an answer of a board.
pub const PORT_LIMIT: Duration = Duration::from_secs(60);

/// Least and greatest value after preprocessing, over all channels.
pub fn real_range(data: &Dataset, pre: &Preprocess) -> (f32, f32) {
    let (lo, hi) = data.values.range().unwrap_or((0.0, 0.0));
    (0..data.shape[2].max(1))
        .flat_map(|k| [pre.apply(lo, k), pre.apply(hi, k)])
        .fold((f32::INFINITY, f32::NEG_INFINITY), |(a, b), x| {
            (a.min(x), b.max(x))
        })
}

/// Says what a float network sees: a forgotten --scale is the most usual mistake.
pub fn say_inputs(context: &Context, data: &Dataset, pre: &Preprocess) {
    let (lo, hi) = real_range(data, pre);
    context.say(format_args!(
        "the network sees inputs from {lo} to {hi} (raw {}); is that what it was trained on? else see --scale, --mean, --std",
        data.values.dtype()
    ));
}

/// A float network ready to run.
pub struct Teacher {
    pub graph: Graph,
    pub net: FloatNet,
}

impl Teacher {
    pub fn new(graph: Graph, backend: Backend) -> Result<Self> {
        let net = FloatNet::new(&graph, backend).with_context(|| graph.name.clone())?;
        Ok(Teacher { graph, net })
    }

    pub fn shape(&self) -> [usize; 3] {
        self.graph.shape(self.graph.input)
    }

    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.graph.elements(self.graph.output)
    }

    /// Outputs for all samples, `[n][outputs]`.
    pub fn run(&self, data: &Dataset, pre: &Preprocess) -> Result<Vec<f32>> {
        Ok(self.net.run(&data.real(0..data.len(), pre))?)
    }

    /// Classes of all samples.
    pub fn classes(&self, data: &Dataset, pre: &Preprocess) -> Result<Vec<usize>> {
        Ok(classes(&self.run(data, pre)?, self.outputs()))
    }
}

/// Outputs of an integer model for all samples, `[n][outputs]`.
pub fn run_integer(model: &QuantizedModel, data: &Dataset) -> Result<Vec<i8>> {
    let engine = Engine::new(model).with_context(|| model.name.clone())?;
    Ok(engine.run(&data.model_inputs(model)))
}

/// Classes of an integer model for all samples.
pub fn integer_classes(model: &QuantizedModel, data: &Dataset) -> Result<Vec<usize>> {
    Ok(classes(
        &run_integer(model, data)?,
        model.tensor(model.output).elements(),
    ))
}

/// Calibrates and quantizes.
pub fn quantized(
    teacher: &Teacher,
    data: &Dataset,
    pre: &Preprocess,
    method: Method,
    config: &QuantizeConfig,
) -> Result<QuantizedModel> {
    let inputs = data.real(0..data.len(), pre);
    let mut calibration = calibrate(&teacher.graph, &teacher.net, &inputs, method)?;
    // Where every raw byte can have an integer of its own, quantizing the input loses nothing, and
    // what the samples happened to show of its range does not matter.
    if let Some((lo, hi)) = data.exact_input_range(pre) {
        calibration.set_range(teacher.graph.input, Range { lo, hi });
    }
    let mut model = quantize(&teacher.graph, &calibration, config, &inputs, pre.clone())?;
    model.labels = data.class_names.clone();
    Ok(model)
}

/// Tests for a repair, with the teacher's classes or the data's labels as targets.
pub fn tests(
    teacher: &Teacher,
    model: &QuantizedModel,
    data: &Dataset,
    targets: Targets,
) -> Result<Tests> {
    let reals = data.real(0..data.len(), &model.preprocess);
    let integers = data.model_inputs(model);
    let sample = data.elements();
    let known = data.labels.as_ref().and_then(|labels| {
        labels
            .iter()
            .map(|&l| Some(l as usize).filter(|&l| l < teacher.outputs()))
            .collect::<Option<Vec<usize>>>()
    });
    match targets {
        Targets::Teacher => {
            Ok(
                Tests::from_teacher(&teacher.net, reals, integers, sample, teacher.outputs())?
                    .with_labels(known),
            )
        }
        Targets::Labels => {
            let labels =
                data.checked_labels(teacher.outputs(), &teacher.graph.name, "--targets labels")?;
            let targets = labels.iter().map(|&l| l as usize).collect();
            Ok(Tests {
                reals,
                integers,
                targets,
                sample,
                extra: Vec::new(),
                labels: known,
            })
        }
    }
}

/// Repairs, and says how it goes on: `what` names the stage, `end` the result in a few words.
///
/// Ctrl-C ([`interrupt::listen`]) ends it with the best model so far.
pub fn repaired(
    context: &Context,
    what: impl Into<String>,
    job: &Job<'_>,
    config: &RepairConfig,
    end: impl FnOnce(&Outcome) -> String,
) -> Result<Outcome> {
    let bar = context.progress.start(what, 0);
    let mut steps = 0;
    let outcome = repair(job, config, &interrupt::asked, &mut |s: &Step| {
        steps += 1;
        let (passing, of) = (s.score.repair, job.repair.len());
        bar.update(
            steps,
            &format!("{}: {passing} of {of} tests pass", s.strategy),
        );
    })?;
    bar.finish(&end(&outcome));
    Ok(outcome)
}

/// Warns of samples that two sets share, and refuses sets that share more than a few: data that
/// decides what to keep must not be the data that was learned from.
pub fn check_disjoint(
    context: &Context,
    a: (&str, &Dataset),
    b: (&str, &Dataset),
    allow: bool,
) -> Result<()> {
    let shared = overlap(a.1, b.1);
    let Some((i, j)) = shared.first else {
        return Ok(());
    };
    let what = format!(
        "{} of the {} {} samples are in the {} set too (the first: {} {i} and {} {j})",
        shared.count,
        b.1.len(),
        b.0,
        a.0,
        a.0,
        b.0
    );
    // A few images that a collection holds twice are no mistake of the split.
    if !allow && shared.count * 100 > b.1.len() {
        return Err(UserError::new(
            what,
            "cut disjoint sets, as FILE:0..2500 and FILE:2500..5000; or say --allow-overlap",
        )
        .into());
    }
    context.warn(what);
    Ok(())
}

/// Refuses a float network and an integer model that are not of one kind.
pub fn check_pair(teacher: &Teacher, model: &QuantizedModel) -> Result<()> {
    let (a, b) = (teacher.shape(), model.tensor(model.input).shape);
    let (c, d) = (teacher.outputs(), model.tensor(model.output).elements());
    if a == b && c == d {
        return Ok(());
    }
    Err(UserError::new(
        format!(
            "{} takes {a:?} and gives {c} outputs, {} takes {b:?} and gives {d}",
            teacher.graph.name, model.name
        ),
        "give the float network that the integer model was quantized from",
    )
    .into())
}

/// Says which layers of the two networks were matched by structure, and which have no partner; the
/// same for programs.
pub fn matched_layers(context: &Context, graph: &Graph, model: &QuantizedModel) -> Value {
    let m = match_layers(graph, model);
    if m.by_structure > 0 {
        context.say(format_args!(
            "layers matched: {} by name, {} by structure",
            m.by_name, m.by_structure
        ));
    }
    let unmatched: Vec<&str> = m
        .unmatched
        .iter()
        .map(|n| model.nodes[*n].name.as_str())
        .collect();
    if !unmatched.is_empty() {
        context.warn(format_args!(
            "no layer of the float network stands for `{}`; localization, and the strategies layer and neuron, leave them out",
            unmatched.join("`, `")
        ));
    }
    json!({"by_name": m.by_name, "by_structure": m.by_structure, "unmatched": unmatched})
}

/// Runs inputs on a device and compares every output: the device's engine on this machine with the
/// engine that repair used, and, where another device is asked for, that device with this machine.
pub fn on_device(
    context: &Context,
    device: &DeviceArg,
    model: &QuantizedModel,
    image: &[u8],
    inputs: &[i8],
) -> Result<VerifyReport> {
    let n = (inputs.len() / model.tensor(model.input).elements().max(1)) as u64;
    let bar = context.progress.start(format!("run on {device}"), n);
    let progress = |done: usize| bar.update(done as u64, "");
    let mut opened = open_device(device)?;
    let mut report = verify(model, image, inputs, &mut *opened, progress)?;
    bar.finish(&format!("{n} inputs"));
    compare_engines(model, image, inputs, &mut report)?;
    Ok(report)
}

/// Starts or opens a device.
pub fn open_device(device: &DeviceArg) -> Result<Box<dyn Device>> {
    Ok(match device {
        DeviceArg::Host => Box::new(HostDevice::new()),
        DeviceArg::Qemu(machine) => Box::new(Qemu::start(&QemuOptions {
            machine: *machine,
            ..QemuOptions::default()
        })?),
        DeviceArg::Probe(chip) => Box::new(super::probe::open_chip(chip)?),
        DeviceArg::Gdb(address) => Box::new(Gdb::device(address, PORT_LIMIT)?),
        DeviceArg::Port(name) => Box::new(Port::connect(name, BAUD, PORT_LIMIT)?),
    })
}

/// Adds to a report where the engine of repair and eval differs from the device's on this machine.
fn compare_engines(
    model: &QuantizedModel,
    image: &[u8],
    inputs: &[i8],
    report: &mut VerifyReport,
) -> Result<()> {
    let fast = Engine::new(model)?.run(inputs);
    let mut host = HostDevice::new();
    let loaded = host.load(image)?;
    for (i, (input, ours)) in inputs
        .chunks_exact(loaded.input_len)
        .zip(fast.chunks_exact(loaded.output_len))
        .enumerate()
    {
        let theirs = host.infer(input)?.output;
        let Some(element) = (0..ours.len()).find(|&k| ours[k] != theirs[k]) else {
            continue;
        };
        report.differing_inputs += 1;
        report.differing += ours.iter().zip(&theirs).filter(|(a, b)| a != b).count() as u64;
        report.first_difference.get_or_insert_with(|| Difference {
            input: i,
            operator: None,
            name: "output".into(),
            kind: "host engine against device engine".into(),
            element,
            host: ours[element],
            device: theirs[element],
        });
    }
    Ok(())
}

/// A device's report for programs.
pub fn device_json(report: &VerifyReport) -> Value {
    json!({
        "name": report.device.name,
        "core": report.device.core,
        "firmware": report.device.firmware,
        "inputs": report.inputs,
        "differing": report.differing,
        "differing_inputs": report.differing_inputs,
        "first_difference": report.first_difference,
        "instructions": report.instructions,
        "time": report.time,
        "image_bytes": report.image_bytes,
        "code_bytes": report.device.code_bytes,
        "memory": report.memory,
    })
}
