//! Requests and answers over a byte stream: framing, sequence numbers, repetition, the time limit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use qmend_shared::link::frame::FrameReader;
use qmend_shared::link::{Packet, Refusal, Request, Response, frame_overhead, write_frame};

use super::DeviceError;
use super::link::Transport;

/// Largest frame that a device may send: u16 data bytes and the fields around them.
const FRAME: usize = 1 << 17;
/// How often a request is sent after damaged messages.
const ATTEMPTS: usize = 4;
/// How long nothing is heard before a request that takes a device no time is sent again, at most
/// and as a part of the time limit; twice as long each further time.
const PATIENCE: (Duration, u32) = (Duration::from_secs(2), 30);
/// The same for what takes a device its time: inferences, checks of whole images.
const LONG_PATIENCE: (Duration, u32) = (Duration::from_secs(20), 8);

/// Framing, sequence numbers and the time limit.
pub(super) struct Conversation {
    reader: Box<FrameReader<FRAME>>,
    received: VecDeque<u8>,
    sequence: u8,
    limit: Duration,
}

impl Conversation {
    /// One in which an answer may take as long as `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            reader: Box::default(),
            received: VecDeque::new(),
            // Not 0, which the device uses where it could not read ours.
            sequence: 1,
            limit,
        }
    }

    /// Sends a request and waits for its answer, which `accept` turns into a result; `None` from it
    /// means that the answer fits no such request.
    pub(super) fn ask<R>(
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
                            let answer = format!("{answer:?}").chars().take(200).collect();
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
