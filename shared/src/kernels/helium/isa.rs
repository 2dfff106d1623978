//! What the assembly of `helium.s` does, and what it is given.

use core::arch::global_asm;

global_asm!(include_str!("helium.s"), options(raw));

/// Columns that are multiplied together.
pub(super) const COLUMNS: usize = 3;

/// Three columns and some rows. The order of the fields is known to the assembly, which loads the
/// first nine with one instruction.
#[repr(C)]
pub(super) struct Block {
    /// Where the columns are, and where their sums begin, each twice: once for each of two rows. See
    /// [`Self::X`] and [`Self::OFFSETS`].
    pub head: [*const u8; 9],
    /// Bytes of a row, at least one.
    pub row_bytes: usize,
    /// Bytes from behind a row's last vector to the start of the next row but one.
    pub delta: isize,
    /// Behind the last sum.
    pub end: *mut i32,
    /// The first two rows.
    pub w: [*const u8; 2],
    /// Where sums go: of each two rows, those with column 0, 1, 2.
    pub sums: *mut i32,
}

impl Block {
    /// Where in the head the columns are.
    pub const X: [usize; COLUMNS] = [1, 3, 5];
    /// Where in the head their sums' beginnings are.
    pub const OFFSETS: [[usize; 2]; COLUMNS] = [[0, 2], [4, 6], [7, 8]];
}

/// One column and some rows. The order of the fields is known to the assembly.
#[repr(C)]
pub(super) struct Product {
    /// Where sums begin.
    pub offset: i32,
    pub x: *const u8,
    /// For bytes only the first three are sums' beginnings, the others zero.
    pub offsets_again: [i32; 5],
    /// Bytes of a row, at least one.
    pub row_bytes: usize,
    /// Bytes from behind a row's last vector to the row three (bytes) or four (fields) further.
    pub delta: isize,
    /// Behind the last sum.
    pub end: *mut i32,
    /// The first rows.
    pub w: [*const u8; 4],
    /// Where sums go, row by row.
    pub sums: *mut i32,
    /// The input's zero point (bytes only).
    pub zero_point: i32,
}

impl Product {
    /// Of a column at `x`; [`Self::end`], [`Self::w`] and [`Self::sums`] are still to be set.
    #[inline(always)]
    pub fn new(x: *const u8, row_bytes: usize, offset: i32, delta: isize, zero_point: i8) -> Self {
        Self {
            offset,
            x,
            offsets_again: [offset, offset, offset, 0, 0],
            row_bytes,
            delta,
            end: core::ptr::null_mut(),
            w: [core::ptr::null(); 4],
            sums: core::ptr::null_mut(),
            zero_point: zero_point as i32,
        }
    }
}

/// Sums to scale. The order of the fields is known to the assembly.
#[repr(C)]
pub(super) struct Scale {
    /// Added to the sums; 32-bit numbers at any address, as the mantissas.
    pub bias: *const u8,
    pub mantissas: *const u8,
    /// None is above zero.
    pub exponents: *const u8,
    pub sums: *const i32,
    pub out: [*mut i8; COLUMNS],
    /// Channels, at least one.
    pub count: usize,
    pub min: i32,
    pub max: i32,
    pub zero_point: i32,
}

/// Eight channels, or fewer, of consecutive positions whose windows have the same taps inside the
/// input. The order of the fields is known to the assembly.
#[repr(C)]
pub(super) struct Run {
    /// The first tap inside, at the first position.
    pub x: *const i8,
    /// The weights of that tap.
    pub w: *const i8,
    /// Output of the first position.
    pub out: *mut i8,
    pub constants: *const Constants,
    pub minus_zero: i32,
    pub zero_point: i32,
    /// Bytes from a tap to the next one in a row, and to the next row: from a row's first tap, or, for
    /// functions of two or three taps, from its last.
    pub tap_step: usize,
    pub row_step: isize,
    pub min: i32,
    pub max: i32,
    /// Channels, for the masked function.
    pub lanes: usize,
    /// Positions, rows and taps of a row inside the input, each at least one.
    pub count: usize,
    pub rows: usize,
    pub taps: usize,
    /// Bytes from one position's input and output to the next one's.
    pub x_step: usize,
    pub out_step: usize,
    /// Bytes of weights between those of a row's last tap inside and the next row's first.
    pub w_skip: usize,
}

/// Eight channels' constants, those of even channels before those of odd ones.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Constants {
    pub bias: [[i32; 4]; 2],
    pub mantissas: [[i32; 4]; 2],
    /// None is above zero.
    pub exponents: [[i32; 4]; 2],
}

unsafe extern "C" {
    pub(super) fn qmend_rows_8(block: *const Block);
    pub(super) fn qmend_rows_4(block: *const Block);
    pub(super) fn qmend_rows_2(block: *const Block);
    pub(super) fn qmend_product_8(product: *const Product);
    pub(super) fn qmend_product_4(product: *const Product);
    pub(super) fn qmend_product_2(product: *const Product);
    pub(super) fn qmend_row_sums(
        w: *const u8,
        stride: usize,
        row_bytes: usize,
        rows: usize,
        to: *mut i32,
    );
    pub(super) fn qmend_copy(to: *mut i8, from: *const i8, bytes: usize, runs: usize, step: usize);
    pub(super) fn qmend_fill(to: *mut i8, byte: i32, count: usize);
    pub(super) fn qmend_spread_4(from: *const i8, vectors: usize, to: *mut u8) -> i32;
    pub(super) fn qmend_spread_2(from: *const i8, vectors: usize, to: *mut u8) -> i32;
    pub(super) fn qmend_unpack_3(from: *const u8, sixteens: usize, to: *mut i8);
    pub(super) fn qmend_largest(bytes: *const u8, count: usize) -> i32;
    pub(super) fn qmend_scale_3(scale: *const Scale);
    pub(super) fn qmend_scale_1(scale: *const Scale);
    pub(super) fn qmend_depthwise(run: *const Run);
    pub(super) fn qmend_depthwise_masked(run: *const Run);
    pub(super) fn qmend_depthwise_3(run: *const Run);
    pub(super) fn qmend_depthwise_3_inside(run: *const Run);
    pub(super) fn qmend_depthwise_2(run: *const Run);
}
