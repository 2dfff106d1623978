//! Cortex-M4, M7 and M33: two products an instruction (`SMLAD`).
//!
//! A column holds halfwords: of each four activations *a b c d*, less the zero point, the words
//! (a, c) and (b, d), as `SXTAB16` makes them of four bytes and as weights come out of a word.

use core::arch::global_asm;

use super::conv::Block;
use super::depthwise::Run;
use super::fully_connected::Product;
use crate::weights::{Layout, Rows};

/// What records hold the bias times.
pub(super) const BIAS_SCALE: i32 = 2;

/// Whether the assembly adds the sums of channels that it does not scale to others.
pub(super) const ADDS_SUMS: bool = true;

/// Whether rows of three taps inside have a function of their own.
pub(super) const THREE: bool = true;

pub(super) const NAME: &str = "Cortex-M with DSP extension";

/// In Armv8-M the extension is an option, and assembly in a file does not know the compiler's flags.
#[cfg(qmend_armv8m)]
macro_rules! extension {
    () => {
        ".cpu cortex-m33"
    };
}
#[cfg(not(qmend_armv8m))]
macro_rules! extension {
    () => {
        ""
    };
}

global_asm!(
    extension!(),
    include_str!("common.s"),
    include_str!("dsp.s"),
    options(raw)
);

unsafe extern "C" {
    fn qmend_conv_8(block: *mut Block);
    fn qmend_conv_4(block: *mut Block);
    fn qmend_conv_2(block: *mut Block);
    fn qmend_spread(source: *const i8, fours: usize, to: *mut u32, minus_zero: u32);
    fn qmend_depthwise(run: *mut Run);
    fn qmend_depthwise_3(run: *mut Run);
    fn qmend_spread_row(source: *const i8, fours: usize, to: *mut u32, minus_zero: u32);
    fn qmend_fc_8(product: *mut Product);
    fn qmend_fc_4(product: *mut Product);
    fn qmend_fc_2(product: *mut Product);
    fn qmend_spread_sum(source: *const i8, fours: usize, to: *mut u32, minus_zero: u32) -> i32;
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

/// Spreads four times `fours` activations into a column; for fields, returns the sum of their
/// differences to the zero point.
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
    bits: u8,
) -> i32 {
    if fours == 0 {
        return 0;
    }
    let zero = minus_zero(zero_point);
    // SAFETY: by contract; every fourth word is written, `2 * fours` of them.
    unsafe {
        if bits == 8 {
            qmend_spread(source, fours, to, zero);
            0
        } else {
            qmend_spread_sum(source, fours, to, zero)
        }
    }
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

/// Whether [`bias_offset`] may be other than zero.
pub(super) const fn raises(_bits: u8, _zero_point: i8) -> bool {
    false
}

/// What is to be added to a channel's bias because of how activations are spread.
pub(super) fn bias_offset(_row: &[u8], _bits: u8, _zero_point: i8) -> i32 {
    0
}

/// Words of a depthwise tap's four weights.
pub(super) const TAP_WORDS: usize = 2;

/// Four weights in the order in which the activations of four channels come out of a word.
#[inline(always)]
pub(super) fn pack_tap(w: [i8; 4], to: &mut [u32; TAP_WORDS]) {
    let [a, b, c, d] = w.map(|w| w as u16 as u32);
    *to = [a | c << 16, b | d << 16];
}

/// As [`pack_tap`], of fields of `BITS` bits: two in each of two bytes, in their lowest bits.
#[inline(always)]
pub(super) fn pack_fields<const BITS: u32>([low, high]: [u8; 2], to: &mut [u32; TAP_WORDS]) {
    let word = low as u32 | (high as u32) << 16;
    let (mask, half) = ((1 << BITS) - 1, 1 << (BITS - 1));
    *to = [word, word >> BITS].map(|w| {
        let pair = w & (mask | mask << 16);
        // Half the range less, in each half; the upper bits keep borrows from leaving it.
        ((pair | 0x8000_8000) - (half | half << 16)) ^ 0x8000_8000
    });
}

/// What `SXTAB16` adds to two activations.
pub(super) fn minus_zero(zero_point: i8) -> u32 {
    let minus = -(zero_point as i32) as u16 as u32;
    minus << 16 | minus
}

/// Runs four channels of a run of positions. `three`: rows have three taps, and none is outside.
///
/// # Safety
///
/// As [`Run`]'s fields say.
pub(super) unsafe fn depthwise(run: &mut Run, three: bool) {
    // SAFETY: by contract.
    unsafe {
        if three {
            qmend_depthwise_3(run);
        } else {
            qmend_depthwise(run);
        }
    }
}

/// Inputs that a body of [`product`]'s main loop takes, and of its rest's.
pub(super) const fn product_bodies(bits: u8) -> [usize; 2] {
    match bits {
        2 => [32, 16],
        4 => [32, 8],
        _ => [16, 4],
    }
}

/// Words that a fully connected layer's input takes.
pub(super) const fn row_words(inputs: usize, _bits: u8) -> usize {
    inputs / 2
}

/// As [`spread`], without gaps.
///
/// # Safety
///
/// `source` has as many bytes to read and `to` room for [`row_words`].
pub(super) unsafe fn spread_row(
    source: *const i8,
    fours: usize,
    to: *mut u32,
    zero_point: i8,
    bits: u8,
) -> i32 {
    if fours == 0 {
        return 0;
    }
    // SAFETY: by contract.
    unsafe { qmend_spread_row(source, fours, to, minus_zero(zero_point)) };
    if bits == 8 {
        return 0;
    }
    // SAFETY: these words were written.
    let words = unsafe { core::slice::from_raw_parts(to, 2 * fours) };
    words.iter().fold(0i32, |sum, &w| {
        sum.wrapping_add(w as i16 as i32)
            .wrapping_add(w as i32 >> 16)
    })
}

/// Multiplies rows with the input; returns when all are done or one is to be scaled by hand.
///
/// # Safety
///
/// As [`Product`]'s fields say.
pub(super) unsafe fn product(product: &mut Product, bits: u8) {
    // SAFETY: by contract.
    unsafe {
        match bits {
            2 => qmend_fc_2(product),
            4 => qmend_fc_4(product),
            _ => qmend_fc_8(product),
        }
    }
}
