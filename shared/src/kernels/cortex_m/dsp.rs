//! Cortex-M4, M7 and M33: two products an instruction (`SMLAD`).
//!
//! A column holds halfwords: of each four activations *a b c d*, less the zero point, the words
//! (a, c) and (b, d), as `SXTAB16` makes them of four bytes and as weights come out of a word.

use core::arch::global_asm;

use super::conv::Block;
use crate::weights::{Layout, Rows};

pub(super) const NAME: &str = "Cortex-M with DSP extension";

global_asm!(include_str!("dsp.s"), options(raw));

unsafe extern "C" {
    fn qmend_conv_8(block: *mut Block);
    fn qmend_conv_4(block: *mut Block);
    fn qmend_conv_2(block: *mut Block);
    fn qmend_spread(source: *const i8, fours: usize, to: *mut u32, minus_zero: u32);
    fn qmend_column_sums(from: *const u32, end: *const u32, sums: *mut i32);
}

/// Words that a column of `inputs` activations takes in a block of four columns.
pub(super) const fn column_words(inputs: usize, _bits: u8) -> usize {
    inputs / 2
}

/// Whether the assembly reads rows as they lie in the image; else they are unpacked to bytes first.
pub(super) fn reads(rows: &Rows) -> bool {
    // A word may be loaded from any address.
    match rows.bits {
        8 => true,
        2 | 4 => rows.layout == Layout::Halfwords,
        _ => false,
    }
}

/// Whether words may be loaded from this address.
pub(super) fn loads_from(_: *const i8) -> bool {
    true
}

/// Spreads four times `fours` activations into a column.
///
/// # Safety
///
/// `source` has as many bytes to read and `to` is the start of a column with room for them.
#[inline]
pub(super) unsafe fn spread(
    source: *const i8,
    fours: usize,
    to: *mut u32,
    zero_point: i8,
    _bits: u8,
) {
    if fours == 0 {
        return;
    }
    let minus = -(zero_point as i32) as u16 as u32;
    // SAFETY: by contract; the function writes every fourth word, `2 * fours` of them.
    unsafe { qmend_spread(source, fours, to, minus << 16 | minus) }
}

/// What a column holds where a tap is outside the input.
pub(super) const fn outside(_zero_point: i8, _bits: u8) -> u32 {
    0
}

/// Runs a block; returns when all channels are done or one is to be scaled by hand.
///
/// # Safety
///
/// As [`Block`]'s fields say.
pub(super) unsafe fn run(block: &mut Block, bits: u8) {
    // SAFETY: by contract.
    unsafe {
        match bits {
            2 => qmend_conv_2(block),
            4 => qmend_conv_4(block),
            _ => qmend_conv_8(block),
        }
    }
}

/// What is to be added to the four sums of every channel, because fields hold weights plus
/// `2^(bits - 1)`.
///
/// # Safety
///
/// The block's activations are filled, `4 * inputs` of them, `inputs` a multiple of eight.
pub(super) unsafe fn offsets(block: &Block, bits: u8, _zero_point: i8) -> [i32; 4] {
    if bits == 8 {
        return [0; 4];
    }
    let mut sums = [0; 4];
    // SAFETY: by contract; eight words are read at a time.
    unsafe { qmend_column_sums(block.x, block.x_end, &raw mut sums[0]) };
    sums.map(|s| s.wrapping_mul(-(1 << (bits - 1))))
}
