//! Requests and responses.
//!
//! New messages are added at an enum's end and raise [`PROTOCOL`]; existing ones stay as they are.

use serde::{Deserialize, Serialize};

/// Version of the messages. Both ends must agree.
pub const PROTOCOL: u8 = 1;

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
    /// Makes the slot's image invalid, so that one of `len` bytes can be written.
    BeginImage {
        /// The whole image.
        len: u32,
    },
    /// Writes bytes of the image into the slot.
    WriteImage {
        /// From the image's first byte.
        offset: u32,
        /// At most [`Identity::chunk`] bytes.
        #[serde(borrow)]
        data: &'a [u8],
    },
    /// Checks the slot's image and gets ready to run it. Answered by [`Response::Model`].
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
        /// Clock ticks from before the engine's first instruction to after its last.
        ticks: u64,
        /// The output's first elements, as many as [`Identity::chunk`] allows.
        #[serde(borrow)]
        output: &'a [u8],
    },
    /// Elements asked for.
    Data(#[serde(borrow)] &'a [u8]),
    /// CRCs asked for.
    Digests(#[serde(borrow)] Digests<'a>),
    /// The tensor is kept.
    Kept {
        /// Its number of elements.
        len: u32,
    },
    /// What memory was used.
    Stats(Stats),
    /// Not done, and why.
    Refused(#[serde(borrow)] Refusal<'a>),
    /// The firmware panicked and is at its end. Sent unasked, with sequence number 0.
    Panicked {
        /// Source file.
        #[serde(borrow)]
        file: &'a str,
        /// Line in it.
        line: u32,
        /// The message, where it needs no formatting.
        #[serde(borrow)]
        message: &'a str,
    },
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
    /// Largest image in bytes.
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

/// CRCs of operators' outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests<'a> {
    /// The first operator.
    pub first: u16,
    /// CRC-32/ISO-HDLC of each output's bytes, 4 bytes little-endian each.
    #[serde(borrow)]
    pub crcs: &'a [u8],
}

impl Digests<'_> {
    /// Most CRCs in one response.
    pub const MAX: usize = 64;
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
}

/// Why a request was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal<'a> {
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
    BadImage {
        /// The reason.
        #[serde(borrow)]
        reason: &'a str,
    },
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
    RunFailed {
        /// The reason.
        #[serde(borrow)]
        reason: &'a str,
    },
}
