//! Cortex-M3 (Thumb-2) and M0, M0+ (Thumb-1): no instruction multiplies more than one pair.
//!
//! For 8-bit weights, columns hold 32-bit numbers, activations less the zero point: several are loaded
//! with one instruction. For fields, two products are had of one multiplication: a pair of fields in
//! two halfwords times a pair of activations, swapped, in two halfwords, has the sum of both products
//! in its upper half. That takes numbers that are not negative, so 128 is added to activations, and
//! what the zero point then adds to a sum, the same for every position, is put into the bias.

use super::conv::Block;
use super::depthwise::Run;
use super::fully_connected::Product;
use crate::weights::{Layout, Rows};

#[cfg(qmend_kernels = "thumb2")]
mod this {
    pub(super) const NAME: &str = "Cortex-M with Thumb-2";
    core::arch::global_asm!(
        include_str!("common.s"),
        include_str!("thumb2.s"),
        options(raw)
    );
    /// Inputs of a body of the fully connected loops, and of their rest.
    pub(super) const BODIES_8: [usize; 2] = [8, 4];
    pub(super) const ANY_ADDRESS: bool = true;
    pub(super) const BIAS_SCALE: i32 = 2;
}

#[cfg(qmend_kernels = "thumb1")]
mod this {
    pub(super) const NAME: &str = "Cortex-M with Thumb-1";
    core::arch::global_asm!(
        include_str!("thumb1.s"),
        include_str!("thumb1_rest.s"),
        options(raw)
    );
    pub(super) const BODIES_8: [usize; 2] = [16, 4];
    pub(super) const ANY_ADDRESS: bool = false;
    pub(super) const BIAS_SCALE: i32 = 1;
}

pub(super) const NAME: &str = this::NAME;

/// Whether the assembly adds the sums of channels that it does not scale to others.
pub(super) const ADDS_SUMS: bool = cfg!(qmend_kernels = "thumb2");

/// What records hold the bias times.
pub(super) const BIAS_SCALE: i32 = this::BIAS_SCALE;

unsafe extern "C" {
    fn qmend_conv_8(block: *mut Block);
    fn qmend_conv_4(block: *mut Block);
    fn qmend_conv_2(block: *mut Block);
    fn qmend_spread(source: *const i8, fours: usize, to: *mut u32, zero_point: i32);
    fn qmend_spread_row(source: *const i8, fours: usize, to: *mut u32, zero_point: i32);
    fn qmend_spread_pairs(source: *const i8, fours: usize, to: *mut u32, mask: u32) -> u32;
    fn qmend_spread_row_pairs(source: *const i8, fours: usize, to: *mut u32, mask: u32) -> u32;
    fn qmend_depthwise(run: *mut Run);
    fn qmend_fc_8(product: *mut Product);
    fn qmend_fc_4(product: *mut Product);
    fn qmend_fc_2(product: *mut Product);
}

/// Words that a column of `inputs` activations takes in a block of four columns.
pub(super) const fn column_words(inputs: usize, bits: u8) -> usize {
    if bits == 8 { inputs } else { inputs / 2 }
}

/// Whether the assembly reads rows as they lie in the image; else they are unpacked to bytes first.
pub(super) fn reads(rows: &Rows) -> bool {
    let known = match rows.bits {
        8 => true,
        2 | 4 => rows.layout == Layout::Halfwords,
        _ => false,
    };
    known && loads_from(rows.bytes.as_ptr().cast())
}

/// Whether words may be loaded from this address.
pub(super) fn loads_from(address: *const i8) -> bool {
    this::ANY_ADDRESS || address.addr().is_multiple_of(4)
}

/// The zero point of activations to which 128 was added.
const fn raised(zero_point: i8) -> u32 {
    (zero_point as i32 + 128) as u32
}

/// Fours of activations that fit in one of the assembly's sums.
const MOST_FOURS: usize = 128;

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
    // SAFETY: by contract.
    unsafe {
        spread_by(
            source,
            fours,
            to,
            zero_point,
            bits,
            4,
            qmend_spread,
            qmend_spread_pairs,
        )
    }
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
    let (numbers, pairs) = (qmend_spread_row, qmend_spread_row_pairs);
    // SAFETY: by contract.
    unsafe { spread_by(source, fours, to, zero_point, bits, 1, numbers, pairs) }
}

#[inline(always)]
#[expect(clippy::too_many_arguments)]
unsafe fn spread_by(
    mut source: *const i8,
    fours: usize,
    mut to: *mut u32,
    zero_point: i8,
    bits: u8,
    step: usize,
    numbers: unsafe extern "C" fn(*const i8, usize, *mut u32, i32),
    pairs: unsafe extern "C" fn(*const i8, usize, *mut u32, u32) -> u32,
) -> i32 {
    if bits == 8 {
        if fours > 0 {
            // SAFETY: by contract; `4 * fours` words are written.
            unsafe { numbers(source, fours, to, zero_point as i32) };
        }
        return 0;
    }
    let mut sum = 0i32;
    let mut left = fours;
    while left > 0 {
        let count = left.min(MOST_FOURS);
        // SAFETY: by contract; `2 * fours` words are written in all.
        unsafe {
            let halves = pairs(source, count, to, 0x00ff_00ff);
            sum += (halves & 0xffff) as i32 + (halves >> 16) as i32;
            source = source.add(4 * count);
            to = to.add(2 * count * step);
        }
        left -= count;
    }
    sum - (4 * fours * raised(zero_point) as usize) as i32
}

/// What a column holds where a tap is outside the input.
pub(super) const fn outside(zero_point: i8, bits: u8) -> u32 {
    if bits == 8 {
        0
    } else {
        raised(zero_point) << 16 | raised(zero_point)
    }
}

/// Whether [`bias_offset`] may be other than zero.
pub(super) const fn raises(bits: u8, zero_point: i8) -> bool {
    bits != 8 && raised(zero_point) != 0
}

/// What is to be added to a channel's bias because of how activations are spread: the zero point
/// times the sum of the row's fields.
pub(super) fn bias_offset(row: &[u8], bits: u8, zero_point: i8) -> i32 {
    if !raises(bits, zero_point) {
        return 0;
    }
    let zero = raised(zero_point);
    let (words, _) = row.as_chunks::<4>();
    let sum = words.iter().fold(0u32, |sum, w| {
        let w = u32::from_le_bytes(*w);
        let nibbles = if bits == 2 {
            (w & 0x3333_3333) + (w >> 2 & 0x3333_3333)
        } else {
            w
        };
        let bytes = (nibbles & 0x0f0f_0f0f) + (nibbles >> 4 & 0x0f0f_0f0f);
        sum + (bytes.wrapping_mul(0x0101_0101) >> 24)
    });
    (zero.wrapping_mul(sum) as i32).wrapping_neg()
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

/// Words of a depthwise tap's four weights.
pub(super) const TAP_WORDS: usize = 4;

/// Four weights as 32-bit numbers.
#[inline(always)]
pub(super) fn pack_tap(w: [i8; 4], to: &mut [u32; TAP_WORDS]) {
    *to = w.map(|w| w as i32 as u32);
}

/// As [`pack_tap`], of fields of `BITS` bits: two in each of two bytes, in their lowest bits.
#[inline(always)]
pub(super) fn pack_fields<const BITS: u32>([low, high]: [u8; 2], to: &mut [u32; TAP_WORDS]) {
    let word = low as u32 | (high as u32) << 16;
    let (mask, half) = ((1 << BITS) - 1, 1 << (BITS - 1));
    *to = [0, BITS, 16, 16 + BITS].map(|at| (word >> at & mask).wrapping_sub(half));
}

/// What is subtracted from activations.
pub(super) fn minus_zero(zero_point: i8) -> u32 {
    zero_point as i32 as u32
}

/// Whether rows of three taps inside have a function of their own.
pub(super) const THREE: bool = false;

/// Runs four channels of a run of positions.
///
/// # Safety
///
/// As [`Run`]'s fields say.
pub(super) unsafe fn depthwise(run: &mut Run, _three: bool) {
    // SAFETY: by contract.
    unsafe { qmend_depthwise(run) }
}

/// Inputs that a body of [`product`]'s main loop takes, and of its rest's.
pub(super) const fn product_bodies(bits: u8) -> [usize; 2] {
    match bits {
        2 => [16, 16],
        4 => [16, 8],
        _ => this::BODIES_8,
    }
}

/// Words that a fully connected layer's input takes.
pub(super) const fn row_words(inputs: usize, bits: u8) -> usize {
    column_words(inputs, bits)
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
