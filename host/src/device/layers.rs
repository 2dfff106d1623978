//! Host against device, tensor by tensor.

use qmend_shared::link::frame::crc32;
use serde::Serialize;

use super::{Device, DeviceError, Difference, to_bytes};
use crate::engine::{Engine, EngineError};
use crate::model::{QuantizedModel, TensorId};

/// What [`verify_layers`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LayersReport {
    /// Inputs that were run.
    pub inputs: usize,
    /// Operators, each of whose outputs was compared for every input.
    pub operators: usize,
    /// Elements of these tensors, over all inputs. They were compared by CRC-32, and one by one where
    /// that differs.
    pub elements: u64,
    /// Inputs for which some tensor differs.
    pub differing_inputs: usize,
    /// Tensors that differ, over all inputs: the first, and what it makes differ behind it.
    pub differing_tensors: u64,
    /// The first difference: of the first such input, the first operator in execution order.
    pub first_difference: Option<Difference>,
}

impl LayersReport {
    /// Whether every tensor agreed.
    pub fn identical(&self) -> bool {
        self.differing_tensors == 0
    }
}

/// Runs `inputs` (`[n][h][w][c]`, int8) on the device, which has loaded `model`'s image, and compares
/// the output of every operator with the engine that calibration, repair and evaluation use.
///
/// # Errors
/// Where the engine refuses the model, inputs are no whole number of samples, or the device fails. A
/// difference is no error.
pub fn verify_layers(
    model: &QuantizedModel,
    inputs: &[i8],
    device: &mut dyn Device,
    mut progress: impl FnMut(usize),
) -> Result<LayersReport, DeviceError> {
    let engine = Engine::new(model).map_err(|e: EngineError| DeviceError::Run {
        reason: e.to_string(),
    })?;
    let len = model.tensor(model.input).elements();
    if len == 0 || !inputs.len().is_multiple_of(len) {
        return Err(DeviceError::InputLength {
            given: inputs.len(),
            expected: len,
        });
    }
    let tensors: Vec<TensorId> = model.nodes.iter().map(|n| n.output).collect();
    let mut report = LayersReport {
        inputs: inputs.len() / len,
        operators: tensors.len(),
        ..LayersReport::default()
    };
    for (index, input) in inputs.chunks_exact(len).enumerate() {
        let ours = engine.run_keep(input, &tensors);
        report.elements += ours.iter().map(|t| t.len() as u64).sum::<u64>();
        let theirs = device.operator_digests(input)?;
        if theirs.len() != ours.len() {
            return Err(DeviceError::UnexpectedAnswer {
                request: "digest",
                answer: format!("{} operators of {}", theirs.len(), ours.len()),
            });
        }
        let differing: Vec<usize> = (0..ours.len())
            .filter(|&i| crc32(&to_bytes(&ours[i])) != theirs[i])
            .collect();
        report.differing_tensors += differing.len() as u64;
        report.differing_inputs += usize::from(!differing.is_empty());
        if let (Some(&operator), None) = (differing.first(), &report.first_difference) {
            report.first_difference = Some(locate(
                model,
                (index, input),
                operator,
                &ours[operator],
                device,
            )?);
        }
        progress(index + 1);
    }
    Ok(report)
}

/// Fetches the tensor whose CRC differs.
fn locate(
    model: &QuantizedModel,
    (index, input): (usize, &[i8]),
    operator: usize,
    ours: &[i8],
    device: &mut dyn Device,
) -> Result<Difference, DeviceError> {
    let theirs = device.operator_output(input, operator)?;
    let node = &model.nodes[operator];
    let element = ours.iter().zip(&theirs).position(|(a, b)| a != b);
    match element {
        Some(element) if ours.len() == theirs.len() => Ok(Difference {
            input: index,
            operator: Some(operator),
            name: node.name.clone(),
            kind: node.op.kind().into(),
            element,
            host: ours[element],
            device: theirs[element],
        }),
        // Run again, it gave the right bits.
        _ => Err(DeviceError::UnexpectedAnswer {
            request: "keep",
            answer: format!(
                "a tensor of operator {operator} ('{}') that has another CRC each time it is computed",
                node.name
            ),
        }),
    }
}
