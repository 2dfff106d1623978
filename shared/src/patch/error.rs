use core::fmt;

use serde::{Deserialize, Serialize};

/// Why bytes are no patch, or not one for this base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum PatchError {
    /// Fewer bytes than a header.
    TooShort {
        /// Bytes that there are.
        given: u32,
    },
    /// The first four bytes are not `QPAT`.
    Magic([u8; 4]),
    /// A format version that this reader does not know.
    Version(u8),
    /// A reserved byte is set.
    Reserved,
    /// The header's body length does not agree with the bytes that there are.
    Length {
        /// Body bytes that the header states.
        stated: u32,
        /// Bytes behind the header.
        given: u32,
    },
    /// The bytes were changed or damaged.
    Crc {
        /// The header's CRC.
        stated: u32,
        /// The CRC of the bytes.
        computed: u32,
    },
    /// An operation that is cut off, empty, or reaches outside the base.
    Op {
        /// Where it starts, from the body's first byte.
        at: u32,
    },
    /// The operations give another number of bytes than the header states.
    TargetLength {
        /// The header's.
        stated: u32,
        /// What the operations give.
        given: u32,
    },
    /// The image that is there is not the one that the patch was made for.
    Base {
        /// Length and CRC that the patch asks for.
        wanted: (u32, u32),
        /// Length and CRC that are there.
        found: (u32, u32),
    },
    /// The operations give other bytes than the header states.
    TargetCrc {
        /// The header's.
        stated: u32,
        /// What the operations give.
        computed: u32,
    },
}

impl fmt::Display for PatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PatchError::TooShort { given } => write!(
                f,
                "{given} bytes are too few for a patch's header of {} bytes",
                super::HEADER_BYTES
            ),
            PatchError::Magic(m) => write!(
                f,
                "not a patch: it starts with {m:02x?} instead of \"QPAT\""
            ),
            PatchError::Version(v) => write!(f, "patch version {v} is not known here (byte 4)"),
            PatchError::Reserved => write!(f, "one of the reserved bytes 5 to 7 is not 0"),
            PatchError::Length { stated, given } => write!(
                f,
                "the header announces {stated} bytes of operations (byte 24) but {given} follow it"
            ),
            PatchError::Crc { stated, computed } => write!(
                f,
                "the patch is damaged: its CRC-32 is {computed:08x} but the header says {stated:08x} (byte 28)"
            ),
            PatchError::Op { at } => write!(
                f,
                "the operation at byte {at} of the body is cut off, empty, or reaches outside the base"
            ),
            PatchError::TargetLength { stated, given } => write!(
                f,
                "the operations give {given} bytes but the header announces {stated} (byte 16)"
            ),
            PatchError::Base { wanted, found } => write!(
                f,
                "the patch is for an image of {} bytes with CRC {:08x}; the one that is there has {} bytes and CRC {:08x}",
                wanted.0, wanted.1, found.0, found.1
            ),
            PatchError::TargetCrc { stated, computed } => write!(
                f,
                "the patched image would have CRC {computed:08x} but the header announces {stated:08x} (byte 20)"
            ),
        }
    }
}

impl core::error::Error for PatchError {}
