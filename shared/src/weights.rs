//! Packed weights, layout tag 0 ("portable rows").
//!
//! A row is a stream of two's complement numbers of 2, 3, 4 or 8 bits, least significant bit
//! first, padded with zero bits to a whole byte; rows start at multiples of [`ROW_ALIGN`] bytes.
//! Eight numbers of `b` bits fill exactly `b` bytes, so the decoder works in groups of eight and
//! every width costs exactly its bits (3-bit weights too).
//!
//! ```
//! use qmend_shared::weights::{Row, pack_row, row_stride};
//!
//! let mut bytes = [0u8; 4];
//! assert_eq!(row_stride(5, 3), 4);
//! pack_row(&[1, -1, 2, -4, 3], 3, &mut bytes).unwrap();
//! // 001, 111, 010, 100, 011 from the least significant bit upwards:
//! // 10_111_001, then 0_011_100_0.
//! assert_eq!(bytes, [0b1011_1001, 0b0011_1000, 0, 0]);
//! assert_eq!(Row::<3>::new(&bytes).get(3), -4);
//! ```

use core::fmt;

/// Rows start at multiples of this many bytes from the first row.
pub const ROW_ALIGN: usize = 4;

/// The widths that a weight may have, in bits.
pub const WIDTHS: [u8; 4] = [2, 3, 4, 8];

/// Whether `bits` is one of [`WIDTHS`].
pub const fn is_width(bits: u8) -> bool {
    matches!(bits, 2 | 3 | 4 | 8)
}

/// Bytes that the numbers of one row fill, the padding between rows not counted.
pub const fn row_bytes(columns: usize, bits: u8) -> usize {
    // Groups of eight fill `bits` bytes; written so that nothing overflows for any slice's length.
    columns / 8 * bits as usize + (columns % 8 * bits as usize).div_ceil(8)
}

/// Bytes from one row's start to the next one's.
pub const fn row_stride(columns: usize, bits: u8) -> usize {
    row_bytes(columns, bits).next_multiple_of(ROW_ALIGN)
}

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
pub fn pack_row(weights: &[i8], bits: u8, out: &mut [u8]) -> Result<(), PackError> {
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

/// A row's numbers, `BITS` bits each.
///
/// `BITS` is a constant so that the inner loops have no width to look at.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a, const BITS: u32> {
    bytes: &'a [u8],
}

impl<'a, const BITS: u32> Row<'a, BITS> {
    /// A row over its packed bytes (at least [`row_bytes`] of them for the columns that are read).
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        const { assert!(is_width(BITS as u8)) };
        Self { bytes }
    }

    /// The weight of one column.
    ///
    /// # Panics
    ///
    /// If the column lies beyond the bytes.
    #[inline(always)]
    pub fn get(&self, column: usize) -> i8 {
        let (group, within) = (column / 8, column % 8);
        let bit = within as u32 * BITS;
        let at = group * BITS as usize + (bit / 8) as usize;
        let low = self.bytes[at] as u32;
        // Only 3-bit numbers cross bytes, and a number that does has its second byte in the row.
        let high = if BITS == 3 && bit % 8 > 5 {
            self.bytes[at + 1] as u32
        } else {
            0
        };
        sign_extend::<BITS>((low | high << 8) >> (bit % 8))
    }

    /// Eight weights starting at column `8 * group`.
    #[inline(always)]
    fn group(&self, group: usize) -> [i8; 8] {
        let at = group * BITS as usize;
        let mut word = [0u8; 8];
        word[..BITS as usize].copy_from_slice(&self.bytes[at..at + BITS as usize]);
        if BITS == 8 {
            return word.map(|b| b as i8);
        }
        let packed = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        let mut out = [0i8; 8];
        for (j, o) in out.iter_mut().enumerate() {
            *o = sign_extend::<BITS>(packed >> (j as u32 * (BITS & 7)));
        }
        out
    }

    /// Unpacks `out.len()` weights from column `start` on.
    #[inline]
    pub fn decode(&self, start: usize, out: &mut [i8]) {
        let head = (start.wrapping_neg() % 8).min(out.len());
        let (first, rest) = out.split_at_mut(head);
        for (j, o) in first.iter_mut().enumerate() {
            *o = self.get(start + j);
        }
        let mut column = start + head;
        let mut groups = rest.chunks_exact_mut(8);
        for o in &mut groups {
            o.copy_from_slice(&self.group(column / 8));
            column += 8;
        }
        for (j, o) in groups.into_remainder().iter_mut().enumerate() {
            *o = self.get(column + j);
        }
    }

    /// `sum of w[start + i] * (x[i] - zero_point)`, wrapping (the caller has proved that the sum
    /// fits, see [`crate::image::check`]).
    #[inline]
    pub fn dot(&self, start: usize, x: &[i8], zero_point: i32) -> i32 {
        let mut acc = 0i32;
        let mut mac = |w: i8, x: i8| acc = acc.wrapping_add(w as i32 * (x as i32 - zero_point));
        if BITS == 8 {
            for (&w, &x) in self.bytes[start..start + x.len()].iter().zip(x) {
                mac(w as i8, x);
            }
            return acc;
        }
        let (first, rest) = x.split_at((start.wrapping_neg() % 8).min(x.len()));
        for (j, &x) in first.iter().enumerate() {
            mac(self.get(start + j), x);
        }
        let mut column = start + first.len();
        let groups = rest.chunks_exact(8);
        let last = groups.remainder();
        for x in groups {
            for (w, &x) in self.group(column / 8).into_iter().zip(x) {
                mac(w, x);
            }
            column += 8;
        }
        for (j, &x) in last.iter().enumerate() {
            mac(self.get(column + j), x);
        }
        acc
    }
}

/// The lowest `BITS` bits as a two's complement number.
#[inline(always)]
const fn sign_extend<const BITS: u32>(low: u32) -> i8 {
    ((low << (32 - BITS)) as i32 >> (32 - BITS)) as i8
}

/// Rows back to back.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// All rows, [`row_stride`] bytes each.
    pub bytes: &'a [u8],
    /// Weights in one row.
    pub columns: usize,
    /// Width of a weight.
    pub bits: u8,
}

impl<'a> Rows<'a> {
    /// Bytes of row `r`, its padding included.
    #[inline]
    pub fn row_bytes(&self, r: usize) -> &'a [u8] {
        let stride = row_stride(self.columns, self.bits);
        &self.bytes[r * stride..(r + 1) * stride]
    }

    /// Row `r`. `BITS` is [`Self::bits`].
    #[inline]
    pub fn row<const BITS: u32>(&self, r: usize) -> Row<'a, BITS> {
        Row::new(self.row_bytes(r))
    }

    /// Unpacks part of row `r`, whatever its width (`bits` must be one of [`WIDTHS`]).
    pub fn decode(&self, r: usize, start: usize, out: &mut [i8]) {
        match self.bits {
            2 => self.row::<2>(r).decode(start, out),
            3 => self.row::<3>(r).decode(start, out),
            4 => self.row::<4>(r).decode(start, out),
            _ => self.row::<8>(r).decode(start, out),
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::test_random::Random;
    use std::vec;
    use std::vec::Vec;

    fn check_width<const BITS: u32>() {
        let mut random = Random::new(BITS as u64);
        let half = 1i32 << (BITS - 1);
        for columns in (0..70).chain([127, 128, 129, 576, 1000]) {
            let w: Vec<i8> = (0..columns)
                .map(|_| random.range(-half, half - 1) as i8)
                .collect();
            let mut bytes = vec![0xffu8; row_stride(columns, BITS as u8)];
            pack_row(&w, BITS as u8, &mut bytes).unwrap();
            assert_eq!(bytes.len() % 4, 0);
            assert!(bytes.len() * 8 < columns * BITS as usize + 32);
            let row = Row::<BITS>::new(&bytes);
            for (i, &w) in w.iter().enumerate() {
                assert_eq!(row.get(i), w, "column {i} of {columns} at {BITS} bits");
            }
            let x: Vec<i8> = (0..columns).map(|_| random.i8()).collect();
            let zx = random.i8() as i32;
            for _ in 0..8 {
                let start = random.range(0, columns as i32) as usize;
                let len = random.range(0, (columns - start) as i32) as usize;
                let mut part = vec![0i8; len];
                row.decode(start, &mut part);
                assert_eq!(part, &w[start..start + len]);
                let want: i64 = (0..len)
                    .map(|i| w[start + i] as i64 * (x[i] as i64 - zx as i64))
                    .sum();
                assert_eq!(row.dot(start, &x[..len], zx) as i64, want);
            }
        }
    }

    #[test]
    fn every_width_decodes_what_was_packed_from_any_column_on() {
        check_width::<2>();
        check_width::<3>();
        check_width::<4>();
        check_width::<8>();
    }

    #[test]
    fn eight_three_bit_weights_fill_three_bytes() {
        assert_eq!(row_bytes(8, 3), 3);
        assert_eq!(row_bytes(96, 3), 36);
        assert_eq!(row_stride(96, 3), 36);
        assert_eq!(row_bytes(9, 3), 4);
    }

    #[test]
    fn a_weight_beyond_its_width_is_refused_with_its_column() {
        let mut out = [0u8; 4];
        assert_eq!(
            pack_row(&[0, 4], 3, &mut out),
            Err(PackError::Range {
                column: 1,
                weight: 4,
                bits: 3
            })
        );
        assert_eq!(pack_row(&[0], 5, &mut out), Err(PackError::Width(5)));
        assert_eq!(
            pack_row(&[0], 8, &mut []),
            Err(PackError::Length {
                needed: 4,
                given: 0
            })
        );
    }
}
