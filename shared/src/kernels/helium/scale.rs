//! Sums to outputs.
//!
//! All multipliers of at most one are scaled by the assembly, four channels at a time, with the same two
//! roundings as [`crate::arith::Multiplier::apply`]; an operator with a larger one by that function.

use super::isa::{COLUMNS, Scale, qmend_largest, qmend_scale_1, qmend_scale_3};
use crate::image::Channels;

/// Whether the assembly may scale these channels.
pub(super) fn by_vector(channels: &Channels) -> bool {
    let exponents = channels.exponents;
    // SAFETY: these bytes are read.
    exponents.is_empty() || unsafe { qmend_largest(exponents.as_ptr(), exponents.len()) <= 0 }
}

/// Some channels' constants, made ready.
pub(super) struct Scaler<'a> {
    channels: &'a Channels<'a>,
    vector: bool,
    first: usize,
    scale: Scale,
}

impl<'a> Scaler<'a> {
    /// `count` channels, at least one, from channel `first` on. `bias` is what is to be added to their sums,
    /// 32-bit numbers at any address.
    ///
    /// # Safety
    ///
    /// `bias` may be read for as many, as long as this value lives.
    #[inline(always)]
    pub unsafe fn new(
        channels: &'a Channels<'a>,
        vector: bool,
        first: usize,
        count: usize,
        bias: *const u8,
    ) -> Self {
        assert!(count > 0);
        Self {
            channels,
            vector,
            first,
            scale: Scale {
                bias,
                mantissas: channels.mantissas[first * 4..][..count * 4].as_ptr(),
                exponents: channels.exponents[first..][..count].as_ptr(),
                sums: core::ptr::null(),
                out: [core::ptr::null_mut(); COLUMNS],
                count,
                min: channels.act_min as i32,
                max: channels.act_max as i32,
                zero_point: channels.zero_point as i32,
            },
        }
    }

    /// Scales sums with one column.
    ///
    /// # Safety
    ///
    /// There are as many sums as channels, and room for as many outputs.
    #[inline(always)]
    pub unsafe fn one(&mut self, sums: *const i32, out: *mut i8) {
        self.scale.sums = sums;
        self.scale.out[0] = out;
        if self.vector {
            // SAFETY: by contract.
            unsafe { qmend_scale_1(&self.scale) };
        } else {
            // SAFETY: by contract.
            unsafe { self.by_hand(1, |c, _| c) };
        }
    }

    /// Where the outputs of column `q` go.
    #[inline(always)]
    pub fn set_out(&mut self, q: usize, out: *mut i8) {
        self.scale.out[q] = out;
    }

    /// Scales sums with three columns, as [`super::isa::Block`] leaves them.
    ///
    /// # Safety
    ///
    /// There are sums of as many channels, rounded up to an even number, and room for as many outputs where
    /// [`Self::set_out`] has put them.
    #[inline(always)]
    pub unsafe fn three(&mut self, sums: *const i32) {
        self.scale.sums = sums;
        if self.vector {
            // SAFETY: by contract.
            unsafe { qmend_scale_3(&self.scale) };
        } else {
            // SAFETY: by contract.
            unsafe { self.by_hand(COLUMNS, sum_at) };
        }
    }

    /// # Safety
    ///
    /// As [`Self::one`] and [`Self::three`].
    #[cold]
    unsafe fn by_hand(&self, columns: usize, index: fn(usize, usize) -> usize) {
        let s = &self.scale;
        for c in 0..s.count {
            let multiplier = self.channels.multiplier(self.first + c);
            // SAFETY: by the contract of `new`.
            let bias = unsafe { s.bias.cast::<i32>().add(c).read_unaligned() };
            for (q, out) in s.out.iter().enumerate().take(columns) {
                // SAFETY: by contract.
                unsafe {
                    let acc = s.sums.add(index(c, q)).read().wrapping_add(bias);
                    out.add(c)
                        .write(self.channels.finish(multiplier.apply(acc)));
                }
            }
        }
    }
}

/// Where the sum of channel `c` with column `q` is, of three.
pub(super) const fn sum_at(c: usize, q: usize) -> usize {
    c / 2 * (2 * COLUMNS) + 2 * q + c % 2
}
