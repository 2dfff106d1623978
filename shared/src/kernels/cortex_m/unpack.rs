//! Rows that the assembly does not read as they lie in the image: 3-bit numbers, and 2- and 4-bit ones in the
//! layout of streams. They become 4-bit fields of [`Layout::Halfwords`], eight numbers a word.

use crate::weights::{Layout, Rows, pack_row};

unsafe extern "C" {
    fn qmend_unpack_3(from: *const u8, fours: usize, to: *mut u32);
}

/// Numbers of a word.
const EIGHT: usize = 8;

/// Bytes of a row of `inputs` numbers, a multiple of eight.
pub(super) const fn row_bytes(inputs: usize) -> usize {
    inputs / 2
}

/// Row `r` from number `at` on, a multiple of thirty-two, as rows of `bits` bits: to bytes, with zeros behind
/// the row's last one, or to fields.
#[cfg_attr(feature = "fast", inline(never))]
pub(super) fn part(rows: &Rows, bits: u8, r: usize, at: usize, to: &mut [u8]) {
    if bits == 8 {
        let from = &rows.row_bytes(r)[at..rows.columns];
        let (there, behind) = to.split_at_mut(from.len().min(to.len()));
        there.copy_from_slice(&from[..there.len()]);
        behind.fill(0);
    } else {
        fields(rows, r, at, to);
    }
}

/// Unpacks row `r` from number `at` on, a multiple of thirty-two, to the whole words of `to`; behind the row's last
/// number they are zeros.
#[inline(never)]
pub(super) fn fields(rows: &Rows, r: usize, at: usize, to: &mut [u8]) {
    let (words, _) = to.as_chunks_mut::<4>();
    let mut done = 0;
    if rows.bits == 3 {
        // Whole words of this part.
        let whole = words.len().min((rows.columns - at) / EIGHT);
        let bytes = &rows.row_bytes(r)[at / EIGHT * 3..];
        done = if super::isa::loads_from(bytes.as_ptr().cast()) {
            whole / 4 * 4
        } else {
            0
        };
        // Four words' numbers are three words.
        assert!(bytes.len() >= done * 3 && words.len() >= done);
        if done > 0 {
            // SAFETY: as asserted; where it matters both are at addresses of words.
            unsafe { qmend_unpack_3(bytes.as_ptr(), done / 4, words.as_mut_ptr().cast()) };
        }
        let (threes, _) = bytes[done * 3..whole * 3].as_chunks::<3>();
        for (to, from) in words[done..].iter_mut().zip(threes) {
            let packed = u32::from_le_bytes([from[0], from[1], from[2], 0]);
            *to = of_three_bits(packed).to_le_bytes();
        }
        done = whole;
    }
    for (i, to) in words.iter_mut().enumerate().skip(done) {
        let mut w = [0i8; EIGHT];
        let from = at + i * EIGHT;
        let count = EIGHT.min(rows.columns.saturating_sub(from));
        rows.decode(r, from, &mut w[..count]);
        // Numbers of at most four bits, and a word's bytes: there is no error.
        let _ = pack_row(&w, 4, Layout::Halfwords, to);
    }
}

/// The word of eight 3-bit numbers, of which the lowest 24 bits are given.
#[inline(always)]
const fn of_three_bits(packed: u32) -> u32 {
    // Four in each number's place: they are 0 to 7 then.
    let packed = packed ^ 0x0092_4924;
    // Pairs of numbers to bytes: a b, e f, c d, g h of a ... h.
    let low = packed & 0x3f | (packed & 0xfc0) << 10;
    let high = packed >> 12 & 0x3f | (packed >> 18 & 0x3f) << 16;
    let pairs = low | high << 8;
    // A number to a field, which is eight more.
    (pairs & 0x0707_0707 | (pairs & 0x3838_3838) << 1) + 0x4444_4444
}
