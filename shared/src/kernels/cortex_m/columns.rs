//! The inputs of output positions, as columns of what the instruction set multiplies.

use super::conv::{COLUMNS, Form};
use super::isa;
use crate::kernels::conv2d::ConvParams;
use crate::kernels::runs::Inputs;
use crate::kernels::window::{Axis, Taps};

/// Where the inputs of an output position are.
pub(super) struct Columns<'a> {
    input: &'a [i8],
    axes: [Axis; 2],
    /// Channels of the input, and of one group.
    in_c: usize,
    per_group: usize,
    first_channel: usize,
    zero_point: i8,
    bits: u8,
    /// Whether the taps of a filter's row are one run of bytes.
    runs: bool,
    /// Whether taps are multiples of four bytes.
    fours: bool,
    /// Inputs with padding.
    inputs: usize,
}

impl<'a> Columns<'a> {
    /// The inputs of a group.
    #[inline(always)]
    pub fn of(p: &ConvParams, form: &Form, group: usize, input: &'a [i8]) -> Self {
        let in_c = p.input[2];
        let per_group = in_c / p.groups;
        Self {
            input,
            axes: Axis::of(&p.window, p.input),
            in_c,
            per_group,
            first_channel: group * per_group,
            zero_point: p.input_zero_point,
            bits: form.bits,
            runs: p.groups == 1 && p.window.dilation[1] == 1,
            fours: per_group.is_multiple_of(4) && isa::loads_from(input.as_ptr()),
            inputs: form.inputs,
        }
    }

    /// Writes the column of one position and returns the sum that [`isa::spread`] gives. `to` is the
    /// column's first word.
    ///
    /// # Safety
    ///
    /// `to` has `inputs` activations' room at every fourth word; `bytes` is `inputs` long.
    pub unsafe fn write(&self, ys: Taps, xs: Taps, mut to: *mut u32, bytes: &mut [i8]) -> i32 {
        let [y, x] = self.axes;
        let position = |ky: usize, kx: usize| {
            let (row, column) = (ys.first + ky * y.dilation, xs.first + kx * x.dilation);
            (row * x.input + column) * self.in_c + self.first_channel
        };
        let tap = self.per_group;
        // A run of taps inside the input: how many at a time, and how often.
        let (run, times) = if self.runs {
            (xs.count() * tap, (xs.count() > 0) as usize)
        } else {
            (tap, xs.count())
        };
        if !self.fours {
            bytes.fill(self.zero_point);
            for ky in 0..ys.count() {
                let mut at = ((ys.from + ky) * x.kernel + xs.from) * tap;
                for kx in 0..times {
                    let from = position(ky, kx);
                    for (to, from) in bytes[at..at + run]
                        .iter_mut()
                        .zip(&self.input[from..from + run])
                    {
                        *to = *from;
                    }
                    at += run;
                }
            }
            // SAFETY: by contract, and `inputs` is a multiple of four.
            return unsafe {
                isa::spread(
                    bytes.as_ptr(),
                    self.inputs / 4,
                    to,
                    self.zero_point,
                    self.bits,
                )
            };
        }
        let step = |inputs: usize| COLUMNS * isa::column_words(inputs, self.bits);
        let blank = |to: &mut *mut u32, inputs: usize| {
            let words = isa::column_words(inputs, self.bits);
            for _ in 0..words {
                // SAFETY: the parts that are written add up to `inputs`.
                unsafe {
                    to.write(isa::outside(self.zero_point, self.bits));
                    *to = to.add(COLUMNS);
                }
            }
        };
        let row = x.kernel * tap;
        let mut sum = 0i32;
        blank(&mut to, ys.from * row);
        for ky in 0..ys.count() {
            blank(&mut to, xs.from * tap);
            for kx in 0..times {
                let from = position(ky, kx);
                let source = &self.input[from..from + run];
                // SAFETY: the source is a slice of that length; the parts that are written add up
                // to `inputs`.
                unsafe {
                    let part =
                        isa::spread(source.as_ptr(), run / 4, to, self.zero_point, self.bits);
                    sum = sum.wrapping_add(part);
                    to = to.add(step(run));
                }
            }
            blank(&mut to, (x.kernel - xs.to) * tap);
        }
        let rows = y.kernel - if ys.count() > 0 { ys.to } else { ys.from };
        blank(&mut to, rows * row);
        blank(&mut to, self.inputs - y.kernel * row);
        sum
    }

    /// As [`Self::write`], of `len` inputs from number `at` on, a multiple of four each.
    ///
    /// # Safety
    ///
    /// `to` has `len` activations' room at every fourth word; `bytes` is `len` long.
    pub unsafe fn write_part(
        &self,
        ys: Taps,
        xs: Taps,
        mut at: usize,
        len: usize,
        mut to: *mut u32,
        bytes: &mut [i8],
    ) -> i32 {
        let inputs = Inputs {
            axes: self.axes,
            in_c: self.in_c,
            per_group: self.per_group,
            first_channel: self.first_channel,
            runs: self.runs,
        };
        let end = at + len;
        let mut sum = 0i32;
        if !self.fours {
            bytes.fill(self.zero_point);
        }
        let mut done = 0;
        while at < end {
            let (piece, source) = inputs.piece(ys, xs, at);
            let piece = piece.min(end - at);
            let source = source.map(|from| &self.input[from..from + piece]);
            if self.fours {
                let words = isa::column_words(piece, self.bits);
                match source {
                    // SAFETY: the source is a slice of that length; the parts that are written add up to
                    // `len`, and each is a multiple of four.
                    Some(source) => unsafe {
                        let (from, fours) = (source.as_ptr(), piece / 4);
                        let part = isa::spread(from, fours, to, self.zero_point, self.bits);
                        sum = sum.wrapping_add(part);
                    },
                    None => {
                        for i in 0..words {
                            // SAFETY: as above.
                            unsafe {
                                to.add(i * COLUMNS)
                                    .write(isa::outside(self.zero_point, self.bits))
                            };
                        }
                    }
                }
                to = to.wrapping_add(words * COLUMNS);
            } else if let Some(source) = source {
                for (to, from) in bytes[done..done + piece].iter_mut().zip(source) {
                    *to = *from;
                }
            }
            at += piece;
            done += piece;
        }
        if self.fours {
            return sum;
        }
        // SAFETY: by contract.
        unsafe { isa::spread(bytes.as_ptr(), len / 4, to, self.zero_point, self.bits) }
    }
}
