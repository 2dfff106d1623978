//! Convolution as a matrix product: rows of weights times three columns of activations.
//!
//! A column is the inputs of one output position. Where they are one run of bytes of the input (1x1) they
//! are read there; else they are copied to working memory, padded with the zero point. The zero point's
//! part of a sum is in the bias, for which the rows' own sums are taken once a call.

use super::isa::{self, Block, COLUMNS};
use super::rows::{Form, copy, delta, fill, raised, split, unpack, unsigned};
use super::scale::{by_vector, scale};
use crate::kernels::conv2d::ConvParams;
use crate::kernels::window::{Axis, Taps};

/// Where the inputs of an output position are.
struct Source<'a> {
    input: &'a [i8],
    axes: [Axis; 2],
    /// Channels of the input, and of one group.
    in_c: usize,
    per_group: usize,
    first_channel: usize,
    zero_point: i8,
    /// Whether the taps of a filter's row are one run of bytes.
    runs: bool,
}

impl<'a> Source<'a> {
    /// The inputs of a position, if they are one run.
    fn run(&self, ys: Taps, xs: Taps, columns: usize) -> Option<&'a [i8]> {
        let [y, x] = self.axes;
        let one = self.runs || x.kernel == 1;
        if y.kernel > 1 || ys.count() == 0 || xs.count() < x.kernel || !one {
            return None;
        }
        let from = (ys.first * x.input + xs.first) * self.in_c + self.first_channel;
        Some(&self.input[from..from + columns])
    }

    /// Copies the inputs of a position.
    fn write(&self, ys: Taps, xs: Taps, to: &mut [i8]) {
        let [y, x] = self.axes;
        let tap = self.per_group;
        let (rows, columns) = (ys.count(), xs.count());
        let row_step = y.dilation * x.input * self.in_c;
        let start =
            |ky: usize| ys.first * x.input * self.in_c + ky * row_step + xs.first * self.in_c;
        if columns < x.kernel || rows < y.kernel {
            fill(to, self.zero_point);
        } else if self.runs {
            copy(to, &self.input[start(0)..], x.kernel * tap, rows, row_step);
            return;
        }
        for ky in 0..rows {
            let at = ((ys.from + ky) * x.kernel + xs.from) * tap;
            let from = &self.input[start(ky) + self.first_channel..];
            match self.runs {
                true => copy(&mut to[at..], from, columns * tap, 1, 0),
                false => copy(&mut to[at..], from, tap, columns, x.dilation * self.in_c),
            }
        }
    }
}

/// Working memory, in parts.
struct Scratch<'s> {
    /// What is to be added to a channel's sums.
    bias: &'s mut [i32],
    /// Of rows with three columns.
    sums: &'s mut [i32],
    /// Three columns.
    columns: &'s mut [i8],
    /// A column before its activations are put in the order of fields.
    plain: &'s mut [i8],
    /// Rows that were unpacked.
    rows: &'s mut [i8],
}

impl<'s> Scratch<'s> {
    /// `None` where there is too little for groups of `outputs` channels.
    fn of(scratch: &'s mut [i8], form: &Form, outputs: usize) -> Option<Self> {
        let sums = outputs.next_multiple_of(2) * COLUMNS;
        let (words, bytes) = split(scratch, outputs + sums)?;
        let (bias, sums) = words.split_at_mut(outputs);
        let len = form.column_bytes();
        let (columns, bytes) = bytes.split_at_mut_checked(COLUMNS * len)?;
        let plain = if form.bits == 8 { 0 } else { len };
        let (plain, rows) = bytes.split_at_mut_checked(plain)?;
        let enough = form.direct || rows.len() >= form.columns;
        enough.then_some(Self {
            bias,
            sums,
            columns,
            plain,
            rows,
        })
    }
}

/// As [`crate::kernels::conv2d`]. Returns whether it was done: not where scratch memory is too small.
pub(super) fn conv2d(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]) -> bool {
    let [in_h, in_w, in_c] = p.input;
    let [out_h, out_w, out_c] = p.output;
    assert_eq!(input.len(), in_h * in_w * in_c);
    assert_eq!(output.len(), out_h * out_w * out_c);
    let form = Form::of(&p.weights);
    assert!(p.groups > 0 && form.columns > 0);
    let group_outputs = out_c / p.groups;
    let per_group = in_c / p.groups;
    let axes = Axis::of(&p.window, p.input);
    let [y, x] = axes;
    assert_eq!(form.columns, y.kernel * x.kernel * per_group);
    assert_eq!(p.weights.bytes.len(), out_c * p.weights.row_bytes(0).len());
    assert!(p.channels.count() == out_c && group_outputs * p.groups == out_c);
    let Some(mut scratch) = Scratch::of(scratch, &form, group_outputs) else {
        return false;
    };
    let vector = by_vector(&p.channels);
    // Rows that are unpacked take turns in what memory there is.
    let part = match form.direct {
        true => group_outputs,
        false => (scratch.rows.len() / form.columns).min(group_outputs),
    };
    for group in 0..p.groups {
        let source = Source {
            input,
            axes,
            in_c,
            per_group,
            first_channel: group * per_group,
            zero_point: p.input_zero_point,
            runs: p.groups == 1 && x.dilation == 1,
        };
        for from in (0..group_outputs).step_by(part) {
            let first = group * group_outputs + from;
            let count = part.min(group_outputs - from);
            let w = match form.direct {
                true => p.weights.bytes[first * form.stride()..].as_ptr(),
                false => {
                    let rows = scratch.rows.chunks_exact_mut(form.columns);
                    for (i, row) in rows.take(count).enumerate() {
                        unpack(&p.weights, first + i, row);
                    }
                    scratch.rows.as_ptr().cast()
                }
            };
            let rows = Rows {
                form: &form,
                w,
                count,
            };
            // SAFETY: `count` rows are there.
            unsafe { rows.write_bias(p, first, &mut scratch) };
            // SAFETY: as above.
            unsafe { rows.positions(p, &source, first, vector, &mut scratch, output) };
        }
    }
    true
}

/// Some rows of weights.
struct Rows<'a> {
    form: &'a Form,
    w: *const u8,
    count: usize,
}

impl Rows<'_> {
    /// Writes what is to be added to the sums of these rows, which begin with channel `first`.
    ///
    /// # Safety
    ///
    /// The rows are there.
    unsafe fn write_bias(&self, p: &ConvParams, first: usize, scratch: &mut Scratch) {
        let Self { form, w, count } = *self;
        let zero = match form.bits {
            8 => p.input_zero_point as i32,
            _ => raised(p.input_zero_point),
        };
        for (i, bias) in scratch.bias[..count].iter_mut().enumerate() {
            *bias = p.channels.bias(first + i);
        }
        if zero == 0 {
            return;
        }
        if form.bits == 8 {
            let sums = &mut scratch.sums[..count];
            // SAFETY: by contract.
            unsafe {
                isa::qmend_row_sums(w, form.stride(), form.row_bytes(), count, sums.as_mut_ptr())
            };
            for (bias, sum) in scratch.bias.iter_mut().zip(sums) {
                *bias = bias.wrapping_sub(zero.wrapping_mul(*sum));
            }
            return;
        }
        // Fields behind a row's last number do not count: the rows are multiplied with ones.
        let (ones, padding) = scratch.plain.split_at_mut(form.columns);
        fill(ones, -127);
        fill(padding, -128);
        let len = form.column_bytes();
        let column = unsigned(&mut scratch.columns[..len]);
        form.spread(scratch.plain, column);
        let column = column.as_ptr();
        // SAFETY: by contract.
        unsafe { self.multiply([(column, 0); COLUMNS], scratch.sums) };
        for (c, bias) in scratch.bias[..count].iter_mut().enumerate() {
            let sum = scratch.sums[c / 2 * (2 * COLUMNS) + c % 2];
            *bias = bias.wrapping_sub(zero.wrapping_mul(sum));
        }
    }

    /// Multiplies the rows with three columns; a column is where it is and where its sums begin.
    ///
    /// # Safety
    ///
    /// The rows and the columns are there.
    unsafe fn multiply(&self, x: [(*const u8, i32); COLUMNS], sums: &mut [i32]) {
        let Self { form, w, count } = *self;
        let row_bytes = form.row_bytes();
        let delta = delta(form, 2);
        let even = count & !1;
        let (pairs, rest) = sums.split_at_mut(even * COLUMNS);
        let run = |sums: &mut [i32], first: usize, second: usize| {
            let sums = sums.as_mut_ptr_range();
            let block = Block {
                offset_0: x[0].1,
                x_0: x[0].0,
                offset_0_again: x[0].1,
                x_1: x[1].0,
                offset_1: x[1].1,
                x_2: x[2].0,
                offset_1_again: x[1].1,
                offset_2: x[2].1,
                offset_2_again: x[2].1,
                row_bytes,
                delta,
                end: sums.end,
                w_0: w.wrapping_add(first * form.stride()),
                w_1: w.wrapping_add(second * form.stride()),
                sums: sums.start,
            };
            // SAFETY: by contract: half as many rows as there are sums of a column.
            unsafe {
                match form.bits {
                    2 => isa::qmend_rows_2(&block),
                    4 => isa::qmend_rows_4(&block),
                    _ => isa::qmend_rows_8(&block),
                }
            }
        };
        if even > 0 {
            run(pairs, 0, 1);
        }
        if even < count {
            // The last one twice.
            run(&mut rest[..2 * COLUMNS], even, even);
        }
    }

    /// All positions of these rows' channels.
    ///
    /// # Safety
    ///
    /// The rows are there.
    unsafe fn positions(
        &self,
        p: &ConvParams,
        source: &Source,
        first: usize,
        vector: bool,
        scratch: &mut Scratch,
        output: &mut [i8],
    ) {
        let form = self.form;
        let [y, x] = source.axes;
        let [out_h, out_w, out_c] = p.output;
        let len = form.column_bytes();
        if form.bits != 8 {
            fill(&mut scratch.plain[form.columns..], -128);
        }
        let (mut oy, mut ox) = (0, 0);
        let mut ys = y.taps(0);
        let positions = out_h * out_w;
        let mut done = 0;
        while done < positions {
            let count = COLUMNS.min(positions - done);
            let mut columns = [(core::ptr::null(), 0); COLUMNS];
            let mut out = [core::ptr::null_mut(); COLUMNS];
            for q in 0..COLUMNS {
                if q >= count {
                    // The last position again.
                    columns[q] = columns[q - 1];
                    out[q] = out[q - 1];
                    continue;
                }
                let xs = x.taps(ox);
                let room = &mut scratch.columns[q * len..(q + 1) * len];
                columns[q] = if form.bits == 8 {
                    match source.run(ys, xs, form.columns) {
                        Some(run) => (run.as_ptr().cast(), 0),
                        None => {
                            source.write(ys, xs, room);
                            (room.as_ptr().cast(), 0)
                        }
                    }
                } else {
                    source.write(ys, xs, &mut scratch.plain[..form.columns]);
                    let room = unsigned(room);
                    let sum = form.spread(scratch.plain, room);
                    let offset = form.column_offset(sum, source.zero_point);
                    (room.as_ptr(), offset)
                };
                let at = (done + q) * out_c + first;
                out[q] = output[at..at + self.count].as_mut_ptr();
                ox += 1;
                if ox == out_w {
                    ox = 0;
                    oy += 1;
                    ys = y.taps(oy);
                }
            }
            // SAFETY: rows by contract; the columns were written, and are as long as rows need.
            unsafe { self.multiply(columns, scratch.sums) };
            let bias = &scratch.bias[..self.count];
            // SAFETY: each output was made of a slice of `count`.
            unsafe { scale(&p.channels, vector, first, bias, scratch.sums, &out) };
            done += count;
        }
    }
}
