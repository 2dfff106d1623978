//! Rows of weights as the loops read them, and what columns of activations go with them.
//!
//! Bytes are multiplied with activations as they are. Fields of 2 and 4 bits, weights plus half
//! their range, are unpacked in registers, a field of each byte at a time, and multiplied with
//! activations plus 128: neither is negative then, and what that adds to a sum is known: with `f = w + h`
//! and `x' = x + 128`, `sum w * (x - z) = sum f * x' - z' * sum f - h * (sum x' - n * z')`. The last term is the
//! column's, the second the row's, and nothing at the usual zero point of -128.

use super::isa::{self, qmend_spread_2, qmend_spread_4, qmend_unpack_3};
use crate::weights::{Layout, Rows, row_stride};

/// Bytes of a vector.
pub(super) const VECTOR: usize = 16;

/// The form of rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    /// 8 for bytes, else the width of fields.
    pub bits: u8,
    /// Whether rows lie in the image in this form; else they are unpacked to bytes first.
    pub direct: bool,
    /// Numbers in a row.
    pub columns: usize,
    /// Bytes of a row that are multiplied.
    pub row_bytes: usize,
    /// Bytes from a row's start to the next one's, in the image.
    pub packed: usize,
    /// The same of the rows that are multiplied.
    pub stride: usize,
    /// Bytes of a row's vectors: how far the assembly's pointers move in a row.
    pub advance: usize,
    /// Bytes of a column.
    pub column_bytes: usize,
}

impl Form {
    #[inline(always)]
    pub fn of(rows: &Rows) -> Self {
        let columns = rows.columns;
        let fields = matches!(rows.bits, 2 | 4) && rows.layout == Layout::Halfwords;
        let direct = rows.bits == 8 || fields;
        let packed = row_stride(columns, rows.bits);
        let stride = if direct { packed } else { columns };
        let row_bytes = if fields { stride } else { columns };
        let advance = row_bytes.next_multiple_of(VECTOR);
        let column_bytes = match (fields, rows.bits) {
            (false, _) => columns,
            (true, 2) => 4 * advance,
            (true, _) => 2 * advance,
        };
        Self {
            bits: if direct { rows.bits } else { 8 },
            direct,
            columns,
            row_bytes,
            packed,
            stride,
            advance,
            column_bytes,
        }
    }

    /// The form of a block of rows: `inputs` numbers from number `at` on, which is a multiple of what a vector of
    /// fields holds. And at which byte of a row it begins.
    pub fn block(&self, at: usize, inputs: usize) -> (Self, usize) {
        let bits = self.bits as usize;
        let start = at * bits / 8;
        let row_bytes = match self.bits {
            8 => inputs,
            _ => (self.row_bytes - start).min((inputs * bits).div_ceil(8)),
        };
        let advance = row_bytes.next_multiple_of(VECTOR);
        let column_bytes = match self.bits {
            8 => inputs,
            _ => advance * 8 / bits,
        };
        let block = Self {
            columns: inputs,
            row_bytes,
            advance,
            column_bytes,
            stride: if self.direct { self.stride } else { inputs },
            ..*self
        };
        (block, start)
    }

    /// Half the range of a field.
    pub fn half(&self) -> i32 {
        1 << (self.bits - 1)
    }

    /// Puts activations in the order of fields, and returns their sum with 128 added to each. Those
    /// behind the last are -128.
    pub fn spread(&self, from: &[i8], to: &mut [u8]) -> i32 {
        let vectors = self.advance / VECTOR;
        assert!(from.len() >= self.column_bytes && to.len() >= self.column_bytes);
        // SAFETY: a column's bytes are read and written.
        unsafe {
            match self.bits {
                2 => qmend_spread_2(from.as_ptr(), vectors, to.as_mut_ptr()),
                _ => qmend_spread_4(from.as_ptr(), vectors, to.as_mut_ptr()),
            }
        }
    }

    /// The column's part of a sum: see the module's head. `sum` is [`Self::spread`]'s.
    pub fn column_offset(&self, sum: i32, zero_point: i8) -> i32 {
        let zero = raised(zero_point).wrapping_mul(self.columns as i32);
        self.half().wrapping_mul(zero.wrapping_sub(sum))
    }
}

/// The zero point of activations to which 128 was added.
pub(super) fn raised(zero_point: i8) -> i32 {
    zero_point as i32 + 128
}

/// Unpacks row `r` from number `at` on, a multiple of sixteen.
pub(super) fn unpack(rows: &Rows, r: usize, at: usize, to: &mut [i8]) {
    let columns = to.len();
    assert!(at + columns <= rows.columns);
    let mut done = 0;
    if rows.bits == 3 {
        let bytes = &rows.row_bytes(r)[at / 8 * 3..];
        let sixteens = columns / 16;
        assert!(bytes.len() >= 6 * sixteens);
        if sixteens > 0 {
            // SAFETY: sixteen numbers are six bytes and become sixteen.
            unsafe { qmend_unpack_3(bytes.as_ptr(), sixteens, to.as_mut_ptr()) };
            done = 16 * sixteens;
        }
    }
    if done < columns {
        rows.decode(r, at + done, &mut to[done..]);
    }
}

/// Room for numbers of 32 bits and for bytes behind them; `None` where there is too little.
pub(super) fn split(scratch: &mut [i8], words: usize) -> Option<(&mut [i32], &mut [i8])> {
    // SAFETY: every bit pattern is a number of either type.
    let (_, all, _) = unsafe { scratch.align_to_mut::<i32>() };
    let (words, rest) = all.split_at_mut_checked(words)?;
    // SAFETY: as above; bytes are always aligned.
    let (_, bytes, _) = unsafe { rest.align_to_mut::<i8>() };
    Some((words, bytes))
}

/// The same bytes without a sign.
pub(super) fn unsigned(bytes: &mut [i8]) -> &mut [u8] {
    // SAFETY: every bit pattern is a number of either type, and both are as large.
    unsafe { core::slice::from_raw_parts_mut(bytes.as_mut_ptr().cast(), bytes.len()) }
}

/// The same bytes with a sign.
pub(super) fn signed(bytes: &[u8]) -> &[i8] {
    // SAFETY: as in [`unsigned`].
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

/// Bytes that [`isa::Block`] and [`isa::Product`] have to move to the row `rows` further.
pub(super) fn delta(form: &Form, rows: usize) -> isize {
    (rows * form.stride) as isize - form.advance as isize
}

/// Fills bytes with one.
pub(super) fn fill(to: &mut [i8], byte: i8) {
    if !to.is_empty() {
        // SAFETY: these bytes are written.
        unsafe { isa::qmend_fill(to.as_mut_ptr(), byte as i32, to.len()) };
    }
}

/// Copies `runs` runs of `bytes` bytes, `step` from one's start to the next one's, back to back.
pub(super) fn copy(to: &mut [i8], from: &[i8], bytes: usize, runs: usize, step: usize) {
    if bytes == 0 || runs == 0 {
        return;
    }
    assert!(to.len() >= bytes * runs && from.len() >= (runs - 1) * step + bytes);
    // SAFETY: as asserted.
    unsafe { isa::qmend_copy(to.as_mut_ptr(), from.as_ptr(), bytes, runs, step) };
}
