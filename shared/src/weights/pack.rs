//! Packing a row.

use core::fmt;

use super::layout::{Layout, field_bit, is_width, row_stride};

/// Why a row could not be packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PackError {
    /// Not one of [`WIDTHS`].
    Width(u8),
    /// The weight at this column needs more bits.
    Range {
        /// Index in the row.
        column: usize,
        /// The weight.
        weight: i8,
        /// The width it was to have.
        bits: u8,
    },
    /// The output must be exactly [`row_stride`] bytes long.
    Length {
        /// Bytes that the row takes.
        needed: usize,
        /// Bytes that were given.
        given: usize,
    },
}

impl fmt::Display for PackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PackError::Width(bits) => write!(
                f,
                "weights of {bits} bits are not supported (2, 3, 4 and 8 are)"
            ),
            PackError::Range {
                column,
                weight,
                bits,
            } => {
                write!(
                    f,
                    "weight {weight} at column {column} does not fit in {bits} bits"
                )
            }
            PackError::Length { needed, given } => {
                write!(
                    f,
                    "the packed row takes {needed} bytes but was given {given}"
                )
            }
        }
    }
}

impl core::error::Error for PackError {}

/// Packs one row into `out`, which is [`row_stride`] bytes long; the padding is set to zero.
///
/// # Errors
///
/// A width that is not supported, a weight out of range, or an output of the wrong length.
pub fn pack_row(weights: &[i8], bits: u8, layout: Layout, out: &mut [u8]) -> Result<(), PackError> {
    if !is_width(bits) {
        return Err(PackError::Width(bits));
    }
    let needed = row_stride(weights.len(), bits);
    if out.len() != needed {
        return Err(PackError::Length {
            needed,
            given: out.len(),
        });
    }
    let half = 1i16 << (bits - 1);
    let mask = (1u32 << bits) - 1;
    out.fill(0);
    let mut held = 0u32;
    let mut held_bits = 0u32;
    let mut at = 0;
    for (column, &weight) in weights.iter().enumerate() {
        if !(-half..half).contains(&(weight as i16)) {
            return Err(PackError::Range {
                column,
                weight,
                bits,
            });
        }
        if layout.has_fields(bits as u32) {
            let bit = field_bit(column, bits as u32);
            out[bit / 8] |= ((weight as i16 + half) as u8) << (bit % 8);
            continue;
        }
        held |= (weight as u32 & mask) << held_bits;
        held_bits += bits as u32;
        while held_bits >= 8 {
            out[at] = held as u8;
            at += 1;
            held >>= 8;
            held_bits -= 8;
        }
    }
    if held_bits > 0 {
        out[at] = held as u8;
    }
    Ok(())
}
