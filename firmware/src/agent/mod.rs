//! Answers the host's requests and runs the model in flash, in place.
//!
//! Two states: *closed*, in which flash may be written ([`flashing`]), and *open*, in which the
//! image that counts has been checked and is only read ([`session`]). [`Request::OpenImage`] goes
//! from the first to the second; a request that writes goes back.
//!
//! Memory is one pool. When an image is opened it is split into arena (its size is the image's
//! plan), input, output, and the rest for a kept tensor; when closed it holds a patch that arrives.
//! Nothing else grows with the model.

mod flashing;
#[cfg(feature = "self-test")]
mod self_test;
mod session;
mod trust;

use core::convert::Infallible;

#[cfg(feature = "self-test")]
use qmend_shared::link::BootTest;
use qmend_shared::link::capabilities::describe;
use qmend_shared::link::{
    FrameReader, Identity, PROTOCOL, Packet, Refusal, Request, Response, write_frame,
};
use qmend_shared::slot::Storage;

use crate::port::{BoardInfo, Link, Meter};
use flashing::{Flashing, Room};
use session::{Session, open};
pub use trust::Trust;

/// Whether the firmware was built with `QMEND_SELF_TEST_AT_BOOT=1`: then [`Agent::serve`] begins with
/// [`Agent::self_test`].
#[cfg(feature = "self-test")]
const SELF_TEST_AT_BOOT: bool =
    matches!(option_env!("QMEND_SELF_TEST_AT_BOOT"), Some(v) if matches!(v.as_bytes(), b"1"));

/// What a message needs besides its data: the fields around them, CRC and stuffing.
pub const MESSAGE_OVERHEAD: usize = 64;

/// Receive and send buffers; a `static` of the board's program. `N` is the most data bytes in one
/// message, a multiple of 32 and at least 256, and [`MESSAGE_OVERHEAD`].
pub struct Buffers<const N: usize> {
    reader: FrameReader<N>,
    scratch: [u8; N],
}

impl<const N: usize> Buffers<N> {
    /// Empty buffers.
    pub const fn new() -> Self {
        const { assert!(N >= 256 + MESSAGE_OVERHEAD && N.is_multiple_of(32)) };
        Self {
            reader: FrameReader::new(),
            scratch: [0; N],
        }
    }
}

impl<const N: usize> Default for Buffers<N> {
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
pub struct Agent<'a, L, S, M, const N: usize> {
    info: BoardInfo,
    flash: Flashing<S>,
    trust: Trust,
    #[cfg(feature = "self-test")]
    boot_test: Option<BootTest>,
    meter: M,
    pool: &'a mut [i8],
    wire: Wire<'a, L, N>,
}

struct Wire<'a, L, const N: usize> {
    link: L,
    reader: &'a mut FrameReader<N>,
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
            // No response is longer than the buffer: data is cut to a chunk, texts are shorter
            // than the rest. Should one be all the same, the host's time limit tells.
            Err(_) => Ok(()),
        }
    }
}

impl<'a, L: Link, S: Storage, M: Meter, const N: usize> Agent<'a, L, S, M, N> {
    /// An agent that has looked for the image that counts, and not opened it. `pool` holds the
    /// arena, input and output of any model that is to be run, and any patch that is to be applied.
    pub fn new(
        info: BoardInfo,
        link: L,
        storage: S,
        meter: M,
        pool: &'a mut [i8],
        buffers: &'a mut Buffers<N>,
    ) -> Self {
        let Buffers { reader, scratch } = buffers;
        let trust = Trust::built_in();
        let mut flash = Flashing::new(storage, info.layout);
        flash.look(&trust);
        Self {
            flash,
            trust,
            #[cfg(feature = "self-test")]
            boot_test: None,
            info,
            meter,
            pool,
            wire: Wire {
                link,
                reader,
                scratch,
            },
        }
    }

    /// The same agent, which takes images from whom `trust` says, and runs no others.
    pub fn trusting(mut self, trust: Trust) -> Self {
        self.trust = trust;
        self.flash.look(&self.trust);
        self
    }

    /// Runs the self-tests that the image that counts carries, and remembers for the host what came of
    /// them. None where there is no image that can be opened, or it has none.
    #[cfg(feature = "self-test")]
    #[inline(never)]
    pub fn self_test(&mut self) -> Option<BootTest> {
        let (model, info) = open(self.flash.image()?, self.pool.len()).ok()?;
        let mut session = Session::new(model, info, Self::CHUNK, self.pool);
        let mut done = BootTest::default();
        loop {
            let vector = done.passed + done.failed;
            match session.self_test(vector) {
                Ok(result) if result.count == 0 => break,
                Ok(result) => {
                    match result.failed_at {
                        None => done.passed += 1,
                        Some(_) => {
                            done.failed += 1;
                            done.first_failing.get_or_insert(vector);
                        }
                    }
                    if vector + 1 == result.count {
                        self.boot_test = Some(done);
                        break;
                    }
                }
                Err(_) => break,
            }
        }
        self.boot_test
    }

    const CHUNK: usize = N - MESSAGE_OVERHEAD;

    /// Answers requests until the link ends.
    ///
    /// # Errors
    /// The link's, when it has ended.
    pub fn serve(&mut self) -> Result<Infallible, L::Error> {
        #[cfg(feature = "self-test")]
        if SELF_TEST_AT_BOOT {
            self.self_test();
        }
        // An empty frame: the agent is there.
        self.wire.link.write(&[0])?;
        let mut pending = None;
        loop {
            let sequence = self.serve_closed(pending)?;
            pending = self.serve_open(sequence)?;
        }
    }

    /// Does `pending` first. Returns, with its sequence number, when the image is to be opened.
    // Not part of its caller: on small chips the frames of both states do not fit side by side.
    #[inline(never)]
    fn serve_closed(&mut self, pending: Option<Packet<Pending>>) -> Result<u8, L::Error> {
        let mut room = Room::new();
        if let Some(Packet { sequence, body }) = pending {
            let answer = self
                .flash
                .answer(&body.request(), self.pool, &mut room, &self.trust);
            let mut to = Sender {
                link: &mut self.wire.link,
                scratch: self.wire.scratch,
            };
            to.send(sequence, answer.unwrap_or(Response::Done))?;
        }
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
            if matches!(body, Request::OpenImage) {
                return Ok(sequence);
            }
            let sizes = (self.pool.len(), Self::CHUNK);
            let packet = (sequence, &body);
            let about = About {
                info: &self.info,
                flash: &self.flash,
                meter: &self.meter,
                sizes,
                #[cfg(feature = "self-test")]
                boot_test: self.boot_test,
            };
            if let Some(sent) = about.send(packet, &mut self.trust, &mut to) {
                sent?;
                continue;
            }
            room.clear();
            let answer = self
                .flash
                .answer(&body, self.pool, &mut room, &self.trust)
                .unwrap_or(Response::Refused(Refusal::NoImage));
            to.send(sequence, answer)?;
        }
    }

    /// Opens the image and runs it; returns when flash may be written again: at once where the
    /// image is refused, else with the request that writes.
    // Not part of its caller: on small chips the frames of both states do not fit side by side.
    #[inline(never)]
    fn serve_open(&mut self, sequence: u8) -> Result<Option<Packet<Pending>>, L::Error> {
        let capacity = self.pool.len();
        let mut to = Sender {
            link: &mut self.wire.link,
            scratch: self.wire.scratch,
        };
        let opened = match self.flash.image() {
            Some(image) => open(image, capacity),
            None => Err(Refusal::NoImage),
        };
        let (model, info) = match opened {
            Ok(opened) => opened,
            Err(refusal) => {
                to.send(sequence, Response::Refused(refusal))?;
                return Ok(None);
            }
        };
        to.send(sequence, Response::Model(info))?;
        let mut session = Session::new(model, info, Self::CHUNK, self.pool);
        self.meter.reset_stack();
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
            if let Some(body) = Pending::of(&body) {
                return Ok(Some(Packet { sequence, body }));
            }
            let sizes = (capacity, Self::CHUNK);
            let packet = (sequence, &body);
            let about = About {
                info: &self.info,
                flash: &self.flash,
                meter: &self.meter,
                sizes,
                #[cfg(feature = "self-test")]
                boot_test: self.boot_test,
            };
            match about.send(packet, &mut self.trust, &mut to) {
                Some(sent) => sent?,
                None => {
                    session.answer(body, &mut self.meter, |answer| to.send(sequence, answer))?
                }
            }
        }
    }
}

/// A request that closes the image.
#[derive(Clone, Copy)]
enum Pending {
    BeginImage { len: u32, crc: u32 },
    BeginPatch { len: u32 },
    RollBack { from: u32 },
    Commit { crc: u32 },
}

impl Pending {
    fn of(request: &Request<'_>) -> Option<Self> {
        match *request {
            Request::BeginImage { len, crc } => Some(Self::BeginImage { len, crc }),
            Request::BeginPatch { len } => Some(Self::BeginPatch { len }),
            Request::RollBack { from } => Some(Self::RollBack { from }),
            Request::Commit { crc } => Some(Self::Commit { crc }),
            _ => None,
        }
    }

    fn request(self) -> Request<'static> {
        match self {
            Self::BeginImage { len, crc } => Request::BeginImage { len, crc },
            Self::BeginPatch { len } => Request::BeginPatch { len },
            Self::RollBack { from } => Request::RollBack { from },
            Self::Commit { crc } => Request::Commit { crc },
        }
    }
}

fn parse(message: &[u8]) -> Option<Packet<Request<'_>>> {
    match postcard::take_from_bytes(message) {
        Ok((packet, [])) => Some(packet),
        _ => None,
    }
}

/// What the device can be asked about.
struct About<'b, S, M> {
    info: &'b BoardInfo,
    flash: &'b Flashing<S>,
    meter: &'b M,
    /// Memory for tensors, and data in a message.
    sizes: (usize, usize),
    #[cfg(feature = "self-test")]
    boot_test: Option<BootTest>,
}

impl<S: Storage, M: Meter> About<'_, S, M> {
    /// Sends the answer to what only asks, or offers a signature; `None` for any other request.
    // Not part of its callers: its memory is not needed while they do what takes much.
    #[inline(never)]
    fn send<L: Link>(
        &self,
        (sequence, request): (u8, &Request<'_>),
        trust: &mut Trust,
        to: &mut Sender<'_, L>,
    ) -> Option<Result<(), L::Error>> {
        self.answer(request)
            .or_else(|| trust.answer(request, self.flash.view()))
            .map(|answer| to.send(sequence, answer))
    }

    fn answer(&self, request: &Request<'_>) -> Option<Response<'static>> {
        let (pool, chunk) = self.sizes;
        match request {
            Request::Identify => Some(Response::Identity(Identity {
                protocol: PROTOCOL,
                firmware: env!("CARGO_PKG_VERSION"),
                board: self.info.board,
                core: self.info.core,
                slot_bytes: self.info.layout.capacity(),
                pool_bytes: pool as u32,
                chunk: chunk as u16,
                ticks_per_second: self.meter.ticks_per_second(),
                code_bytes: self.info.code_bytes,
            })),
            Request::Describe => Some(Response::Description(describe(
                &self.flash.storage,
                &self.info.layout,
                self.info.flash_address,
            ))),
            Request::Slots => Some(Response::Slots(self.flash.status())),
            #[cfg(feature = "self-test")]
            Request::BootTest => Some(Response::BootTest(self.boot_test)),
            #[cfg(not(feature = "self-test"))]
            Request::BootTest => Some(Response::Refused(Refusal::Unsupported)),
            _ => None,
        }
    }
}

/// Tells the host where a panic was. The message goes along where it needs no formatting, whose
/// code would be larger than the agent's. `trace` as in [`Response::Panicked`].
pub fn report_panic<L: Link>(link: &mut L, info: &core::panic::PanicInfo, trace: &[u8]) {
    let (file, line) = info.location().map_or(("", 0), |l| (l.file(), l.line()));
    let message = info.message().as_str().unwrap_or("");
    // Texts that do not fit are left out rather than the report.
    let cut = |text: &'static str| if text.len() <= 160 { text } else { "" };
    let body = Response::Panicked {
        file: if file.len() <= 160 { file } else { "" },
        line,
        message: cut(message),
        trace,
    };
    send_panic(link, body);
}

/// As [`report_panic`] with nothing but the trace, which `addr2line` turns into words: where flash
/// is scarce, this spares it the texts of all panics and the code that carries them there.
pub fn report_trace<L: Link>(link: &mut L, trace: &[u8]) {
    let body = Response::Panicked {
        file: "",
        line: 0,
        message: "",
        trace,
    };
    send_panic(link, body);
}

fn send_panic<L: Link>(link: &mut L, body: Response<'_>) {
    let mut scratch = [0u8; 448];
    // A zero first: the panic may have come in the middle of a frame.
    let _ = link.write(&[0]);
    let _ = write_frame(&Packet { sequence: 0, body }, &mut scratch, |bytes| {
        link.write(bytes)
    });
}
