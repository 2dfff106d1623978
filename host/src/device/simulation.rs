//! The shared engine on this machine, over the same image bytes that a device would run.

use qmend_shared::engine;
use qmend_shared::image::Model;
use qmend_shared::link::frame::crc32;

use super::{
    Device, DeviceError, DeviceIdentity, DeviceStats, Inference, LoadedModel, SelfTestFailure,
    SelfTestRun, to_bytes, to_elements,
};

/// This machine as a device.
#[derive(Debug)]
pub struct HostDevice {
    identity: DeviceIdentity,
    image: Vec<u8>,
    loaded: Option<LoadedModel>,
    arena: Vec<i8>,
}

impl HostDevice {
    /// A device without an image.
    pub fn new() -> Self {
        let identity = DeviceIdentity {
            name: "host".into(),
            core: std::env::consts::ARCH.into(),
            firmware: env!("CARGO_PKG_VERSION").into(),
            slot_bytes: u32::MAX as u64,
            memory_bytes: u32::MAX as u64,
            code_bytes: 0,
        };
        Self {
            identity,
            image: Vec::new(),
            loaded: None,
            arena: Vec::new(),
        }
    }

    fn run(
        &mut self,
        input: &[i8],
        mut observe: impl FnMut(usize, &[i8]),
    ) -> Result<Vec<i8>, DeviceError> {
        let loaded = self.loaded.ok_or(DeviceError::NoImage)?;
        if input.len() != loaded.input_len {
            return Err(DeviceError::InputLength {
                given: input.len(),
                expected: loaded.input_len,
            });
        }
        let model = Model::from_bytes(&self.image).map_err(|e| DeviceError::BadImage {
            reason: e.to_string(),
        })?;
        let mut output = vec![0; loaded.output_len];
        engine::run_with(
            &model,
            &mut self.arena,
            input,
            &mut output,
            |operator, _, tensor| observe(operator, tensor),
        )
        .map_err(|e| DeviceError::Run {
            reason: e.to_string(),
        })?;
        Ok(output)
    }
}

impl Default for HostDevice {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for HostDevice {
    fn identity(&self) -> &DeviceIdentity {
        &self.identity
    }

    fn load(&mut self, image: &[u8]) -> Result<LoadedModel, DeviceError> {
        self.loaded = None;
        let (image, _) = qmend_shared::signature::split(image);
        let model = Model::from_bytes(image).map_err(|e| DeviceError::BadImage {
            reason: e.to_string(),
        })?;
        let manifest = model.manifest();
        let loaded = LoadedModel {
            input_len: model.tensor(manifest.input).elements() as usize,
            output_len: model.tensor(manifest.output).elements() as usize,
            operators: model.ops().count(),
            arena_bytes: manifest.arena_bytes as usize,
        };
        self.arena = vec![0; loaded.arena_bytes];
        self.image = image.to_vec();
        self.loaded = Some(loaded);
        Ok(loaded)
    }

    fn infer(&mut self, input: &[i8]) -> Result<Inference, DeviceError> {
        let output = self.run(input, |_, _| ())?;
        Ok(Inference {
            output,
            instructions: None,
            ticks: None,
        })
    }

    fn operator_digests(&mut self, input: &[i8]) -> Result<Vec<u32>, DeviceError> {
        let mut digests = Vec::new();
        self.run(input, |_, tensor| digests.push(crc32(&to_bytes(tensor))))?;
        Ok(digests)
    }

    fn operator_output(&mut self, input: &[i8], operator: usize) -> Result<Vec<i8>, DeviceError> {
        let mut output = None;
        self.run(input, |index, tensor| {
            if index == operator {
                output = Some(tensor.to_vec());
            }
        })?;
        let operators = self.loaded.map_or(0, |l| l.operators);
        output.ok_or(DeviceError::NoSuchOperator {
            operator,
            operators,
        })
    }

    fn self_test_vector(&mut self, vector: usize) -> Result<SelfTestRun, DeviceError> {
        self.loaded.ok_or(DeviceError::NoImage)?;
        let model = Model::from_bytes(&self.image).map_err(|e| DeviceError::BadImage {
            reason: e.to_string(),
        })?;
        let Some(tests) = model.self_tests() else {
            let (count, failure) = (0, None);
            return Ok(SelfTestRun { count, failure });
        };
        let count = tests.count();
        let Some((input, output)) = tests.vector(vector) else {
            return Err(DeviceError::Run {
                reason: format!("there is no self-test {vector}: the image has {count}"),
            });
        };
        let (input, output): (Vec<i8>, Vec<i8>) =
            (to_elements(input).collect(), to_elements(output).collect());
        let got = self.run(&input, |_, _| ())?;
        let element = output.iter().zip(&got).position(|(a, b)| a != b);
        let failure = element.map(|element| SelfTestFailure {
            vector,
            element,
            expected: output[element],
            got: got[element],
        });
        Ok(SelfTestRun { count, failure })
    }

    fn stats(&mut self) -> Result<DeviceStats, DeviceError> {
        let loaded = self.loaded.ok_or(DeviceError::NoImage)?;
        Ok(DeviceStats {
            arena_bytes: loaded.arena_bytes as u64,
            tensor_bytes: (loaded.arena_bytes + loaded.input_len + loaded.output_len) as u64,
            stack_high_water: None,
            clock: None,
        })
    }
}
