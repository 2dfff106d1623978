//! What `verify` asks of a device besides its outputs.

use anyhow::Result;
use serde_json::{Value, json};

use super::args::DeviceArg;
use super::context::Context;
use super::models::Integer;
use super::stages::open_device;
use crate::device::{self_test as run_self_tests, verify_layers};
use crate::engine::Engine;
use crate::export::self_test::with_self_tests;
use crate::model::QuantizedModel;

/// Compares every intermediate tensor; for programs, and whether all agree. `inputs` with their
/// indices in the data.
pub fn layers(
    context: &Context,
    (device, name): (&DeviceArg, &str),
    model: &QuantizedModel,
    image: &[u8],
    (inputs, order): (&[i8], &[usize]),
) -> Result<(Value, bool)> {
    let mut opened = open_device(device)?;
    opened.load(image)?;
    let bar = context
        .progress
        .start(format!("layers on {device}"), order.len() as u64);
    let mut report = verify_layers(model, inputs, &mut *opened, |done| {
        bar.update(done as u64, "");
    })?;
    bar.finish(&format!("{} inputs", report.inputs));
    if let Some(d) = &mut report.first_difference {
        d.input = order.get(d.input).copied().unwrap_or(d.input);
    }
    match &report.first_difference {
        None => context.say(format_args!(
            "identical: every output of {} operators, {} elements over {} inputs on {name} (by CRC-32)",
            report.operators, report.elements, report.inputs
        )),
        Some(d) => context.say(format_args!(
            "{} tensors of {} inputs differ on {name}; the first: input {}, operator {} ({}), element {}: host {}, device {}",
            report.differing_tensors, report.differing_inputs, d.input, d.name, d.kind, d.element, d.host, d.device
        )),
    }
    let same = report.identical();
    let mut fields = json!(report);
    fields["identical"] = json!(same);
    Ok((fields, same))
}

/// Lets the device run the model's self-tests; for programs, and whether all passed.
pub fn self_test(context: &Context, device: &DeviceArg, file: &Integer) -> Result<(Value, bool)> {
    let mut opened = open_device(device)?;
    opened.load(&file.signed_image())?;
    let bar = context.progress.start(format!("self-test on {device}"), 0);
    let report = run_self_tests(&mut *opened, |done, of| {
        bar.update(done as u64, &format!("of {of}"));
    })?;
    bar.finish(&format!("{} vectors", report.vectors));
    let name = &opened.identity().name;
    context.say(format_args!(
        "self-test on {name}: {} of {} passed",
        report.passed, report.vectors
    ));
    if let Some(f) = &report.first_failure {
        context.say(format_args!(
            "the first that failed: vector {}, element {}: {} expected, {} computed",
            f.vector, f.element, f.expected, f.got
        ));
    }
    let passed = report.failed == 0;
    let mut fields = json!(report);
    fields["device"] = json!(opened.identity());
    Ok((fields, passed))
}

/// The image with some of these inputs (`[n][h][w][c]`) as self-tests.
pub fn with_repaired(
    image: &[u8],
    model: &QuantizedModel,
    inputs: &[i8],
    chosen: &[usize],
) -> Result<Vec<u8>> {
    let sample = model.tensor(model.input).elements();
    let inputs: Vec<i8> = chosen
        .iter()
        .flat_map(|&i| inputs[i * sample..(i + 1) * sample].iter().copied())
        .collect();
    let outputs = Engine::new(model)?.run(&inputs);
    Ok(with_self_tests(image, &inputs, &outputs)?)
}
