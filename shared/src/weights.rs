//! Packed weights: rows of two's complement numbers of 2, 3, 4 or 8 bits, in one of two layouts.
//!
//! In both, rows start at multiples of [`ROW_ALIGN`] bytes and take [`row_stride`] bytes: every
//! width costs exactly its bits. Numbers of 3 and of 8 bits are the same bytes in either.
//!
//! [`Layout::Rows`]: a row is a stream of numbers, least significant bit first.
//!
//! [`Layout::Halfwords`]: for kernels that unpack two numbers of 2 or 4 bits with one instruction.
//! A row is a sequence of little-endian 32-bit words of `32 / bits` numbers. Of each four, *a b c d*,
//! number `g` of the word, *a* and *b* are fields `2 * g` and `2 * g + 1` of the word's lower half,
//! *c* and *d* the same fields of its upper half. So a word shifted to the right and masked is the
//! pair (a, c) or (b, d) in two halfwords, which is how a sign-extending unpack instruction
//! (`SXTB16`) orders four bytes as well. A field holds the number plus `2^(bits - 1)`, so that no sign
//! has to be extended.
//!
//! ```
//! use qmend_shared::weights::{Layout, Row, pack_row, row_stride};
//!
//! let mut bytes = [0u8; 4];
//! assert_eq!(row_stride(5, 3), 4);
//! pack_row(&[1, -1, 2, -4, 3], 3, Layout::Rows, &mut bytes).unwrap();
//! // 001, 111, 010, 100, 011 from the least significant bit upwards:
//! // 10_111_001, then 0_011_100_0.
//! assert_eq!(bytes, [0b1011_1001, 0b0011_1000, 0, 0]);
//! assert_eq!(Row::<3>::new(&bytes, Layout::Rows).get(3), -4);
//!
//! pack_row(&[-8, -7, -6, -5, -4, -3], 4, Layout::Halfwords, &mut bytes).unwrap();
//! // a = 0, b = 1, c = 2, d = 3, then a = 4, b = 5: low half 5 4 1 0, high half - - 3 2.
//! assert_eq!(bytes, [0x10, 0x54, 0x32, 0x00]);
//! ```

mod eights;
mod layout;
mod pack;

pub use layout::{Layout, ROW_ALIGN, WIDTHS, is_width, row_bytes, row_stride};
pub use pack::{PackError, pack_row};

use eights::{eight_of_four_bits, eight_of_three_bits, eight_of_two_bits};
use layout::field_bit;

/// A row's numbers, `BITS` bits each.
///
/// `BITS` is a constant so that the inner loops have no width to look at.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a, const BITS: u32> {
    bytes: &'a [u8],
    layout: Layout,
}

impl<'a, const BITS: u32> Row<'a, BITS> {
    /// A row over its packed bytes (at least [`row_bytes`] of them for the columns that are read).
    #[inline]
    pub const fn new(bytes: &'a [u8], layout: Layout) -> Self {
        const { assert!(is_width(BITS as u8)) };
        Self { bytes, layout }
    }

    /// The weight of one column.
    ///
    /// # Panics
    ///
    /// If the column lies beyond the bytes.
    #[inline(always)]
    pub fn get(&self, column: usize) -> i8 {
        if self.layout.has_fields(BITS) {
            let bit = field_bit(column, BITS);
            return field::<BITS>(self.bytes[bit / 8] as u32 >> (bit % 8));
        }
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
        if BITS == 8 {
            let bytes = &self.bytes[start..start + out.len()];
            for (o, &b) in out.iter_mut().zip(bytes) {
                *o = b as i8;
            }
            return;
        }
        let (before, after) = (start, start + out.len());
        // Whole groups of eight in the middle, single numbers before and after them.
        let first = before.next_multiple_of(8).min(after);
        let last = (after / 8 * 8).max(first);
        let (head, rest) = out.split_at_mut(first - before);
        let (middle, tail) = rest.split_at_mut(last - first);
        for (j, o) in head.iter_mut().enumerate() {
            *o = self.get(before + j);
        }
        if BITS == 3 {
            let (groups, _) = self.bytes[first / 8 * 3..].as_chunks();
            let (outs, _) = middle.as_chunks_mut();
            for (out, bytes) in outs.iter_mut().zip(groups) {
                *out = eight_of_three_bits(bytes);
            }
        } else {
            for (j, o) in middle.chunks_exact_mut(8).enumerate() {
                let group = first / 8 + j;
                o.copy_from_slice(&match self.layout.has_fields(BITS) {
                    true => self.fields(group),
                    false => self.group(group),
                });
            }
        }
        for (j, o) in tail.iter_mut().enumerate() {
            *o = self.get(last + j);
        }
    }

    /// Eight weights starting at column `8 * group` of a row of fields.
    #[inline(always)]
    fn fields(&self, group: usize) -> [i8; 8] {
        let at = field_bit(group * 8, BITS) / 8;
        if BITS == 4
            && let Some(word) = self.bytes[at..].first_chunk()
        {
            return eight_of_four_bits(u32::from_le_bytes(*word));
        }
        if BITS == 2
            && let Some(&[low, _, high]) = self.bytes[at..].first_chunk()
        {
            return eight_of_two_bits(low, high);
        }
        let low = u16::from_le_bytes([self.bytes[at], self.bytes.get(at + 1).map_or(0, |b| *b)]);
        let high =
            u16::from_le_bytes([self.bytes[at + 2], self.bytes.get(at + 3).map_or(0, |b| *b)]);
        let [low, high] = [low, high].map(u32::from);
        let mut out = [0i8; 8];
        for (j, o) in out.iter_mut().enumerate() {
            let half = if j % 4 < 2 { low } else { high };
            *o = field::<BITS>(half >> ((j / 4 * 2 + j % 2) as u32 * (BITS & 7)));
        }
        out
    }

    /// `sum of w[start + i] * (x[i] - zero_point)`, wrapping (the caller has proved that the sum
    /// fits, see [`crate::image::check`]).
    #[inline]
    pub fn dot(&self, start: usize, x: &[i8], zero_point: i32) -> i32 {
        if BITS == 8 {
            let bytes = &self.bytes[start..start + x.len()];
            return multiply(bytes.iter().map(|&w| w as i8), x, zero_point);
        }
        let mut buffer = [0i8; 64];
        let mut acc = 0i32;
        for (part, x) in x.chunks(buffer.len()).enumerate() {
            let w = &mut buffer[..x.len()];
            self.decode(start + part * 64, w);
            acc = acc.wrapping_add(multiply(w.iter().copied(), x, zero_point));
        }
        acc
    }
}

/// `sum of w * (x - zero_point)`, wrapping.
#[inline(always)]
fn multiply(w: impl Iterator<Item = i8>, x: &[i8], zero_point: i32) -> i32 {
    x.iter().zip(w).fold(0i32, |acc, (&x, w)| {
        acc.wrapping_add(w as i32 * (x as i32 - zero_point))
    })
}

/// The lowest `BITS` bits, less `2^(BITS - 1)`.
#[inline(always)]
const fn field<const BITS: u32>(low: u32) -> i8 {
    ((low & ((1 << (BITS & 7)) - 1)) as i32 - (1 << (BITS - 1))) as i8
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
    /// How they lie in a row.
    pub layout: Layout,
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
        Row::new(self.row_bytes(r), self.layout)
    }

    /// Whether everything in row `r` behind its last number is zero.
    pub fn padding_is_zero(&self, r: usize) -> bool {
        let bytes = self.row_bytes(r);
        let bits = self.bits as u32;
        if self.layout.has_fields(bits) {
            let fields = bytes.len() * 8 / bits as usize;
            return (self.columns..fields).all(|column| {
                let bit = field_bit(column, bits);
                bytes[bit / 8] >> (bit % 8) & ((1 << bits) - 1) == 0
            });
        }
        let filled = row_bytes(self.columns, self.bits);
        let used_bits = (self.columns % 8) as u32 * bits % 8;
        let last = if used_bits == 0 {
            0
        } else {
            bytes[filled - 1] >> used_bits
        };
        last == 0 && bytes[filled..].iter().all(|&b| b == 0)
    }

    /// Unpacks part of row `r`, whatever its width (`bits` must be one of [`WIDTHS`]).
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub fn decode(&self, r: usize, start: usize, out: &mut [i8]) {
        #[cfg(not(feature = "fast"))]
        return self.decode_any(r, start, out);
        #[cfg(feature = "fast")]
        match self.bits {
            2 => self.row::<2>(r).decode(start, out),
            3 => self.row::<3>(r).decode(start, out),
            4 => self.row::<4>(r).decode(start, out),
            _ => self.row::<8>(r).decode(start, out),
        }
    }

    /// As [`Self::decode`], by one loop for all widths: eight numbers at a time, or a number where its
    /// field is.
    #[cfg(any(test, not(feature = "fast")))]
    fn decode_any(&self, r: usize, start: usize, out: &mut [i8]) {
        let (row, bits) = (self.row_bytes(r), self.bits as u32);
        if bits == 8 {
            for (out, &byte) in out.iter_mut().zip(&row[start..]) {
                *out = byte as i8;
            }
            return;
        }
        let top = 32 - bits;
        if self.layout.has_fields(bits) {
            for (column, out) in (start..).zip(out) {
                let bit = field_bit(column, bits);
                // The field's upper bit is set for numbers that are not negative: its complement
                // is the sign.
                let field = (row[bit / 8] >> (bit % 8)) as u32 ^ 1 << (bits - 1);
                *out = ((field << top) as i32 >> top) as i8;
            }
            return;
        }
        // Eight numbers have as many bytes as a number has bits: at most four.
        let (group, within) = (start / 8, start % 8);
        let mut groups = row[group * bits as usize..].chunks(bits as usize);
        let (head, tail) = out.split_at_mut(out.len().min(8 - within));
        let mut skip = within as u32 * bits;
        for out in core::iter::once(head).chain(tail.chunks_mut(8)) {
            let mut word = 0;
            for &byte in groups.next().unwrap_or(&[]).iter().rev() {
                word = word << 8 | byte as u32;
            }
            word >>= skip;
            skip = 0;
            for out in out {
                *out = ((word << top) as i32 >> top) as i8;
                word >>= bits;
            }
        }
    }

    /// `sum of w[start + i] * (x[i] - zero_point)` of row `r`, as [`Row::dot`].
    #[cfg(any(test, not(feature = "fast")))]
    #[cfg_attr(not(feature = "fast"), inline(never))]
    pub(crate) fn dot(&self, r: usize, start: usize, x: &[i8], zero_point: i32) -> i32 {
        let mut buffer = [0i8; 32];
        let mut acc = 0i32;
        for (part, x) in x.chunks(buffer.len()).enumerate() {
            let w = &mut buffer[..x.len()];
            self.decode_any(r, start + part * 32, w);
            acc = acc.wrapping_add(multiply(w.iter().copied(), x, zero_point));
        }
        acc
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use crate::test_random::Random;
    use std::vec;
    use std::vec::Vec;

    fn check_width<const BITS: u32>(layout: Layout) {
        let mut random = Random::new(BITS as u64);
        let half = 1i32 << (BITS - 1);
        for columns in (0..70).chain([127, 128, 129, 576, 1000]) {
            let w: Vec<i8> = (0..columns)
                .map(|_| random.range(-half, half - 1) as i8)
                .collect();
            let mut bytes = vec![0xffu8; row_stride(columns, BITS as u8)];
            pack_row(&w, BITS as u8, layout, &mut bytes).unwrap();
            assert_eq!(bytes.len() % 4, 0);
            assert!(bytes.len() * 8 < columns * BITS as usize + 32);
            let row = Row::<BITS>::new(&bytes, layout);
            let rows = Rows {
                bytes: &bytes,
                columns,
                bits: BITS as u8,
                layout,
            };
            assert!(rows.padding_is_zero(0));
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
                part.fill(99);
                rows.decode_any(0, start, &mut part);
                assert_eq!(part, &w[start..start + len], "{layout:?} {BITS}");
                let want: i64 = (0..len)
                    .map(|i| w[start + i] as i64 * (x[i] as i64 - zx as i64))
                    .sum();
                assert_eq!(row.dot(start, &x[..len], zx) as i64, want);
                assert_eq!(rows.dot(0, start, &x[..len], zx) as i64, want);
            }
        }
    }

    #[test]
    fn every_width_decodes_what_was_packed_from_any_column_on() {
        for layout in [Layout::Rows, Layout::Halfwords] {
            check_width::<2>(layout);
            check_width::<3>(layout);
            check_width::<4>(layout);
            check_width::<8>(layout);
        }
    }

    #[test]
    fn a_shifted_and_masked_word_is_a_pair_of_halfwords() {
        let w: Vec<i8> = (0..16).map(|i| i - 8).collect();
        let mut bytes = [0u8; 8];
        pack_row(&w, 4, Layout::Halfwords, &mut bytes).unwrap();
        let pairs: Vec<[u8; 2]> = bytes
            .as_chunks::<4>()
            .0
            .iter()
            .flat_map(|b| {
                let word = u32::from_le_bytes(*b);
                [0, 4, 8, 12].map(|s| word >> s & 0x000f_000f)
            })
            .map(|pair| [pair as u8, (pair >> 16) as u8])
            .collect();
        assert_eq!(pairs[..4], [[0, 2], [1, 3], [4, 6], [5, 7]]);
        assert_eq!(pairs[4..], [[8, 10], [9, 11], [12, 14], [13, 15]]);
    }

    #[test]
    fn padding_that_is_not_zero_is_seen_in_every_layout() {
        for (layout, bits, byte) in [
            (Layout::Rows, 4, 0x50u8),
            (Layout::Rows, 8, 0),
            (Layout::Halfwords, 4, 0x10),
            (Layout::Halfwords, 2, 0x10),
        ] {
            let rows = |bytes: [u8; 4]| {
                Rows {
                    bytes: &bytes,
                    columns: 1,
                    bits,
                    layout,
                }
                .padding_is_zero(0)
            };
            assert!(rows([3, 0, 0, 0]), "{layout:?} {bits}");
            assert!(!rows([3, 0, 1, 0]), "{layout:?} {bits}");
            assert!(byte == 0 || !rows([3 | byte, 0, 0, 0]), "{layout:?} {bits}");
        }
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
            pack_row(&[0, 4], 3, Layout::Rows, &mut out),
            Err(PackError::Range {
                column: 1,
                weight: 4,
                bits: 3
            })
        );
        assert_eq!(
            pack_row(&[0], 5, Layout::Rows, &mut out),
            Err(PackError::Width(5))
        );
        assert_eq!(
            pack_row(&[0], 8, Layout::Rows, &mut []),
            Err(PackError::Length {
                needed: 4,
                given: 0
            })
        );
    }
}
