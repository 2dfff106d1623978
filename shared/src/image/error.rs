//! Why an image was refused.

use core::fmt;

use serde::{Deserialize, Serialize};

use super::op::TensorId;

/// Why bytes are not an image that this version can run. Nothing here allocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ImageError {
    /// Fewer bytes than a header.
    TooShort {
        /// Bytes that there are.
        given: u32,
    },
    /// The first four bytes are not `QMND`.
    Magic([u8; 4]),
    /// A format version that this reader does not know.
    Version(u8),
    /// A rounding rule that this reader does not know.
    Rounding(u8),
    /// A weight layout that this reader does not know.
    Layout(u8),
    /// The header's reserved byte is set.
    Reserved(u8),
    /// The header's payload length does not agree with the bytes that there are.
    Length {
        /// Payload bytes that the header states.
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
    /// The payload is not a manifest.
    Manifest,
    /// Bytes between the manifest's end and the payload's end.
    Trailing {
        /// How many.
        bytes: u32,
    },
    /// The weight section does not start at a multiple of 16, or the padding before it is not the
    /// shortest run of zeros.
    Padding {
        /// Where the weight section starts, from the image's first byte.
        weights_at: u32,
    },
    /// The tensor table is empty, not whole records, or longer than ids reach.
    TensorTable {
        /// Its length in bytes.
        bytes: u32,
    },
    /// A tensor's record is malformed or it does not lie in the arena.
    Tensor {
        /// Which.
        tensor: TensorId,
        /// What is wrong.
        fault: TensorFault,
    },
    /// More operators than [`super::MAX_OPS`].
    TooManyOps,
    /// An operator that must not be run.
    Op {
        /// Its position in execution order, from 0.
        index: u16,
        /// Offset of its message in the operator section.
        at: u32,
        /// What is wrong.
        fault: OpFault,
    },
    /// The model's input is not in the tensor table.
    Input(TensorId),
    /// The model's output is not in the tensor table, or does not hold a result at the end.
    Output(TensorId),
}

/// What is wrong with a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum TensorFault {
    /// The record's reserved byte is set.
    Record,
    /// An axis of length zero.
    Empty,
    /// It ends beyond the arena.
    OutsideArena,
}

/// What is wrong with an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OpFault {
    /// Its bytes are not an operator that this version knows.
    Undecodable,
    /// A tensor that is not in the table.
    UnknownTensor(TensorId),
    /// The output's shape does not follow from the inputs' shapes.
    Shape,
    /// A kernel, stride or dilation of zero.
    Window,
    /// More than 255 rows or columns of padding, fewer windows than fit on the input, or (in
    /// pooling) a window without any input.
    WindowPlace,
    /// Channels that do not divide into the groups.
    Groups,
    /// A width of weights that is not supported.
    WeightWidth(u8),
    /// Constants that do not lie in the weight section.
    Range {
        /// Where they would start.
        offset: u32,
    },
    /// Constants at an offset that is not a multiple of 4.
    Alignment {
        /// The offset.
        offset: u32,
    },
    /// Bits that are set in the padding of packed weights.
    RowPadding {
        /// Which row.
        row: u32,
    },
    /// A multiplier outside the range of its type, or not below one where it must be.
    Multiplier {
        /// Output channel, or index of the operand.
        channel: u32,
    },
    /// An accumulator that might not fit in 32 bits.
    Accumulator {
        /// Output channel.
        channel: u32,
    },
    /// The smallest output is above the largest.
    ActivationRange,
    /// Zero points that must agree and do not.
    ZeroPoint,
    /// Not an axis, or not a permutation of the axes.
    Axis,
    /// A list of inputs that is empty, too long, or not whole records.
    Inputs,
    /// Settings of a softmax that would overflow.
    Softmax,
    /// A row or column that the input has not.
    Index,
    /// Hints that are not working memory in the arena, apart from the operands.
    Hints,
    /// The output lies on an input in a way that this operator cannot work in.
    Overlap(TensorId),
    /// An input that no earlier operator has written, or that another one has overwritten.
    NotThere(TensorId),
    /// An output that is the model's input or that an earlier operator has written.
    WrittenTwice(TensorId),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ImageError::TooShort { given } => {
                write!(
                    f,
                    "{given} bytes are too few for an image's header of {} bytes",
                    super::HEADER_BYTES
                )
            }
            ImageError::Magic(m) => write!(
                f,
                "not an image: it starts with {m:02x?} instead of \"QMND\""
            ),
            ImageError::Version(v) => write!(f, "format version {v} is not known here (byte 4)"),
            ImageError::Rounding(t) => write!(f, "rounding rule {t} is not known here (byte 5)"),
            ImageError::Layout(t) => write!(f, "weight layout {t} is not known here (byte 6)"),
            ImageError::Reserved(b) => write!(f, "the reserved byte 7 is {b} instead of 0"),
            ImageError::Length { stated, given } => {
                write!(
                    f,
                    "the header announces {stated} payload bytes (byte 8) but {given} follow it"
                )
            }
            ImageError::Crc { stated, computed } => write!(
                f,
                "the image is damaged: its CRC-32 is {computed:08x} but the header says {stated:08x} (byte 12)"
            ),
            ImageError::Manifest => write!(f, "the payload (byte 16) is not a manifest"),
            ImageError::Trailing { bytes } => write!(f, "{bytes} bytes follow the manifest's end"),
            ImageError::Padding { weights_at } => {
                write!(
                    f,
                    "the weight section at byte {weights_at} is not padded to a multiple of 16"
                )
            }
            ImageError::TensorTable { bytes } => {
                write!(
                    f,
                    "a tensor table of {bytes} bytes is empty, too long or not whole records of 16 bytes"
                )
            }
            ImageError::Tensor { tensor, fault } => write!(f, "tensor {tensor}: {fault}"),
            ImageError::TooManyOps => write!(f, "more than {} operators", super::MAX_OPS),
            ImageError::Op { index, at, fault } => {
                write!(
                    f,
                    "operator {index} (byte {at} of the operator section): {fault}"
                )
            }
            ImageError::Input(t) => write!(f, "the model's input, tensor {t}, does not exist"),
            ImageError::Output(t) => {
                write!(
                    f,
                    "the model's output, tensor {t}, does not exist or holds no result at the end"
                )
            }
        }
    }
}

impl fmt::Display for TensorFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TensorFault::Record => "the reserved byte of its record is not 0",
            TensorFault::Empty => "an axis has length 0",
            TensorFault::OutsideArena => "it ends beyond the arena",
        })
    }
}

impl fmt::Display for OpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            OpFault::Undecodable => write!(f, "not an operator that is known here"),
            OpFault::UnknownTensor(t) => write!(f, "tensor {t} is not in the table"),
            OpFault::Shape => write!(f, "the output's shape does not follow from its inputs"),
            OpFault::Window => write!(f, "kernel, stride and dilation must be at least 1"),
            OpFault::WindowPlace => write!(
                f,
                "a window hangs over by more than 255 or pools padding alone, or windows that fit are missing"
            ),
            OpFault::Groups => write!(f, "the channels do not divide into the groups"),
            OpFault::WeightWidth(b) => write!(
                f,
                "weights of {b} bits are not supported (2, 3, 4 and 8 are)"
            ),
            OpFault::Range { offset } => {
                write!(f, "constants at {offset} end beyond the weight section")
            }
            OpFault::Alignment { offset } => {
                write!(f, "constants at {offset} are not at a multiple of 4")
            }
            OpFault::RowPadding { row } => write!(f, "the padding of weight row {row} is not zero"),
            OpFault::Multiplier { channel } => write!(f, "multiplier {channel} is out of range"),
            OpFault::Accumulator { channel } => {
                write!(
                    f,
                    "the accumulator of channel {channel} might not fit in 32 bits"
                )
            }
            OpFault::ActivationRange => write!(f, "the smallest output is above the largest"),
            OpFault::ZeroPoint => write!(f, "the zero points of input and output do not agree"),
            OpFault::Axis => write!(f, "not an axis, or not a permutation of the axes"),
            OpFault::Inputs => write!(f, "the list of inputs is empty, too long or cut off"),
            OpFault::Softmax => {
                write!(f, "the softmax's multiplier, shift or range would overflow")
            }
            OpFault::Index => write!(f, "a row or column is none of its input's"),
            OpFault::Hints => write!(
                f,
                "the hints are not working memory in the arena, apart from the operands"
            ),
            OpFault::Overlap(t) => write!(
                f,
                "the output's place in the arena overlaps input tensor {t}"
            ),
            OpFault::NotThere(t) => write!(
                f,
                "input tensor {t} was never written or has been overwritten"
            ),
            OpFault::WrittenTwice(t) => write!(f, "output tensor {t} already has a value"),
        }
    }
}

impl core::error::Error for ImageError {}

/// A length as errors state it: 2^32 - 1 where it is larger.
pub(crate) fn stated(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
