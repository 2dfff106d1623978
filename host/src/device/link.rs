//! A device behind a byte stream.

use std::time::{Duration, Instant};

use qmend_shared::link::frame::{FrameReader, crc32};
use qmend_shared::link::{
    Description, Digests, ModelInfo, PROTOCOL, Packet, Refusal, Request, Response, SlotStatus,
    frame_overhead, write_frame,
};

use super::{
    Clock, Device, DeviceError, DeviceIdentity, DeviceStats, Inference, LoadedModel, SelfTestRun,
    to_bytes, to_elements,
};

/// Largest frame that a device may send: u16 data bytes and the fields around them.
const FRAME: usize = 1 << 17;
/// How often a request is sent after damaged messages.
const ATTEMPTS: usize = 4;
/// How long nothing is heard before a request that takes a device no time is sent again, at most
/// and as a part of the time limit; twice as long each further time.
const PATIENCE: (Duration, u32) = (Duration::from_secs(2), 30);
/// The same for what takes a device its time: inferences, checks of whole images.
const LONG_PATIENCE: (Duration, u32) = (Duration::from_secs(20), 8);

/// Bytes to and from a device.
pub trait Transport {
    /// Sends all bytes.
    ///
    /// # Errors
    /// [`DeviceError::Gone`].
    fn send(&mut self, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Some bytes, at least one; `None` if there are none until `deadline`.
    ///
    /// # Errors
    /// [`DeviceError::Gone`].
    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, DeviceError>;
}

/// A device that speaks the messages of [`qmend_shared::link`].
pub struct LinkDevice<T> {
    transport: T,
    identity: DeviceIdentity,
    chunk: usize,
    loaded: Option<LoadedModel>,
    /// CRC of the image that is open.
    opened: Option<u32>,
    conversation: Conversation,
    ticks_per_second: u64,
    instructions_per_second: Option<u64>,
    /// Whether its clock is the device's own.
    timed: bool,
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn send(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        (**self).send(bytes)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, DeviceError> {
        (**self).receive(deadline)
    }
}

/// How often an inference is repeated that a late message has undone.
const REPETITIONS: usize = 4;

/// Framing, sequence numbers and the time limit.
struct Conversation {
    reader: Box<FrameReader<FRAME>>,
    received: std::collections::VecDeque<u8>,
    sequence: u8,
    limit: Duration,
}

impl<T: Transport> LinkDevice<T> {
    /// Greets the device. `limit` bounds the wait for each answer, one whole inference included.
    /// `instructions_per_second` is given where the device's clock counts instructions.
    ///
    /// # Errors
    /// Where nothing that speaks our protocol answers.
    pub fn connect(
        mut transport: T,
        limit: Duration,
        instructions_per_second: Option<u64>,
    ) -> Result<Self, DeviceError> {
        let mut conversation = Conversation {
            reader: Box::default(),
            received: Default::default(),
            // Not 0, which the device uses where it could not read ours.
            sequence: 1,
            limit,
        };
        // Ends whatever half a frame the device may hold.
        transport.send(&[0])?;
        let (identity, chunk, ticks_per_second) = conversation.ask(
            &mut transport,
            "identify",
            Request::Identify,
            |answer| match answer {
                Response::Identity(i) if i.protocol != PROTOCOL => {
                    Some(Err(DeviceError::ProtocolVersion {
                        device: i.protocol,
                        host: PROTOCOL,
                    }))
                }
                Response::Identity(i) => Some(Ok((
                    DeviceIdentity {
                        name: i.board.into(),
                        core: i.core.into(),
                        firmware: i.firmware.into(),
                        slot_bytes: i.slot_bytes as u64,
                        memory_bytes: i.pool_bytes as u64,
                        code_bytes: i.code_bytes as u64,
                    },
                    i.chunk as usize,
                    i.ticks_per_second as u64,
                ))),
                _ => None,
            },
        )?;
        if chunk == 0 {
            return Err(DeviceError::UnexpectedAnswer {
                request: "identify",
                answer: "chunks of 0 bytes".into(),
            });
        }
        Ok(Self {
            transport,
            identity,
            chunk,
            loaded: None,
            opened: None,
            conversation,
            ticks_per_second,
            instructions_per_second,
            timed: instructions_per_second.is_none(),
        })
    }

    /// The same device, whose clock says nothing: that of an emulator is its host's.
    pub fn untimed(mut self) -> Self {
        self.timed = false;
        self
    }

    /// Most data bytes in one message.
    pub(super) fn chunk(&self) -> usize {
        self.chunk
    }

    /// The model that was open is no more.
    pub(super) fn close(&mut self) {
        self.loaded = None;
    }

    /// What flash and which images the device is made for.
    ///
    /// # Errors
    /// Where the device does not answer.
    pub fn description(&mut self) -> Result<Description, DeviceError> {
        self.ask("describe", Request::Describe, |answer| match answer {
            Response::Description(d) => Some(Ok(d)),
            _ => None,
        })
    }

    /// Which images are on the device.
    ///
    /// # Errors
    /// Where the device does not answer.
    pub fn slots(&mut self) -> Result<SlotStatus, DeviceError> {
        self.ask_slots("slots", Request::Slots)
    }

    pub(super) fn ask_slots(
        &mut self,
        name: &'static str,
        request: Request<'_>,
    ) -> Result<SlotStatus, DeviceError> {
        self.ask(name, request, |answer| match answer {
            Response::Slots(status) => Some(Ok(status)),
            _ => None,
        })
    }

    /// Checks the image that counts on the device and gets ready to run it.
    ///
    /// # Errors
    /// Where there is none, or it does not fit.
    pub fn open(&mut self) -> Result<(LoadedModel, u32, u32), DeviceError> {
        self.loaded = None;
        let info = self.ask("open image", Request::OpenImage, |answer| match answer {
            Response::Model(info) => Some(Ok(info)),
            _ => None,
        })?;
        let loaded = *self.loaded.insert(loaded(info));
        self.opened = Some(info.image_crc);
        Ok((loaded, info.image_bytes, info.image_crc))
    }

    /// One attempt to run the model that is open.
    fn infer_once(&mut self, input: &[i8]) -> Result<Inference, DeviceError> {
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

    /// The transport, to end it or to look at it.
    pub fn transport_mut(&mut self) -> &mut T {
        &mut self.transport
    }

    pub(super) fn ask<R>(
        &mut self,
        name: &'static str,
        request: Request<'_>,
        accept: impl FnMut(Response<'_>) -> Option<Result<R, DeviceError>>,
    ) -> Result<R, DeviceError> {
        self.conversation
            .ask(&mut self.transport, name, request, accept)
    }

    pub(super) fn done(
        &mut self,
        name: &'static str,
        request: Request<'_>,
    ) -> Result<(), DeviceError> {
        self.ask(name, request, |answer| {
            matches!(answer, Response::Done).then_some(Ok(()))
        })
    }

    fn instructions(&self, ticks: u64) -> Option<u64> {
        let count = u128::from(ticks) * u128::from(self.instructions_per_second?);
        u64::try_from(count / u128::from(self.ticks_per_second.max(1))).ok()
    }

    /// Writes an input; returns its CRC, which the answers of what runs on it name.
    fn write_input(&mut self, input: &[i8]) -> Result<(LoadedModel, u32), DeviceError> {
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
    fn read(
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

impl Conversation {
    /// Sends a request and waits for its answer, which `accept` turns into a result; `None` from it
    /// means that the answer fits no such request.
    fn ask<R>(
        &mut self,
        transport: &mut impl Transport,
        name: &'static str,
        request: Request<'_>,
        mut accept: impl FnMut(Response<'_>) -> Option<Result<R, DeviceError>>,
    ) -> Result<R, DeviceError> {
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        let frame = encode(Packet {
            sequence: self.sequence,
            body: request,
        });
        let end = Instant::now() + self.limit;
        let (most, part) = match request {
            Request::Run
            | Request::Digest { .. }
            | Request::Keep { .. }
            | Request::OpenImage
            | Request::Commit { .. }
            | Request::RollBack { .. }
            | Request::Authorize { .. }
            | Request::SelfTest { .. }
            | Request::Slots => LONG_PATIENCE,
            _ => PATIENCE,
        };
        let mut patience = most.min(self.limit / part);
        let mut damaged = 0;
        // All requests may be repeated, and the answer to either sending will do.
        loop {
            transport.send(&frame)?;
            let until = end.min(Instant::now() + patience);
            match self.answer(transport, name, until, &mut accept)? {
                Heard::Answer(result) => return Ok(result),
                Heard::Damage => damaged += 1,
                Heard::Nothing if Instant::now() >= end => {
                    return Err(DeviceError::Timeout {
                        request: name,
                        seconds: self.limit.as_secs(),
                    });
                }
                Heard::Nothing => {
                    patience *= 2;
                    // Ends whatever half a frame the device may hold.
                    transport.send(&[0])?;
                }
            }
            if damaged == ATTEMPTS {
                return Err(DeviceError::UnexpectedAnswer {
                    request: name,
                    answer: "only damaged messages".into(),
                });
            }
        }
    }

    fn answer<R>(
        &mut self,
        transport: &mut impl Transport,
        name: &'static str,
        deadline: Instant,
        accept: &mut impl FnMut(Response<'_>) -> Option<Result<R, DeviceError>>,
    ) -> Result<Heard<R>, DeviceError> {
        loop {
            let Some(byte) = self.received.pop_front() else {
                match transport.receive(deadline)? {
                    Some(bytes) => self.received.extend(bytes),
                    None => return Ok(Heard::Nothing),
                }
                continue;
            };
            let message = match self.reader.push(byte) {
                None => continue,
                Some(Err(_)) => return Ok(Heard::Damage),
                Some(Ok(message)) => message,
            };
            let Ok((Packet { sequence, body }, [])) =
                postcard::take_from_bytes::<Packet<Response<'_>>>(message)
            else {
                return Ok(Heard::Damage);
            };
            match body {
                Response::Panicked {
                    file,
                    line,
                    message,
                    trace,
                } => {
                    let (file, message) = (file.into(), message.into());
                    let words = trace.as_chunks::<4>().0.iter();
                    return Err(DeviceError::Panicked {
                        file,
                        line,
                        message,
                        trace: words.map(|w| u32::from_le_bytes(*w)).collect(),
                    });
                }
                Response::Refused(Refusal::BadMessage) => return Ok(Heard::Damage),
                _ if sequence != self.sequence => continue,
                Response::Refused(refusal) => return Err(refused(name, refusal)),
                answer => {
                    return match accept(answer) {
                        Some(result) => result.map(Heard::Answer),
                        None => {
                            let mut answer = format!("{answer:?}");
                            answer.truncate(200);
                            Err(DeviceError::UnexpectedAnswer {
                                request: name,
                                answer,
                            })
                        }
                    };
                }
            }
        }
    }
}

/// What came back.
enum Heard<R> {
    Answer(R),
    /// The request has to be sent again.
    Damage,
    Nothing,
}

fn encode(packet: Packet<Request<'_>>) -> Vec<u8> {
    let data = match packet.body {
        Request::WriteImage { data, .. }
        | Request::WriteInput { data, .. }
        | Request::WritePatch { data, .. } => data.len(),
        Request::Authorize { block } => block.len(),
        _ => 0,
    };
    let mut scratch = vec![0; data + 64];
    let mut frame = Vec::with_capacity(data + 64 + frame_overhead(data + 64));
    let sent = write_frame(&packet, &mut scratch, |bytes| {
        frame.extend_from_slice(bytes);
        Ok::<(), std::convert::Infallible>(())
    });
    sent.expect("64 bytes hold every field but the data")
        .unwrap_or_else(|never| match never {});
    frame
}

fn refused(request: &'static str, refusal: Refusal) -> DeviceError {
    match refusal {
        Refusal::ImageTooLong { needed, capacity } => DeviceError::TooLarge {
            what: "image slot",
            needed: needed as u64,
            capacity: capacity as u64,
        },
        Refusal::PoolTooSmall { needed, capacity } => DeviceError::TooLarge {
            what: "memory for tensors",
            needed: needed as u64,
            capacity: capacity as u64,
        },
        Refusal::BadImage(error) => DeviceError::BadImage {
            reason: error.to_string(),
        },
        Refusal::NoImage => DeviceError::NoImage,
        Refusal::PatchTooLong { needed, capacity } => DeviceError::TooLarge {
            what: "memory that a patch is kept in",
            needed: needed as u64,
            capacity: capacity as u64,
        },
        Refusal::Slot(error) => DeviceError::Refused {
            request,
            reason: error.to_string(),
        },
        Refusal::RunFailed(error) => DeviceError::Refused {
            request,
            reason: error.to_string(),
        },
        // A message that came late has written over the start of the input.
        Refusal::InputIncomplete { .. } => DeviceError::OtherInput,
        Refusal::Order { .. } | Refusal::NothingBegun => DeviceError::OutOfOrder { request },
        Refusal::Unsupported => DeviceError::Unsupported { request },
        Refusal::Unsigned => DeviceError::Unsigned,
        Refusal::BadSignature => DeviceError::BadSignature,
        Refusal::OldVersion { version, lowest } => DeviceError::OldVersion { version, lowest },
        Refusal::OtherThanSigned => DeviceError::OtherThanSigned,
        other => DeviceError::Refused {
            request,
            reason: format!("{other:?}"),
        },
    }
}

fn loaded(info: ModelInfo) -> LoadedModel {
    LoadedModel {
        input_len: info.input_len as usize,
        output_len: info.output_len as usize,
        operators: info.operators as usize,
        arena_bytes: info.arena_bytes as usize,
    }
}

impl<T: Transport> Device for LinkDevice<T> {
    fn identity(&self) -> &DeviceIdentity {
        &self.identity
    }

    fn load(&mut self, image: &[u8]) -> Result<LoadedModel, DeviceError> {
        self.loaded = None;
        self.flash(image, &mut |_, _| ())?;
        let (loaded, len, device) = self.open()?;
        let (image, _) = qmend_shared::signature::split(image);
        let host = crc32(image);
        if device != host || len as usize != image.len() {
            self.loaded = None;
            return Err(DeviceError::ImageDiffers { device, host });
        }
        Ok(loaded)
    }

    fn infer(&mut self, input: &[i8]) -> Result<Inference, DeviceError> {
        self.persist(|device| device.infer_once(input))
    }

    fn operator_digests(&mut self, input: &[i8]) -> Result<Vec<u32>, DeviceError> {
        self.persist(|device| device.digests_once(input))
    }

    fn operator_output(&mut self, input: &[i8], operator: usize) -> Result<Vec<i8>, DeviceError> {
        self.persist(|device| device.operator_once(input, operator))
    }

    fn self_test_vector(&mut self, vector: usize) -> Result<SelfTestRun, DeviceError> {
        self.loaded.ok_or(DeviceError::NoImage)?;
        self.persist(|device| device.self_test_once(vector))
    }

    fn stats(&mut self) -> Result<DeviceStats, DeviceError> {
        let (timed, hz) = (self.timed, self.ticks_per_second);
        self.ask("stats", Request::Stats, |answer| match answer {
            Response::Stats(s) => Some(Ok(DeviceStats {
                arena_bytes: s.arena_bytes as u64,
                tensor_bytes: s.pool_used as u64,
                stack_high_water: (s.stack_watched > 0).then_some(s.stack_high_water as u64),
                clock: timed.then_some(Clock {
                    hz,
                    cycles: s.cycles,
                }),
            })),
            _ => None,
        })
    }
}

impl<T: Transport> LinkDevice<T> {
    /// Tries again what a message that came late has undone: it can make the device close the model
    /// that was open, or run on another input.
    fn persist<R>(
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

    fn digests_once(&mut self, input: &[i8]) -> Result<Vec<u32>, DeviceError> {
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

    fn operator_once(&mut self, input: &[i8], operator: usize) -> Result<Vec<i8>, DeviceError> {
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
}
