//! The messages between a host and a device, and the frames that carry them.
//!
//! The host asks, the device answers; nothing is sent unasked but the report of a panic. A message
//! is postcard; a frame is `COBS(message, CRC-32 of message) 0x00`, so that a zero byte ends a frame
//! and nothing else, and a receiver that joins late or loses bytes is right again after the next
//! zero. Every [`Packet`] carries a sequence number that the answer repeats: a late answer is told
//! from the awaited one, and as all requests may be repeated without harm, a host that hears
//! nothing asks again.
//!
//! - [`frame`]: bytes to messages and back, the same code on both ends.
//! - [`message`]: what is said,
//! - [`capabilities`]: what this build can read, for [`Description`].

pub mod capabilities;
pub mod frame;
pub mod message;

pub use frame::{FrameError, FrameReader, frame_overhead, write_frame};
pub use message::{
    BootTest, ClockKind, Description, Digests, Identity, ModelInfo, PROTOCOL, Packet, Refusal,
    Request, Response, SectorRun, SelfTestResult, SlotDescription, SlotImage, SlotStatus, Stats,
    Trust,
};
