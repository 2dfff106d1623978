//! A view of a checked image.

use super::check;
use super::elementwise::Constant;
use super::error::{ImageError, stated};
use super::header::{HEADER_BYTES, Header};
use super::manifest::{Manifest, TensorDesc};
use super::op::{ChannelRef, Op, TensorId, WeightRef};
use crate::arith::{Multiplier, Rounding};
use crate::weights::{Layout, Rows, row_stride};

/// An image that has passed every check, read in place: nothing is copied.
///
/// There is no way to make one of bytes that have not been checked.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    bytes: &'a [u8],
    header: Header,
    manifest: Manifest<'a>,
}

impl<'a> Model<'a> {
    /// Checks an image of exactly these bytes.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, and where. No bytes lead to a panic.
    pub fn from_bytes(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let header = Header::parse(bytes)?;
        let given = bytes.len() - HEADER_BYTES;
        if header.payload_bytes as usize != given {
            return Err(ImageError::Length {
                stated: header.payload_bytes,
                given: stated(given),
            });
        }
        Self::checked(bytes, header)
    }

    /// Checks an image at the start of a longer piece of memory, such as a flash slot.
    ///
    /// # Errors
    ///
    /// As [`Self::from_bytes`], except that bytes may follow the image.
    pub fn from_slot(slot: &'a [u8]) -> Result<Self, ImageError> {
        let header = Header::parse(slot)?;
        let given = slot.len() - HEADER_BYTES;
        if header.payload_bytes as usize > given {
            return Err(ImageError::Length {
                stated: header.payload_bytes,
                given: stated(given),
            });
        }
        Self::checked(
            &slot[..HEADER_BYTES + header.payload_bytes as usize],
            header,
        )
    }

    fn checked(bytes: &'a [u8], header: Header) -> Result<Self, ImageError> {
        let payload = &bytes[HEADER_BYTES..];
        header.verify_crc(payload)?;
        let (manifest, rest) = Manifest::read(payload).ok_or(ImageError::Manifest)?;
        if !rest.is_empty() {
            return Err(ImageError::Trailing {
                bytes: stated(rest.len()),
            });
        }
        // The weight section is the manifest's last field, so it ends where the image ends.
        let weights_at = bytes.len() - manifest.weights.len();
        let shortest = manifest.pad.len() < 16 && manifest.pad.iter().all(|&b| b == 0);
        if !weights_at.is_multiple_of(16) || !shortest {
            return Err(ImageError::Padding {
                weights_at: stated(weights_at),
            });
        }
        let model = Self {
            bytes,
            header,
            manifest,
        };
        check::check(&model)?;
        Ok(model)
    }

    /// The image, header included.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The header's CRC: a short name for exactly this image.
    pub fn crc(&self) -> u32 {
        self.header.crc
    }

    /// How weights lie in their rows.
    pub fn layout(&self) -> Layout {
        self.header.layout
    }

    /// How accumulators are rounded.
    pub fn rounding(&self) -> Rounding {
        self.header.rounding
    }

    /// Everything else.
    pub fn manifest(&self) -> &Manifest<'a> {
        &self.manifest
    }

    /// Number of tensors.
    pub fn tensor_count(&self) -> usize {
        self.manifest.tensors.len() / TensorDesc::BYTES
    }

    /// A tensor of the table, `None` where there is none of this id.
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub fn get_tensor(&self, id: TensorId) -> Option<TensorDesc> {
        let at = id as usize * TensorDesc::BYTES;
        TensorDesc::from_bytes(self.manifest.tensors.get(at..)?)
    }

    /// A tensor that an operator of this model names.
    ///
    /// # Panics
    ///
    /// If the table has no such tensor; [`Self::get_tensor`] is for ids from elsewhere.
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub fn tensor(&self, id: TensorId) -> TensorDesc {
        self.get_tensor(id)
            .expect("the ids in a checked image are in its tensor table")
    }

    /// The operators in execution order, decoded one at a time.
    pub fn ops(&self) -> Ops<'a> {
        Ops {
            rest: self.manifest.ops,
        }
    }

    /// The tensor that [`Manifest::input`] names.
    pub fn input(&self) -> TensorDesc {
        self.tensor(self.manifest.input)
    }

    /// The tensor that [`Manifest::output`] names.
    pub fn output(&self) -> TensorDesc {
        self.tensor(self.manifest.output)
    }

    /// Bytes that the arena must have.
    pub fn arena_bytes(&self) -> usize {
        self.manifest.arena_bytes as usize
    }

    /// `count` rows of `columns` weights.
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub fn rows(&self, weights: WeightRef, count: usize, columns: usize) -> Rows<'a> {
        let from = weights.offset as usize;
        let bytes = &self.manifest.weights[from..from + count * row_stride(columns, weights.bits)];
        Rows {
            bytes,
            columns,
            bits: weights.bits,
            layout: self.header.layout,
        }
    }

    /// Constants of `count` output channels of the operator that writes `output`.
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub fn channels(
        &self,
        channels: ChannelRef,
        count: usize,
        output: &TensorDesc,
    ) -> Channels<'a> {
        let at = |offset: u32, len: usize| {
            &self.manifest.weights[offset as usize..offset as usize + len]
        };
        Channels {
            bias: at(channels.bias, count * 4),
            mantissas: at(channels.mantissas, count * 4),
            exponents: at(channels.exponents, count),
            zero_point: output.zero_point,
            act_min: channels.act_min,
            act_max: channels.act_max,
        }
    }

    /// The numbers of a constant operand.
    pub fn constant(&self, c: &Constant) -> &'a [u8] {
        &self.manifest.weights[c.offset as usize..c.offset as usize + c.count as usize]
    }

    /// `count` indices, u16, little-endian.
    pub fn indices(&self, offset: u32, count: usize) -> &'a [[u8; 2]] {
        let from = offset as usize;
        self.manifest.weights[from..from + 2 * count].as_chunks().0
    }

    /// The 256 entries of a table.
    pub fn table(&self, offset: u32) -> &'a [u8] {
        &self.manifest.weights[offset as usize..offset as usize + 256]
    }
}

/// Iterator over an image's operators.
#[derive(Clone, Debug)]
pub struct Ops<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Ops<'a> {
    type Item = Op<'a>;

    fn next(&mut self) -> Option<Op<'a>> {
        // `check` has decoded each of them, so only the end of the section ends the iteration.
        Op::take(&mut self.rest)
    }
}

/// Per-output-channel constants, read in place, and the output's zero point and range.
#[derive(Clone, Copy, Debug)]
pub struct Channels<'a> {
    /// `count` i32, little-endian.
    pub bias: &'a [u8],
    /// `count` i32, little-endian.
    pub mantissas: &'a [u8],
    /// `count` i8.
    pub exponents: &'a [u8],
    /// The output tensor's.
    pub zero_point: i8,
    /// Smallest output.
    pub act_min: i8,
    /// Largest output.
    pub act_max: i8,
}

impl Channels<'_> {
    /// Number of output channels.
    pub fn count(&self) -> usize {
        self.exponents.len()
    }

    /// The bias of output channel `c`, in units of input scale * weight scale.
    #[cfg_attr(feature = "fast", inline(always))]
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub fn bias(&self, c: usize) -> i32 {
        read_i32(self.bias, c)
    }

    /// The multiplier of output channel `c`.
    #[cfg_attr(feature = "fast", inline(always))]
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub fn multiplier(&self, c: usize) -> Multiplier {
        Multiplier {
            mantissa: read_i32(self.mantissas, c),
            exponent: self.exponents[c] as i8,
        }
    }

    /// A scaled accumulator as an output: zero point added, clamped to the fused activation.
    #[cfg_attr(feature = "fast", inline(always))]
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub fn finish(&self, scaled: i32) -> i8 {
        finish(scaled, self.zero_point, self.act_min, self.act_max)
    }
}

/// Adds the zero point and clamps. Saturates where a multiplier above one took the value to the
/// end of 32 bits, since the clamp gives the same result then.
#[cfg_attr(feature = "fast", inline(always))]
#[cfg_attr(not(feature = "fast"), inline(never))]
pub fn finish(scaled: i32, zero_point: i8, min: i8, max: i8) -> i8 {
    // min <= max holds in checked images; `max` first and `min` second never panics, unlike clamp.
    scaled
        .saturating_add(zero_point as i32)
        .max(min as i32)
        .min(max as i32) as i8
}

/// Number `i` of little-endian i32s.
#[inline(always)]
fn read_i32(bytes: &[u8], i: usize) -> i32 {
    let b = &bytes[i * 4..i * 4 + 4];
    i32::from_le_bytes([b[0], b[1], b[2], b[3]])
}
