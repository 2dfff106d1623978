//! Requests and responses.
//!
//! A change to the messages raises [`PROTOCOL`]. [`Request::Identify`] and [`Identity`] never
//! change, so that ends of different versions can tell each other which they are.
//!
//! What went wrong travels as the error's own enumeration, numbers of a few bytes: the words are
//! the host's.

use serde::{Deserialize, Serialize};

use crate::engine::RunError;
use crate::image::ImageError;
use crate::slot::SlotError;

/// Version of the messages. Both ends must agree.
pub const PROTOCOL: u8 = 4;

/// A message with the number that pairs a response with its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet<T> {
    /// Chosen by the host, repeated by the device.
    pub sequence: u8,
    /// [`Request`] or [`Response`].
    pub body: T,
}

/// What a host asks. All may be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Request<'a> {
    /// Who are you? Answered by [`Response::Identity`].
    Identify,
    /// An image is going to be written into the slot that does not count. Touches nothing yet.
    BeginImage {
        /// Length of the whole image.
        len: u32,
        /// CRC-32/ISO-HDLC of the whole image.
        crc: u32,
    },
    /// Writes bytes of the image: what follows the last write, or starts a sector (which is then
    /// erased), or repeats what is there. Sectors that hold the right bytes may be left out.
    WriteImage {
        /// From the image's first byte.
        offset: u32,
        /// At most [`Identity::chunk`] bytes, whole units of writing but for the image's end.
        #[serde(borrow)]
        data: &'a [u8],
    },
    /// Checks the image that counts and gets ready to run it. Answered by [`Response::Model`].
    OpenImage,
    /// Sets bytes of the input (int8, HWC). `offset` is 0 or at most where the last write ended.
    WriteInput {
        /// From the input's first element.
        offset: u32,
        /// At most [`Identity::chunk`] elements.
        #[serde(borrow)]
        data: &'a [u8],
    },
    /// Runs the model once on the input. Answered by [`Response::Ran`].
    Run,
    /// Reads elements of the last run's output. Answered by [`Response::Data`].
    ReadOutput {
        /// From the output's first element.
        offset: u32,
        /// At most [`Identity::chunk`].
        len: u16,
    },
    /// Runs the model and answers with a CRC of each of some operators' outputs.
    Digest {
        /// The first operator; up to [`Digests::MAX`] are answered.
        first: u16,
    },
    /// Runs the model and keeps the output of one operator. Answered by [`Response::Kept`].
    Keep {
        /// The operator's place in execution order.
        operator: u16,
    },
    /// Reads elements of the kept tensor. Answered by [`Response::Data`].
    ReadKept {
        /// From the tensor's first element.
        offset: u32,
        /// At most [`Identity::chunk`].
        len: u16,
    },
    /// Answered by [`Response::Stats`].
    Stats,
    /// What flash and which images are there for? Answered by [`Response::Description`].
    Describe,
    /// Which image counts? Answered by [`Response::Slots`].
    Slots,
    /// CRCs of the sectors of the slot that is being written. Answered by [`Response::Digests`].
    SectorDigests {
        /// The first sector, from the slot's first; up to [`Digests::MAX`] are answered.
        first: u16,
    },
    /// A patch is going to be sent. It is kept in the memory for tensors, so no image is open then.
    BeginPatch {
        /// Length of the whole patch.
        len: u32,
    },
    /// Bytes of the patch. `offset` is at most where the last write ended.
    WritePatch {
        /// From the patch's first byte.
        offset: u32,
        /// At most [`Identity::chunk`] bytes.
        #[serde(borrow)]
        data: &'a [u8],
    },
    /// The image is written, or the patch is there and is to be applied: check it, and make the
    /// result count. Answered by [`Response::Slots`].
    Commit {
        /// CRC-32/ISO-HDLC of the image that is to count. Where it counts already and nothing was
        /// begun, all is well: the request was repeated.
        crc: u32,
    },
    /// Makes the other slot's image count. Answered by [`Response::Slots`].
    RollBack {
        /// [`SlotImage::sequence`] of the image that counts, so that a repeated request does not
        /// roll back twice.
        from: u32,
    },
    /// Whom does the device take images from? Answered by `Response::Trust`; firmware without
    /// signatures, which takes them from anybody, refuses with [`Refusal::Unsupported`].
    Trust,
    /// Says, before anything is begun, that the image that is going to come was signed. Touches
    /// nothing. A device without a key refuses with [`Refusal::Unsupported`].
    Authorize {
        /// A block of [`crate::signature::BLOCK_BYTES`].
        #[serde(borrow)]
        block: &'a [u8],
    },
    /// Runs one of the self-tests that the open image carries. Answered by `Response::SelfTest`; a
    /// firmware without them refuses with [`Refusal::Unsupported`].
    SelfTest {
        /// Which, from 0.
        vector: u32,
    },
    /// What came of the self-tests at the start. Answered by `Response::BootTest`.
    BootTest,
}

/// What a device answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Response<'a> {
    /// Who I am.
    Identity(#[serde(borrow)] Identity<'a>),
    /// Done.
    Done,
    /// The image is sound.
    Model(ModelInfo),
    /// The model ran.
    Ran {
        /// Number of the run since the image was opened, which [`Response::Data`] repeats.
        run: u32,
        /// CRC-32/ISO-HDLC of the input that it ran on: a late [`Request::WriteInput`] shows here.
        input_crc: u32,
        /// Clock ticks from before the engine's first instruction to after its last.
        ticks: u64,
        /// The output's first elements, as many as [`Identity::chunk`] allows.
        #[serde(borrow)]
        output: &'a [u8],
    },
    /// Elements asked for.
    Data {
        /// The run that they are of.
        run: u32,
        /// The elements.
        #[serde(borrow)]
        data: &'a [u8],
    },
    /// CRCs asked for.
    Digests(#[serde(borrow)] Digests<'a>),
    /// The tensor is kept.
    Kept {
        /// The run that it is of.
        run: u32,
        /// CRC-32/ISO-HDLC of the input that it ran on.
        input_crc: u32,
        /// The operator whose output it is.
        operator: u16,
        /// Its number of elements.
        len: u32,
    },
    /// What memory was used.
    Stats(Stats),
    /// Flash, and what images may be like.
    Description(Description),
    /// Which images there are.
    Slots(SlotStatus),
    /// Not done, and why.
    Refused(Refusal),
    /// The firmware panicked and is at its end. Sent unasked, with sequence number 0.
    Panicked {
        /// Source file; empty in firmware that leaves such texts out.
        #[serde(borrow)]
        file: &'a str,
        /// Line in it.
        line: u32,
        /// The message, where it needs no formatting.
        #[serde(borrow)]
        message: &'a str,
        /// Words on the stack that may be return addresses, innermost first, 4 bytes little-endian
        /// each.
        #[serde(borrow)]
        trace: &'a [u8],
    },
    // Answers that small firmware leaves out. They are the last ones, and `signed` brings `self-test`
    // along, so that each has one number in every build.
    /// The self-test was run.
    #[cfg(feature = "self-test")]
    SelfTest(SelfTestResult),
    /// The self-tests that were run at the start; none where none were asked for, or there are none.
    #[cfg(feature = "self-test")]
    BootTest(Option<BootTest>),
    /// Whom the device takes images from.
    #[cfg(feature = "signed")]
    Trust(Trust),
}

/// Who a device is and what it can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity<'a> {
    /// [`PROTOCOL`] of the firmware. First, so that every version can read it.
    pub protocol: u8,
    /// Version of the firmware package.
    #[serde(borrow)]
    pub firmware: &'a str,
    /// Board, as in its file's name.
    #[serde(borrow)]
    pub board: &'a str,
    /// Core, for people.
    #[serde(borrow)]
    pub core: &'a str,
    /// Largest image in bytes: room in the smaller slot.
    pub slot_bytes: u32,
    /// Bytes for arena, input, output and a kept tensor together.
    pub pool_bytes: u32,
    /// Most data bytes in one message.
    pub chunk: u16,
    /// Frequency of the clock behind [`Response::Ran`], in Hz.
    pub ticks_per_second: u32,
    /// Code and constants of the firmware in bytes; 0 where unknown.
    pub code_bytes: u32,
}

/// Flash, and what images may be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Bit *n* is set where images of format version *n* are read.
    pub image_versions: u32,
    /// Bit *n* is set where weight layout *n* is read.
    pub weight_layouts: u32,
    /// Bit *n* is set where the operator of number *n* ([`crate::image::Op::number`]) is built in.
    pub operators: u32,
    /// Bytes that are written at once.
    pub write_unit: u8,
    /// Address of the flash that holds the slots.
    pub address: u32,
    /// Both slots.
    pub slots: [SlotDescription; 2],
}

/// One slot of a device's flash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotDescription {
    /// Where images start, from [`Description::address`].
    pub image: u32,
    /// Where commit records start.
    pub records: u32,
    /// Room for records in bytes.
    pub records_len: u32,
    /// Erase sectors of the room for an image, in runs of one length, in order; then zeros.
    pub sectors: [SectorRun; 4],
}

/// Sectors of one length, one behind the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectorRun {
    /// How many.
    pub count: u16,
    /// Length of each in bytes.
    pub len: u32,
}

/// Which images there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// The one that counts.
    pub selected: Option<SlotImage>,
    /// Length and CRC of the one that [`Request::RollBack`] would go to.
    pub other: Option<(u32, u32)>,
}

/// The image that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotImage {
    /// Slot 0 or 1.
    pub slot: u8,
    /// Number of its commit.
    pub sequence: u32,
    /// Its length in bytes.
    pub len: u32,
    /// CRC-32/ISO-HDLC of the whole image.
    pub crc: u32,
}

/// Whom a device takes images from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// [`crate::signature::Signed::key_id`] of the key whose signature an image needs; none where
    /// any image is taken.
    pub key_id: Option<[u8; 8]>,
    /// The lowest version that is taken; 0 where rollback protection is off.
    pub lowest: u32,
    /// Version of the image that counts; 0 where it was not signed, or there is none.
    pub version: u32,
}

/// One self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfTestResult {
    /// Which.
    pub vector: u32,
    /// How many the image has; where it has none, nothing was run.
    pub count: u32,
    /// The first element that is not as it must be, what it must be, and what it is.
    pub failed_at: Option<(u32, i8, i8)>,
}

/// The self-tests that were run at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTest {
    /// Those whose output was as it must be.
    pub passed: u32,
    /// The others.
    pub failed: u32,
    /// The first of these.
    pub first_failing: Option<u32>,
}

/// What the device reads from an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelInfo {
    /// Length of the image in bytes.
    pub image_bytes: u32,
    /// CRC-32/ISO-HDLC of the whole image.
    pub image_crc: u32,
    /// Elements of the input.
    pub input_len: u32,
    /// Elements of the output.
    pub output_len: u32,
    /// Number of operators.
    pub operators: u16,
    /// Arena in bytes.
    pub arena_bytes: u32,
}

/// CRCs of operators' outputs, or of sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests<'a> {
    /// The first operator or sector.
    pub first: u16,
    /// CRC-32/ISO-HDLC of the input that ran, or the one announced for the image that is written.
    pub of: u32,
    /// CRC-32/ISO-HDLC of each one's bytes, 4 bytes little-endian each.
    #[serde(borrow)]
    pub crcs: &'a [u8],
}

impl Digests<'_> {
    /// Most CRCs in one response.
    pub const MAX: usize = 32;
}

/// Memory in use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// The open image's arena.
    pub arena_bytes: u32,
    /// Arena, input and output of the open image.
    pub pool_used: u32,
    /// Deepest stack since the image was opened, from the stack's top; 0 where unknown.
    pub stack_high_water: u32,
    /// Stack that is watched; `stack_high_water` cannot be larger.
    pub stack_watched: u32,
    /// Runs since the image was opened.
    pub runs: u32,
    /// What a tick of [`Response::Ran`] is.
    pub clock: ClockKind,
}

/// What times an inference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ClockKind {
    /// A clock whose ticks are no cycles of the processor.
    Other,
    /// A timer at the processor's frequency, SysTick for one: a tick is a cycle.
    Timer,
    /// The cycle counter of the processor's DWT.
    CycleCounter,
}

impl ClockKind {
    /// Whether a tick is a cycle of the processor.
    pub fn counts_cycles(self) -> bool {
        !matches!(self, Self::Other)
    }

    /// As JSON and people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "clock",
            Self::Timer => "timer",
            Self::CycleCounter => "DWT CYCCNT",
        }
    }
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// A frame was damaged or held no message of this protocol: ask again.
    BadMessage,
    /// The image is larger than the slot.
    ImageTooLong {
        /// Bytes asked for.
        needed: u32,
        /// Bytes there are.
        capacity: u32,
    },
    /// Offset or length lies outside what is written or read.
    OutOfRange,
    /// The slot could not be written.
    WriteFailed,
    /// [`Request::OpenImage`] comes first.
    NoImage,
    /// The slot's image is not sound.
    BadImage(ImageError),
    /// Arena, input and output do not fit the device's memory.
    PoolTooSmall {
        /// Bytes needed.
        needed: u32,
        /// Bytes there are.
        capacity: u32,
    },
    /// Part of the input was not written.
    InputIncomplete {
        /// Elements written.
        written: u32,
        /// Elements needed.
        needed: u32,
    },
    /// There is no such operator.
    NoSuchOperator,
    /// The engine refused.
    RunFailed(RunError),
    /// The slots refused; the image that counted before still counts.
    Slot(SlotError),
    /// A write out of order: go on, or start a sector again.
    Order {
        /// Where the next write is expected.
        expected: u32,
    },
    /// A commit without a [`Request::BeginImage`] or [`Request::BeginPatch`] before it, or of
    /// another CRC than was announced.
    NothingBegun,
    /// The patch is longer than the memory that holds it.
    PatchTooLong {
        /// Bytes asked for.
        needed: u32,
        /// Bytes there are.
        capacity: u32,
    },
    /// The firmware was built without what was asked for.
    Unsupported,
    /// The device takes signed images only, and this one was not announced by
    /// [`Request::Authorize`]; or the image to roll back to was not signed.
    Unsigned,
    /// The block is none, or was not signed by the device's key.
    BadSignature,
    /// An older version than the device has had.
    OldVersion {
        /// Of the image.
        version: u32,
        /// The lowest that is taken.
        lowest: u32,
    },
    /// The image is not the one that was signed.
    OtherThanSigned,
}
