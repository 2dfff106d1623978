//! Host against device, bit for bit.

use serde::Serialize;

use super::{Device, DeviceError, DeviceIdentity, DeviceStats, HostDevice};
use crate::model::QuantizedModel;

/// The first element in which host and device disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Index of the input.
    pub input: usize,
    /// Index of the first operator whose output differs; none where only the final output was seen
    /// to differ.
    pub operator: Option<usize>,
    /// Its name.
    pub name: String,
    /// What it computes.
    pub kind: String,
    /// Element of its output in HWC order.
    pub element: usize,
    /// The host's value.
    pub host: i8,
    /// The device's value.
    pub device: i8,
}

/// Instructions of one inference, over all inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Instructions {
    /// Fewest.
    pub min: u64,
    /// Middle one (the lower of two).
    pub median: u64,
    /// Most.
    pub max: u64,
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VerifyReport {
    /// The device.
    pub device: DeviceIdentity,
    /// Inputs that were run.
    pub inputs: usize,
    /// Inputs whose outputs differ.
    pub differing_inputs: usize,
    /// Output elements that differ, over all inputs.
    pub differing: u64,
    /// Where the first difference is.
    pub first_difference: Option<Difference>,
    /// Instructions of one inference, where the device counts them. They are not cycles.
    pub instructions: Option<Instructions>,
    /// Flash for the image in bytes (the firmware's own is `device.code_bytes`).
    pub image_bytes: usize,
    /// Memory in use.
    pub memory: DeviceStats,
}

impl VerifyReport {
    /// Whether every output bit agreed.
    pub fn identical(&self) -> bool {
        self.differing == 0
    }
}

/// Runs `inputs` (`[n][h][w][c]`, int8) through `image` on the host and on `device` and compares
/// every output element; the first difference is traced to its operator. `model` is what `image`
/// was written from, and names the operators. `progress` is called with the number of inputs done.
///
/// # Errors
/// Where the image is refused, the inputs are no whole number of samples, or the device fails. A
/// difference is no error: it is in the report.
pub fn verify(
    model: &QuantizedModel,
    image: &[u8],
    inputs: &[i8],
    device: &mut dyn Device,
    mut progress: impl FnMut(usize),
) -> Result<VerifyReport, DeviceError> {
    let mut host = HostDevice::new();
    let expected = host.load(image)?;
    let loaded = device.load(image)?;
    if loaded != expected {
        let answer = format!("{loaded:?} where the host reads {expected:?}");
        return Err(DeviceError::UnexpectedAnswer {
            request: "open image",
            answer,
        });
    }
    let len = loaded.input_len;
    if len == 0 || inputs.len() % len != 0 {
        return Err(DeviceError::InputLength {
            given: inputs.len(),
            expected: len,
        });
    }
    let mut report = VerifyReport {
        device: device.identity().clone(),
        inputs: inputs.len() / len,
        differing_inputs: 0,
        differing: 0,
        first_difference: None,
        instructions: None,
        image_bytes: image.len(),
        memory: DeviceStats::default(),
    };
    let mut counts = Vec::new();
    for (index, input) in inputs.chunks_exact(len).enumerate() {
        let ours = host.infer(input)?.output;
        let theirs = device.infer(input)?;
        counts.extend(theirs.instructions);
        let differing = ours
            .iter()
            .zip(&theirs.output)
            .filter(|(a, b)| a != b)
            .count();
        if differing > 0 {
            report.differing_inputs += 1;
            report.differing += differing as u64;
            if report.first_difference.is_none() {
                report.first_difference = Some(trace(
                    model,
                    index,
                    input,
                    &ours,
                    &theirs.output,
                    &mut host,
                    device,
                )?);
            }
        }
        progress(index + 1);
    }
    counts.sort_unstable();
    if let (Some(&min), Some(&max)) = (counts.first(), counts.last()) {
        report.instructions = Some(Instructions {
            min,
            median: counts[(counts.len() - 1) / 2],
            max,
        });
    }
    report.memory = device.stats()?;
    Ok(report)
}

fn first_differing(a: &[i8], b: &[i8]) -> Option<(usize, i8, i8)> {
    a.iter()
        .zip(b)
        .enumerate()
        .find(|(_, (x, y))| x != y)
        .map(|(i, (&x, &y))| (i, x, y))
}

/// Finds the first operator and element that differ.
fn trace(
    model: &QuantizedModel,
    input_index: usize,
    input: &[i8],
    ours: &[i8],
    theirs: &[i8],
    host: &mut HostDevice,
    device: &mut dyn Device,
) -> Result<Difference, DeviceError> {
    let (host_digests, device_digests) = (
        host.operator_digests(input)?,
        device.operator_digests(input)?,
    );
    if let Some(operator) = host_digests
        .iter()
        .zip(&device_digests)
        .position(|(a, b)| a != b)
    {
        let (a, b) = (
            host.operator_output(input, operator)?,
            device.operator_output(input, operator)?,
        );
        if let Some((element, host, device)) = first_differing(&a, &b) {
            let node = model.nodes.get(operator);
            return Ok(Difference {
                input: input_index,
                operator: Some(operator),
                name: node.map_or_else(|| format!("operator {operator}"), |n| n.name.clone()),
                kind: node.map_or("", |n| n.op.kind()).into(),
                element,
                host,
                device,
            });
        }
    }
    // Every operator agreed when it was run again: the output itself is all that is known.
    let (element, host, device) = first_differing(ours, theirs).unwrap_or_default();
    Ok(Difference {
        input: input_index,
        operator: None,
        name: "output".into(),
        kind: String::new(),
        element,
        host,
        device,
    })
}
