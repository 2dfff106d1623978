//! What an image holds besides weights.

use serde::{Deserialize, Serialize};

/// The postcard message behind the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest<'a> {
    /// The model's name in UTF-8, for people: the device does not look at it.
    pub name: &'a [u8],
    /// Tensor table: one [`TensorDesc`] record of [`TensorDesc::BYTES`] bytes each.
    pub tensors: &'a [u8],
    /// [`super::Op`] messages back to back, in execution order.
    pub ops: &'a [u8],
    /// Input tensor.
    pub input: u16,
    /// Output tensor.
    pub output: u16,
    /// Arena that the plan needs, in bytes.
    pub arena_bytes: u32,
    /// What only the host reads (names of operators, preprocessing, class labels): a postcard
    /// message of its own that the device carries and never opens.
    pub notes: &'a [u8],
    /// Zeros that bring `weights` to a multiple of 16 from the image's first byte.
    pub pad: &'a [u8],
    /// Weights, biases, multipliers and tables, little-endian.
    pub weights: &'a [u8],
}

/// One tensor: shape, quantization, and its place in the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorDesc {
    /// Byte offset in the arena.
    pub offset: u32,
    /// Height, width, channels.
    pub shape: [u16; 3],
    /// The integer that stands for real zero.
    pub zero_point: i8,
    /// Bits of the f32 scale: real = scale * (q - zero_point). The device never uses it.
    pub scale_bits: u32,
}

impl TensorDesc {
    /// Size of a record: offset u32, shape 3 x u16, zero point i8, one zero byte, scale u32.
    pub const BYTES: usize = 16;

    /// Number of elements, which is the number of bytes. At most 2^48 by the field widths.
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub const fn elements(&self) -> u64 {
        self.shape[0] as u64 * self.shape[1] as u64 * self.shape[2] as u64
    }

    /// Whether it shares bytes with `bytes` bytes of the arena from `offset` on.
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub const fn overlaps(&self, offset: u64, bytes: u64) -> bool {
        (self.offset as u64) < offset + bytes && offset < self.offset as u64 + self.elements()
    }

    /// The record's bytes.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut b = [0u8; Self::BYTES];
        b[0..4].copy_from_slice(&self.offset.to_le_bytes());
        b[4..6].copy_from_slice(&self.shape[0].to_le_bytes());
        b[6..8].copy_from_slice(&self.shape[1].to_le_bytes());
        b[8..10].copy_from_slice(&self.shape[2].to_le_bytes());
        b[10] = self.zero_point as u8;
        b[12..16].copy_from_slice(&self.scale_bits.to_le_bytes());
        b
    }

    /// Reads a record; `None` where the bytes are too few or the reserved byte is set.
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        let b: &[u8; Self::BYTES] = b.get(..Self::BYTES)?.try_into().ok()?;
        if b[11] != 0 {
            return None;
        }
        Some(Self {
            offset: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            shape: [
                u16::from_le_bytes([b[4], b[5]]),
                u16::from_le_bytes([b[6], b[7]]),
                u16::from_le_bytes([b[8], b[9]]),
            ],
            zero_point: b[10] as i8,
            scale_bits: u32::from_le_bytes([b[12], b[13], b[14], b[15]]),
        })
    }
}
