//! Running the model that is open on a device behind a byte stream, and reading what came of it.

use qmend_shared::link::frame::crc32;
use qmend_shared::link::{Digests, Request, Response};

use super::link::{LinkDevice, Transport};
use super::{DeviceError, Inference, LoadedModel, to_bytes, to_elements};

/// How often an inference is repeated that a late message has undone.
const REPETITIONS: usize = 4;

impl<T: Transport> LinkDevice<T> {
    /// Tries again what a message that came late has undone: it can make the device close the model
    /// that was open, or run on another input.
    pub(super) fn persist<R>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<R, DeviceError>,
    ) -> Result<R, DeviceError> {
        for _ in 0..REPETITIONS {
            let opened = self.opened;
            match attempt(self) {
                Err(DeviceError::OtherInput) => {}
                Err(DeviceError::NoImage) if opened.is_some() => {
                    let (_, _, device) = self.open()?;
                    if let Some(host) = opened.filter(|&host| host != device) {
                        return Err(DeviceError::ImageDiffers { device, host });
                    }
                }
                result => return result,
            }
        }
        attempt(self)
    }

    pub(super) fn digests_once(&mut self, input: &[i8]) -> Result<Vec<u32>, DeviceError> {
        let (loaded, written) = self.write_input(input)?;
        let mut digests = Vec::with_capacity(loaded.operators);
        while digests.len() < loaded.operators {
            let first = digests.len();
            let expected = (loaded.operators - first).min(Digests::MAX);
            let more = self.ask(
                "digest",
                Request::Digest {
                    first: first as u16,
                },
                |answer| match answer {
                    Response::Digests(d) if d.of != written => Some(Err(DeviceError::OtherInput)),
                    Response::Digests(d)
                        if d.first as usize == first && d.crcs.len() == 4 * expected =>
                    {
                        let crcs = d
                            .crcs
                            .chunks_exact(4)
                            .map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
                        Some(Ok(crcs.collect::<Vec<_>>()))
                    }
                    _ => None,
                },
            )?;
            digests.extend(more);
        }
        Ok(digests)
    }

    pub(super) fn operator_once(
        &mut self,
        input: &[i8],
        operator: usize,
    ) -> Result<Vec<i8>, DeviceError> {
        let (loaded, written) = self.write_input(input)?;
        if operator >= loaded.operators {
            return Err(DeviceError::NoSuchOperator {
                operator,
                operators: loaded.operators,
            });
        }
        let (run, len) = self.ask(
            "keep",
            Request::Keep {
                operator: operator as u16,
            },
            |answer| match answer {
                Response::Kept {
                    run,
                    input_crc,
                    operator: kept,
                    len,
                } => Some(if (input_crc, kept as usize) == (written, operator) {
                    Ok((run, len as usize))
                } else {
                    Err(DeviceError::OtherInput)
                }),
                _ => None,
            },
        )?;
        self.read("read kept", run, 0, len, |offset, len| Request::ReadKept {
            offset,
            len,
        })
    }

    /// One attempt to run the model that is open.
    pub(super) fn infer_once(&mut self, input: &[i8]) -> Result<Inference, DeviceError> {
        let (loaded, written) = self.write_input(input)?;
        let (run, ticks, mut output) = self.ask("run", Request::Run, |answer| match answer {
            Response::Ran {
                run,
                input_crc,
                ticks,
                output,
            } if output.len() <= loaded.output_len => Some(if input_crc == written {
                Ok((run, ticks, to_elements(output).collect::<Vec<_>>()))
            } else {
                Err(DeviceError::OtherInput)
            }),
            _ => None,
        })?;
        let rest = loaded.output_len - output.len();
        let tail = self.read("read output", run, output.len(), rest, |offset, len| {
            Request::ReadOutput { offset, len }
        })?;
        output.extend(tail);
        Ok(Inference {
            output,
            instructions: self.instructions(ticks),
            ticks: self.timed.then_some(ticks),
        })
    }

    pub(super) fn instructions(&self, ticks: u64) -> Option<u64> {
        let count = u128::from(ticks) * u128::from(self.instructions_per_second?);
        u64::try_from(count / u128::from(self.ticks_per_second.max(1))).ok()
    }

    /// Writes an input; returns its CRC, which the answers of what runs on it name.
    pub(super) fn write_input(&mut self, input: &[i8]) -> Result<(LoadedModel, u32), DeviceError> {
        let loaded = self.loaded.ok_or(DeviceError::NoImage)?;
        if input.len() != loaded.input_len {
            return Err(DeviceError::InputLength {
                given: input.len(),
                expected: loaded.input_len,
            });
        }
        let bytes = to_bytes(input);
        for (i, data) in bytes.chunks(self.chunk).enumerate() {
            let offset = (i * self.chunk) as u32;
            self.done("write input", Request::WriteInput { offset, data })?;
        }
        Ok((loaded, crc32(&bytes)))
    }

    /// Reads a tensor of a run from its element `from` on.
    pub(super) fn read(
        &mut self,
        name: &'static str,
        of: u32,
        from: usize,
        len: usize,
        request: impl Fn(u32, u16) -> Request<'static>,
    ) -> Result<Vec<i8>, DeviceError> {
        let mut elements = Vec::with_capacity(len);
        while elements.len() < len {
            let part = (len - elements.len()).min(self.chunk);
            let offset = (from + elements.len()) as u32;
            let data = self.ask(name, request(offset, part as u16), |answer| match answer {
                Response::Data { run, .. } if run != of => Some(Err(DeviceError::OtherInput)),
                Response::Data { data, .. } if data.len() == part => Some(Ok(data.to_vec())),
                _ => None,
            })?;
            elements.extend(to_elements(&data));
        }
        Ok(elements)
    }
}
