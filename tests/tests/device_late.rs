//! Messages that come late: one that was sent for an earlier run must not pass for one of this run.

use std::time::{Duration, Instant};

use qmend::device::{Device, DeviceError, HostDevice, LinkDevice, Transport};
use qmend::export::image::write_image;
use qmend_shared::link::{FrameReader, Packet, Request};
use qmend_tests::in_process::{Pipe, quiet, start_raw};
use qmend_tests::random_model::{random_inputs, random_network};

/// What comes late, and before which message.
#[derive(Clone, Copy, PartialEq)]
enum Late {
    Nothing,
    /// An input of before, just before the run.
    InputBeforeRun,
    /// An input and a run of before, between a run and the reading of its tensor.
    RunBeforeReading,
}

/// Sends messages of before once more, `times` times.
struct Line {
    pipe: Pipe,
    late: Late,
    times: u32,
    inputs: Vec<Vec<u8>>,
    runs: Vec<Vec<u8>>,
}

impl Transport for Line {
    fn send(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        let mut reader = Box::new(FrameReader::<16384>::new());
        let mut again = Vec::<Vec<u8>>::new();
        for &byte in bytes {
            let Some(Ok(message)) = reader.push(byte) else {
                continue;
            };
            let (packet, _): (Packet<Request<'_>>, _) = postcard::take_from_bytes(message).unwrap();
            match (self.late, packet.body) {
                (Late::Nothing, Request::WriteInput { .. }) => self.inputs.push(bytes.into()),
                (Late::Nothing, Request::Keep { .. }) => self.runs.push(bytes.into()),
                (Late::InputBeforeRun, Request::Run | Request::Keep { .. })
                | (Late::InputBeforeRun, Request::Digest { .. }) => {
                    again.extend(self.inputs.iter().cloned());
                }
                (Late::RunBeforeReading, Request::ReadKept { .. }) => {
                    again.extend(self.inputs.iter().chain(&self.runs).cloned());
                }
                _ => {}
            }
        }
        if !again.is_empty() && self.times > 0 {
            self.times -= 1;
            for late in again {
                self.pipe.send(&late)?;
            }
        }
        self.pipe.send(bytes)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, DeviceError> {
        self.pipe.receive(deadline)
    }
}

#[test]
fn a_late_message_of_another_run_changes_no_result() {
    let mut host = HostDevice::new();
    // The first network whose outputs tell the inputs apart: with another nothing would be seen here.
    let found = (0..100).find_map(|seed| {
        let model = random_network(8, 8, seed);
        let image = write_image(&model).unwrap();
        host.load(&image).unwrap();
        let inputs = random_inputs(&model, 2, 7);
        let (old, new) = inputs.split_at(inputs.len() / 2);
        let outputs = [old, new].map(|x| host.infer(x).unwrap().output);
        (outputs[0] != outputs[1]).then_some((image, inputs))
    });
    let (image, inputs) = found.expect("a network that looks at its input");
    let (old, new) = inputs.split_at(inputs.len() / 2);
    let last = host.operator_digests(new).unwrap().len() - 1;
    let expected = host.infer(new).unwrap().output;

    let line = Line {
        pipe: start_raw(1 << 16, 1 << 16, quiet()),
        late: Late::Nothing,
        times: 0,
        inputs: Vec::new(),
        runs: Vec::new(),
    };
    let mut device = LinkDevice::connect(line, Duration::from_secs(20), None).unwrap();
    device.load(&image).unwrap();
    assert_eq!(
        device.operator_output(old, last).unwrap(),
        host.operator_output(old, last).unwrap()
    );
    let seen = device.transport_mut();
    assert!(!seen.inputs.is_empty() && seen.runs.len() == 1);

    let set = |device: &mut LinkDevice<Line>, late, times| {
        let line = device.transport_mut();
        (line.late, line.times) = (late, times);
    };
    for times in 1..=3 {
        set(&mut device, Late::InputBeforeRun, times);
        assert_eq!(device.infer(new).unwrap().output, expected);
        assert_eq!(device.transport_mut().times, 0, "nothing came late");
        set(&mut device, Late::InputBeforeRun, times);
        let digests = host.operator_digests(new).unwrap();
        assert_eq!(device.operator_digests(new).unwrap(), digests);
        assert_eq!(device.transport_mut().times, 0, "nothing came late");
        for late in [Late::InputBeforeRun, Late::RunBeforeReading] {
            set(&mut device, late, times);
            assert_eq!(device.operator_output(new, last).unwrap(), expected);
            assert_eq!(device.transport_mut().times, 0, "nothing came late");
        }
    }

    // Always: no result rather than a wrong one.
    for late in [Late::InputBeforeRun, Late::RunBeforeReading] {
        set(&mut device, late, u32::MAX);
        let error = device.operator_output(new, last).unwrap_err();
        assert!(matches!(error, DeviceError::OtherInput), "{error}");
    }
}
