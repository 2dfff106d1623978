//! Answers the host's requests and runs the model in the slot, in place.
//!
//! Two states: *closed*, in which the slot may be written, and *open*, in which the image has been
//! checked and is only read. [`Request::OpenImage`] goes from the first to the second,
//! [`Request::BeginImage`] back.
//!
//! Memory is one pool, split when an image is opened: arena (its size is the image's plan), input,
//! output, and the rest for a kept tensor. Nothing else grows with the model.

use core::convert::Infallible;
use core::fmt::Write;

use heapless::{String, Vec};
use qmend_shared::engine;
use qmend_shared::image::Model;
use qmend_shared::link::frame::crc32;
use qmend_shared::link::{
    Digests, FrameReader, Identity, ModelInfo, PROTOCOL, Packet, Refusal, Request, Response, Stats,
    write_frame,
};

use crate::port::{BoardInfo, Link, Meter, Slot};

/// Most data bytes in one message.
pub const CHUNK: usize = 4096;
/// A message's largest size: data, and room for the fields around it.
const MESSAGE: usize = CHUNK + 64;
const FRAME: usize = MESSAGE + 64;

/// Receive and send buffers; a `static` of the board's program.
pub struct Buffers {
    reader: FrameReader<FRAME>,
    scratch: [u8; MESSAGE],
}

impl Buffers {
    /// Empty buffers.
    pub const fn new() -> Self {
        Self {
            reader: FrameReader::new(),
            scratch: [0; MESSAGE],
        }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Self::new()
    }
}

/// Memory for the model's tensors; a `static` of the board's program.
#[repr(C, align(16))]
pub struct Pool<const N: usize>([i8; N]);

impl<const N: usize> Pool<N> {
    /// Zeros.
    pub const fn new() -> Self {
        Self([0; N])
    }

    /// All of it.
    pub fn bytes_mut(&mut self) -> &mut [i8] {
        &mut self.0
    }
}

impl<const N: usize> Default for Pool<N> {
    fn default() -> Self {
        Self::new()
    }
}

/// The agent of one board.
pub struct Agent<'a, L, S, M> {
    info: BoardInfo,
    slot: S,
    meter: M,
    pool: &'a mut [i8],
    wire: Wire<'a, L>,
    /// Length of the image that is being written; 0 if none is.
    begun: u32,
}

struct Wire<'a, L> {
    link: L,
    reader: &'a mut FrameReader<FRAME>,
    scratch: &'a mut [u8],
}

/// The sending half of [`Wire`], so that a response may be sent while the request is still borrowed.
struct Sender<'b, L> {
    link: &'b mut L,
    scratch: &'b mut [u8],
}

impl<L: Link> Sender<'_, L> {
    fn send(&mut self, sequence: u8, body: Response<'_>) -> Result<(), L::Error> {
        let Self { link, scratch } = self;
        match write_frame(&Packet { sequence, body }, scratch, |bytes| {
            link.write(bytes)
        }) {
            Ok(sent) => sent,
            // No response is longer than MESSAGE: data is cut to CHUNK, texts are shorter than the
            // rest. Should one be all the same, the host's time limit tells.
            Err(_) => Ok(()),
        }
    }
}

impl<'a, L: Link, S: Slot, M: Meter> Agent<'a, L, S, M> {
    /// An agent with its slot closed. `pool` holds the arena, input and output of any model that is
    /// to be run.
    pub fn new(
        info: BoardInfo,
        link: L,
        slot: S,
        meter: M,
        pool: &'a mut [i8],
        buffers: &'a mut Buffers,
    ) -> Self {
        let Buffers { reader, scratch } = buffers;
        Self {
            info,
            slot,
            meter,
            pool,
            wire: Wire {
                link,
                reader,
                scratch,
            },
            begun: 0,
        }
    }

    /// Answers requests until the link ends.
    ///
    /// # Errors
    /// The link's, when it has ended.
    pub fn serve(&mut self) -> Result<Infallible, L::Error> {
        loop {
            let sequence = self.serve_closed()?;
            self.serve_open(sequence)?;
        }
    }

    /// Returns, with its sequence number, when the image is to be opened.
    fn serve_closed(&mut self) -> Result<u8, L::Error> {
        loop {
            let byte = self.wire.link.read()?;
            let Some(frame) = self.wire.reader.push(byte) else {
                continue;
            };
            let mut to = Sender {
                link: &mut self.wire.link,
                scratch: self.wire.scratch,
            };
            let Some(Packet { sequence, body }) = frame.ok().and_then(parse) else {
                to.send(0, Response::Refused(Refusal::BadMessage))?;
                continue;
            };
            let answer = match body {
                Request::Identify => Response::Identity(identity(
                    &self.info,
                    &self.slot,
                    &self.meter,
                    self.pool.len(),
                )),
                Request::BeginImage { len } => begin(&mut self.slot, len, &mut self.begun),
                Request::WriteImage { offset, data } => {
                    write_image(&mut self.slot, self.begun, offset, data)
                }
                Request::OpenImage => return Ok(sequence),
                _ => Response::Refused(Refusal::NoImage),
            };
            to.send(sequence, answer)?;
        }
    }

    /// Opens the image and runs it; returns when the slot may be written again: at once where the
    /// image is refused, else when another one is begun.
    fn serve_open(&mut self, sequence: u8) -> Result<(), L::Error> {
        let capacity = self.pool.len();
        let mut reason = Reason::new();
        let mut to = Sender {
            link: &mut self.wire.link,
            scratch: self.wire.scratch,
        };
        let (model, info) = match open(self.slot.bytes(), capacity, &mut reason) {
            Ok(opened) => opened,
            Err(refusal) => return to.send(sequence, Response::Refused(refusal)),
        };
        to.send(sequence, Response::Model(info))?;
        let (arena, rest) = self.pool.split_at_mut(info.arena_bytes as usize);
        let (input, rest) = rest.split_at_mut(info.input_len as usize);
        let (output, kept) = rest.split_at_mut(info.output_len as usize);
        let mut session = Session {
            model,
            info,
            arena,
            input,
            output,
            kept,
            written: 0,
            kept_len: 0,
            runs: 0,
        };
        self.meter.reset_stack();
        let (sequence, len) = loop {
            let byte = self.wire.link.read()?;
            let Some(frame) = self.wire.reader.push(byte) else {
                continue;
            };
            let mut to = Sender {
                link: &mut self.wire.link,
                scratch: self.wire.scratch,
            };
            let Some(Packet { sequence, body }) = frame.ok().and_then(parse) else {
                to.send(0, Response::Refused(Refusal::BadMessage))?;
                continue;
            };
            match body {
                Request::Identify => {
                    to.send(
                        sequence,
                        Response::Identity(identity(&self.info, &self.slot, &self.meter, capacity)),
                    )?;
                }
                Request::BeginImage { len } => break (sequence, len),
                request => {
                    session.answer(request, &mut self.meter, |answer| to.send(sequence, answer))?
                }
            }
        };
        let answer = begin(&mut self.slot, len, &mut self.begun);
        Sender {
            link: &mut self.wire.link,
            scratch: self.wire.scratch,
        }
        .send(sequence, answer)
    }
}

fn parse(message: &[u8]) -> Option<Packet<Request<'_>>> {
    match postcard::take_from_bytes(message) {
        Ok((packet, [])) => Some(packet),
        _ => None,
    }
}

fn identity<'b>(
    info: &'b BoardInfo,
    slot: &impl Slot,
    meter: &impl Meter,
    pool: usize,
) -> Identity<'b> {
    Identity {
        protocol: PROTOCOL,
        firmware: env!("CARGO_PKG_VERSION"),
        board: info.board,
        core: info.core,
        slot_bytes: slot.bytes().len() as u32,
        pool_bytes: pool as u32,
        chunk: CHUNK as u16,
        ticks_per_second: meter.ticks_per_second(),
        code_bytes: info.code_bytes,
    }
}

/// Spoils the old image's header, so that a half-written image is never taken for a whole one.
fn begin<'b>(slot: &mut impl Slot, len: u32, begun: &mut u32) -> Response<'b> {
    *begun = 0;
    let capacity = slot.bytes().len() as u32;
    if len > capacity {
        return Response::Refused(Refusal::ImageTooLong {
            needed: len,
            capacity,
        });
    }
    let header = [0u8; 16];
    if slot
        .write(0, &header[..header.len().min(capacity as usize)])
        .is_err()
    {
        return Response::Refused(Refusal::WriteFailed);
    }
    *begun = len;
    Response::Done
}

fn write_image<'b>(slot: &mut impl Slot, begun: u32, offset: u32, data: &[u8]) -> Response<'b> {
    match offset.checked_add(data.len() as u32) {
        Some(end) if end <= begun => match slot.write(offset as usize, data) {
            Ok(()) => Response::Done,
            Err(_) => Response::Refused(Refusal::WriteFailed),
        },
        _ => Response::Refused(Refusal::OutOfRange),
    }
}

type Reason = String<160>;

/// Checks the image and that its tensors fit the pool.
fn open<'s, 'r>(
    slot: &'s [u8],
    pool: usize,
    reason: &'r mut Reason,
) -> Result<(Model<'s>, ModelInfo), Refusal<'r>> {
    let model = match Model::from_slot(slot) {
        Ok(model) => model,
        Err(error) => {
            // A text that is too long is cut: that is what its error means.
            let _ = write!(reason, "{error}");
            return Err(Refusal::BadImage { reason });
        }
    };
    let manifest = model.manifest();
    let input_len = model.tensor(manifest.input).elements();
    let output_len = model.tensor(manifest.output).elements();
    let needed = (manifest.arena_bytes as u64)
        .saturating_add(input_len)
        .saturating_add(output_len);
    if needed > pool as u64 {
        let needed = needed.min(u32::MAX as u64) as u32;
        return Err(Refusal::PoolTooSmall {
            needed,
            capacity: pool as u32,
        });
    }
    let image = model.bytes();
    let info = ModelInfo {
        image_bytes: image.len() as u32,
        image_crc: crc32(image),
        input_len: input_len as u32,
        output_len: output_len as u32,
        operators: model.ops().count() as u16,
        arena_bytes: manifest.arena_bytes,
    };
    Ok((model, info))
}

/// An open image with its memory.
struct Session<'p, 's> {
    model: Model<'s>,
    info: ModelInfo,
    arena: &'p mut [i8],
    input: &'p mut [i8],
    output: &'p mut [i8],
    kept: &'p mut [i8],
    written: usize,
    kept_len: usize,
    runs: u32,
}

impl Session<'_, '_> {
    fn answer<E>(
        &mut self,
        request: Request<'_>,
        meter: &mut impl Meter,
        send: impl FnOnce(Response<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut reason = Reason::new();
        let mut crcs = Vec::<u8, { 4 * Digests::MAX }>::new();
        let answer = match request {
            Request::OpenImage => Ok(Response::Model(self.info)),
            Request::WriteInput { offset, data } => self.write_input(offset, data),
            Request::Run => self.run(meter, &mut reason, |_, _| ()).map(|ticks| {
                let head = &self.output[..self.output.len().min(CHUNK)];
                Response::Ran {
                    ticks,
                    output: as_bytes(head),
                }
            }),
            Request::ReadOutput { offset, len } => part(self.output, offset, len),
            Request::Digest { first } => {
                let range = first as usize..first as usize + Digests::MAX;
                let ran = self.run(meter, &mut reason, |operator, tensor| {
                    if range.contains(&operator) {
                        // The range holds no more operators than the vector has room for.
                        let _ = crcs.extend_from_slice(&crc32(as_bytes(tensor)).to_le_bytes());
                    }
                });
                ran.map(|_| Response::Digests(Digests { first, crcs: &crcs }))
            }
            Request::Keep { operator } => self.keep(operator, meter, &mut reason),
            Request::ReadKept { offset, len } => part(&self.kept[..self.kept_len], offset, len),
            Request::Stats => {
                let (stack_high_water, stack_watched) = meter.stack();
                Ok(Response::Stats(Stats {
                    arena_bytes: self.info.arena_bytes,
                    pool_used: (self.arena.len() + self.input.len() + self.output.len()) as u32,
                    stack_high_water,
                    stack_watched,
                    runs: self.runs,
                }))
            }
            // The image is being read: it is written only after BeginImage.
            _ => Err(Refusal::OutOfRange),
        };
        send(answer.unwrap_or_else(Response::Refused))
    }

    fn write_input<'b>(&mut self, offset: u32, data: &[u8]) -> Result<Response<'b>, Refusal<'b>> {
        let offset = offset as usize;
        let target = self
            .input
            .get_mut(offset..)
            .and_then(|rest| rest.get_mut(..data.len()));
        match target {
            Some(target) if offset <= self.written => {
                for (to, &from) in target.iter_mut().zip(data) {
                    *to = from as i8;
                }
                self.written = offset + data.len();
                Ok(Response::Done)
            }
            _ => Err(Refusal::OutOfRange),
        }
    }

    fn run<'r>(
        &mut self,
        meter: &mut impl Meter,
        reason: &'r mut Reason,
        mut observe: impl FnMut(usize, &[i8]),
    ) -> Result<u64, Refusal<'r>> {
        if self.written != self.input.len() {
            return Err(Refusal::InputIncomplete {
                written: self.written as u32,
                needed: self.input.len() as u32,
            });
        }
        self.runs = self.runs.saturating_add(1);
        meter.start();
        let result = engine::run_with(
            &self.model,
            self.arena,
            self.input,
            self.output,
            |operator, _, tensor| observe(operator, tensor),
        );
        let ticks = meter.stop();
        match result {
            Ok(()) => Ok(ticks),
            Err(error) => {
                let _ = write!(reason, "{error}");
                Err(Refusal::RunFailed { reason })
            }
        }
    }

    fn keep<'r>(
        &mut self,
        operator: u16,
        meter: &mut impl Meter,
        reason: &'r mut Reason,
    ) -> Result<Response<'r>, Refusal<'r>> {
        if operator >= self.info.operators {
            return Err(Refusal::NoSuchOperator);
        }
        // Taken out for the run, which borrows the rest of the session.
        let kept = core::mem::take(&mut self.kept);
        let mut len = 0;
        let ran = self.run(meter, reason, |index, tensor| {
            if index == operator as usize {
                len = tensor.len();
                if let Some(target) = kept.get_mut(..len) {
                    target.copy_from_slice(tensor);
                }
            }
        });
        self.kept = kept;
        let capacity = self.kept.len();
        self.kept_len = if len <= capacity { len } else { 0 };
        ran?;
        if len > capacity {
            return Err(Refusal::PoolTooSmall {
                needed: len as u32,
                capacity: capacity as u32,
            });
        }
        Ok(Response::Kept { len: len as u32 })
    }
}

fn part<'b>(tensor: &'b [i8], offset: u32, len: u16) -> Result<Response<'b>, Refusal<'b>> {
    let len = len as usize;
    match tensor
        .get(offset as usize..)
        .and_then(|rest| rest.get(..len))
    {
        Some(part) if len <= CHUNK => Ok(Response::Data(as_bytes(part))),
        _ => Err(Refusal::OutOfRange),
    }
}

fn as_bytes(elements: &[i8]) -> &[u8] {
    // SAFETY: i8 and u8 have one size and alignment, and every bit pattern is a value of both.
    unsafe { core::slice::from_raw_parts(elements.as_ptr().cast(), elements.len()) }
}

/// Tells the host where a panic was. The message goes along where it needs no formatting, whose
/// code would be larger than the agent's.
pub fn report_panic<L: Link>(link: &mut L, info: &core::panic::PanicInfo) {
    let (file, line) = info.location().map_or(("", 0), |l| (l.file(), l.line()));
    let message = info.message().as_str().unwrap_or("");
    // Texts that do not fit are left out rather than the report.
    let cut = |text: &'static str| if text.len() <= 160 { text } else { "" };
    let body = Response::Panicked {
        file: if file.len() <= 160 { file } else { "" },
        line,
        message: cut(message),
    };
    let mut scratch = [0u8; 400];
    // A zero first: the panic may have come in the middle of a frame.
    let _ = link.write(&[0]);
    let _ = write_frame(&Packet { sequence: 0, body }, &mut scratch, |bytes| {
        link.write(bytes)
    });
}
