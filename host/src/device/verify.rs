//! Host against device, bit for bit.

use serde::Serialize;

use super::{Clock, Device, DeviceError, DeviceIdentity, DeviceStats, HostDevice};
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

/// Time of one inference, over all inputs, in ticks of a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Time {
    /// The clock.
    pub clock: Clock,
    /// Fewest ticks.
    pub min: u64,
    /// Middle one (the lower of two).
    pub median: u64,
    /// Most.
    pub max: u64,
    /// The middle one in microseconds.
    pub median_microseconds: u64,
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
    /// Time of one inference by the device's own clock, where it has one.
    pub time: Option<Time>,
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
/// was written from, and names the operators; a signature may follow it. `progress` is called with the number of inputs done.
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
    if !inputs.len().is_multiple_of(len) {
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
        time: None,
        image_bytes: qmend_shared::signature::split(image).0.len(),
        memory: DeviceStats::default(),
    };
    let (mut counts, mut ticks) = (Vec::new(), Vec::new());
    for (index, input) in inputs.chunks_exact(len).enumerate() {
        let ours = host.infer(input)?.output;
        let theirs = device.infer(input)?;
        counts.extend(theirs.instructions);
        ticks.extend(theirs.ticks);
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
    ticks.sort_unstable();
    if let (Some(&min), Some(&max), Some(clock)) =
        (ticks.first(), ticks.last(), report.memory.clock)
    {
        let median = ticks[(ticks.len() - 1) / 2];
        let microseconds = u128::from(median) * 1_000_000 / u128::from(clock.hz.max(1));
        report.time = Some(Time {
            clock,
            min,
            median,
            max,
            median_microseconds: u64::try_from(microseconds).unwrap_or(u64::MAX),
        });
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Inference, LoadedModel};
    use crate::export::image::write_image;
    use crate::model::*;

    /// Input of 4, a table, and a fully connected layer of 2 outputs.
    fn model(bias: i32, table_entry: i8) -> QuantizedModel {
        let tensor = |name: &str, n| Tensor {
            name: name.into(),
            shape: [1, 1, n],
            scale: 1.0,
            zero_point: 0,
        };
        let mut table = Box::new(std::array::from_fn(|i| (i as i32 - 128) as i8));
        table[128 + 5] = table_entry;
        let linear = Linear {
            weights: vec![1, 0, 0, 0, 0, 1, 1, 1],
            bits: 8,
            bias: vec![0, bias],
            multipliers: vec![
                Multiplier {
                    mantissa: 1 << 30,
                    exponent: 1
                };
                2
            ],
            act_min: -128,
            act_max: 127,
        };
        QuantizedModel {
            name: "two steps".into(),
            rounding: Rounding::Tflm,
            tensors: vec![tensor("in", 4), tensor("mid", 4), tensor("out", 2)],
            nodes: vec![
                Node {
                    name: "squash".into(),
                    op: Op::Lut { table },
                    inputs: vec![TensorId(0)],
                    output: TensorId(1),
                },
                Node {
                    name: "classify".into(),
                    op: Op::FullyConnected(FullyConnected { linear }),
                    inputs: vec![TensorId(1)],
                    output: TensorId(2),
                },
            ],
            input: TensorId(0),
            output: TensorId(2),
            preprocess: Preprocess::default(),
            labels: Vec::new(),
        }
    }

    /// A device that runs another image than the one it is given.
    struct Faulty {
        device: HostDevice,
        image: Vec<u8>,
    }

    impl Device for Faulty {
        fn identity(&self) -> &DeviceIdentity {
            self.device.identity()
        }
        fn load(&mut self, _: &[u8]) -> Result<LoadedModel, DeviceError> {
            self.device.load(&self.image)
        }
        fn infer(&mut self, input: &[i8]) -> Result<Inference, DeviceError> {
            Ok(Inference {
                instructions: Some(10 + input[3] as u64),
                ..self.device.infer(input)?
            })
        }
        fn operator_digests(&mut self, input: &[i8]) -> Result<Vec<u32>, DeviceError> {
            self.device.operator_digests(input)
        }
        fn operator_output(
            &mut self,
            input: &[i8],
            operator: usize,
        ) -> Result<Vec<i8>, DeviceError> {
            self.device.operator_output(input, operator)
        }
        fn stats(&mut self) -> Result<DeviceStats, DeviceError> {
            self.device.stats()
        }
    }

    const INPUTS: [i8; 12] = [0, 1, 2, 3, 0, 5, 5, 0, 5, 0, 0, 9];

    fn report(faulty: QuantizedModel) -> VerifyReport {
        let model = model(0, 5);
        let image = write_image(&model).expect("a sound model");
        let mut device = Faulty {
            device: HostDevice::new(),
            image: write_image(&faulty).expect("a sound model"),
        };
        let mut done = 0;
        let report = verify(&model, &image, &INPUTS, &mut device, |n| done = n).expect("it runs");
        assert_eq!((report.inputs, done), (3, 3));
        report
    }

    #[test]
    fn a_device_with_the_same_bits_is_identical() {
        let report = report(model(0, 5));
        assert!(report.identical() && report.first_difference.is_none());
        assert_eq!(
            report.instructions,
            Some(Instructions {
                min: 10,
                median: 13,
                max: 19
            })
        );
    }

    #[test]
    fn a_wrong_bias_is_traced_to_its_operator_and_element() {
        let report = report(model(1, 5));
        assert_eq!((report.differing_inputs, report.differing), (3, 3));
        let expected = Difference {
            input: 0,
            operator: Some(1),
            name: "classify".into(),
            kind: "FullyConnected".into(),
            element: 1,
            host: 6,
            device: 7,
        };
        assert_eq!(report.first_difference, Some(expected));
    }

    #[test]
    fn a_wrong_table_entry_is_traced_past_the_inputs_that_do_not_use_it() {
        let report = report(model(0, 6));
        // The second input has it twice in one output, the third once in each.
        assert_eq!((report.differing_inputs, report.differing), (2, 2));
        let first = report.first_difference.expect("a difference");
        assert_eq!(
            (first.input, first.operator, first.element),
            (1, Some(0), 1)
        );
        assert_eq!(
            (first.host, first.device, first.name.as_str()),
            (5, 6, "squash")
        );
    }

    #[test]
    fn inputs_that_are_no_whole_samples_are_refused() {
        let model = model(0, 5);
        let image = write_image(&model).expect("a sound model");
        let error = verify(&model, &image, &INPUTS[..5], &mut HostDevice::new(), |_| ())
            .expect_err("five elements");
        assert!(matches!(
            error,
            DeviceError::InputLength {
                given: 5,
                expected: 4
            }
        ));
    }
}
