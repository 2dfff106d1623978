//! A device behind a byte stream.

use std::time::{Duration, Instant};

use qmend_shared::link::frame::crc32;
use qmend_shared::link::{Description, ModelInfo, PROTOCOL, Request, Response, SlotStatus};

use super::conversation::Conversation;
use super::{
    Clock, Device, DeviceError, DeviceIdentity, DeviceStats, Inference, LoadedModel, SelfTestRun,
};

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
    pub(super) chunk: usize,
    pub(super) loaded: Option<LoadedModel>,
    /// CRC of the image that is open.
    pub(super) opened: Option<u32>,
    conversation: Conversation,
    pub(super) ticks_per_second: u64,
    pub(super) instructions_per_second: Option<u64>,
    /// Whether its clock is the device's own.
    pub(super) timed: bool,
}

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn send(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        (**self).send(bytes)
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, DeviceError> {
        (**self).receive(deadline)
    }
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
        let mut conversation = Conversation::new(limit);
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
                    cycles: s.clock.counts_cycles(),
                    counter: s.clock.name(),
                }),
            })),
            _ => None,
        })
    }
}
