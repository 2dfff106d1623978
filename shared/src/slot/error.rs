use core::fmt;

use serde::{Deserialize, Serialize};

use super::storage::StorageError;
use crate::image::ImageError;
use crate::patch::PatchError;

/// Why a slot was not changed, or not committed. The image that counted before still counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SlotError {
    /// The regions do not fit the storage: see [`super::Layout::check`].
    Layout,
    /// The storage failed.
    Storage,
    /// The image is longer than the slot.
    TooLong {
        /// Bytes of the image.
        needed: u32,
        /// Bytes of the slot.
        capacity: u32,
    },
    /// A write that neither goes on where the last one ended, nor repeats it, nor starts a sector;
    /// that reaches outside the image; or that is not whole units.
    Order {
        /// Where the next write is expected.
        expected: u32,
    },
    /// What was read back has another CRC than was announced.
    Crc {
        /// Announced.
        wanted: u32,
        /// Read back.
        found: u32,
    },
    /// The image in the slot is not sound.
    Image(ImageError),
    /// The image is sound, and the device does not want it.
    NotAccepted,
    /// The patch is not sound, or not for the image that counts.
    Patch(PatchError),
    /// No image counts, where one is needed.
    Empty,
    /// The other slot holds no image that was committed.
    NothingToRollBackTo,
    /// Sequence numbers are used up: the record areas have to be erased from outside.
    SequenceExhausted,
}

impl From<StorageError> for SlotError {
    fn from(_: StorageError) -> Self {
        SlotError::Storage
    }
}

impl fmt::Display for SlotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            SlotError::Layout => write!(f, "the slots do not fit the flash"),
            SlotError::Storage => write!(f, "the flash reports a failure"),
            SlotError::TooLong { needed, capacity } => {
                write!(f, "an image of {needed} bytes for a slot of {capacity}")
            }
            SlotError::Order { expected } => {
                write!(
                    f,
                    "out of order: byte {expected} or a sector's start is next"
                )
            }
            SlotError::Crc { wanted, found } => write!(
                f,
                "read back with CRC {found:08x}, where {wanted:08x} was announced"
            ),
            SlotError::Image(e) => write!(f, "{e}"),
            SlotError::NotAccepted => write!(f, "the image does not fit this device"),
            SlotError::Patch(e) => write!(f, "{e}"),
            SlotError::Empty => write!(f, "there is no image to patch"),
            SlotError::NothingToRollBackTo => {
                write!(f, "the other slot holds no image that was committed")
            }
            SlotError::SequenceExhausted => write!(f, "the sequence numbers are used up"),
        }
    }
}

impl core::error::Error for SlotError {}
