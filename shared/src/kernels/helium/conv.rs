//! Convolution as a matrix product: rows of weights times three columns of activations.
//!
//! A column is the inputs of one output position. Where they are one run of bytes of the input (1x1) they
//! are read there; else they are copied to working memory, padded with the zero point. The zero point's
//! part of a sum is in the bias, for which the rows' own sums are taken once a call.

use super::isa::{self, Block, COLUMNS};
use super::rows::{Form, copy, delta, fill, raised, split, unpack, unsigned};
use super::scale::{Scaler, by_vector, sum_at};
use crate::kernels::conv2d::ConvParams;
use crate::kernels::runs::inside;
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
    /// Whether the taps of a filter's row are one run of bytes, and all of a filter's.
    runs: bool,
    is_run: bool,
    /// Bytes of a filter's row, from one to the next, and from the first tap to the end of the last.
    run: usize,
    row_step: usize,
    span: usize,
}

impl<'a> Source<'a> {
    /// The inputs from the first to the last tap of a position of which none is outside; `at` is where
    /// the first one is. `None` where they are not to be had in one go.
    #[inline]
    fn at(&self, at: usize, whole: bool) -> Option<&'a [i8]> {
        let in_one_go = whole && (self.runs || self.is_run);
        in_one_go.then(|| &self.input[at..at + self.span])
    }

    /// Copies the inputs of a position; `place` is [`Self::at`]'s.
    #[inline]
    fn write(&self, place: Option<&[i8]>, ys: Taps, xs: Taps, to: &mut [i8]) {
        let Some(place) = place else {
            return self.write_taps(ys, xs, to);
        };
        assert!(to.len() == self.run * self.axes[0].kernel);
        // SAFETY: the runs of all rows are in what [`Self::at`] has given.
        unsafe {
            let (to, from) = (to.as_mut_ptr(), place.as_ptr());
            isa::qmend_copy(to, from, self.run, self.axes[0].kernel, self.row_step);
        }
    }

    fn write_taps(&self, ys: Taps, xs: Taps, to: &mut [i8]) {
        let [y, x] = self.axes;
        let tap = self.per_group;
        let (rows, columns) = (ys.count(), xs.count());
        if columns < x.kernel || rows < y.kernel {
            fill(to, self.zero_point);
        }
        for ky in 0..rows {
            let at = ((ys.from + ky) * x.kernel + xs.from) * tap;
            let from = (ys.first * x.input + xs.first) * self.in_c + ky * self.row_step;
            let from = &self.input[from + self.first_channel..];
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
    let runs = p.groups == 1 && x.dilation == 1;
    let row_step = y.dilation * x.input * in_c;
    for group in 0..p.groups {
        let source = Source {
            input,
            axes,
            in_c,
            per_group,
            first_channel: group * per_group,
            zero_point: p.input_zero_point,
            runs,
            is_run: y.kernel == 1 && (runs || x.kernel == 1),
            run: x.kernel * per_group,
            row_step,
            span: (y.kernel - 1) * row_step + (x.kernel - 1) * x.dilation * in_c + per_group,
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
            let to = sums.as_mut_ptr();
            // SAFETY: by contract.
            unsafe { isa::qmend_row_sums(w, form.stride(), form.row_bytes(), count, to) };
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
        let mut product = self.product(scratch.sums);
        // SAFETY: by contract.
        unsafe { product.run(form.bits, [(column, 0); COLUMNS]) };
        for (c, bias) in scratch.bias[..count].iter_mut().enumerate() {
            *bias = bias.wrapping_sub(zero.wrapping_mul(scratch.sums[sum_at(c, 0)]));
        }
    }

    /// Their product with columns, made ready.
    fn product(&self, sums: &mut [i32]) -> Product {
        let Self { form, w, count } = *self;
        assert!(count > 0 && sums.len() >= count.next_multiple_of(2) * COLUMNS);
        let even = count & !1;
        let from = sums.as_mut_ptr();
        let last = from.wrapping_add(even * COLUMNS);
        let block = |first: usize, second: usize, sums: *mut i32, end: *mut i32| Block {
            offset_0: 0,
            x_0: w,
            offset_0_again: 0,
            x_1: w,
            offset_1: 0,
            x_2: w,
            offset_1_again: 0,
            offset_2: 0,
            offset_2_again: 0,
            row_bytes: form.row_bytes(),
            delta: delta(form, 2),
            end,
            w_0: w.wrapping_add(first * form.stride()),
            w_1: w.wrapping_add(second * form.stride()),
            sums,
        };
        Product {
            pairs: (even > 0).then(|| block(0, 1, from, last)),
            // The last of an odd number twice.
            rest: (even < count).then(|| block(even, even, last, last.wrapping_add(2 * COLUMNS))),
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
        let bits = form.bits;
        let [y, x] = source.axes;
        let [out_h, out_w, out_c] = p.output;
        let [rows_inside, columns_inside] = [inside(&y, out_h), inside(&x, out_w)];
        let len = form.column_bytes();
        if bits != 8 {
            fill(&mut scratch.plain[form.columns..], -128);
        }
        let positions = out_h * out_w;
        assert!(output.len() == positions * out_c && first + self.count <= out_c);
        let mut product = self.product(scratch.sums);
        let sums = scratch.sums.as_ptr();
        let bias = scratch.bias[..self.count].as_ptr().cast();
        // SAFETY: as many were written.
        let mut scaler = unsafe { Scaler::new(&p.channels, vector, first, self.count, bias) };
        let mut out = output.as_mut_ptr().wrapping_add(first);
        let mut columns = [(self.w, 0); COLUMNS];
        let mut outs = [out; COLUMNS];
        let step = x.stride * source.in_c;
        let mut q = 0;
        for oy in 0..out_h {
            let ys = y.taps(oy);
            let row_inside = rows_inside.contains(&oy);
            // Of the first tap at the left, where it is inside.
            let top = (oy * y.stride).wrapping_sub(y.pad).wrapping_mul(x.input);
            let mut at = top
                .wrapping_sub(x.pad)
                .wrapping_mul(source.in_c)
                .wrapping_add(source.first_channel);
            for ox in 0..out_w {
                let whole = row_inside && columns_inside.contains(&ox);
                let room = &mut scratch.columns[q * len..(q + 1) * len];
                let place = source.at(at, whole);
                columns[q] = if bits == 8 {
                    let from = match place {
                        Some(run) if source.is_run => run.as_ptr().cast(),
                        _ => {
                            source.write(place, ys, x.taps(ox), room);
                            room.as_ptr().cast()
                        }
                    };
                    (from, 0)
                } else {
                    let plain = &mut scratch.plain[..form.columns];
                    source.write(place, ys, x.taps(ox), plain);
                    let room = unsigned(room);
                    let sum = form.spread(scratch.plain, room);
                    (room.as_ptr(), form.column_offset(sum, source.zero_point))
                };
                outs[q] = out;
                out = out.wrapping_add(out_c);
                at = at.wrapping_add(step);
                q += 1;
                if q < COLUMNS && (ox + 1 < out_w || oy + 1 < out_h) {
                    continue;
                }
                // At the end the last position again.
                for again in q..COLUMNS {
                    (columns[again], outs[again]) = (columns[again - 1], outs[again - 1]);
                }
                q = 0;
                // SAFETY: rows by contract; the columns were written, and are as long as rows need.
                unsafe { product.run(bits, columns) };
                // SAFETY: the sums are there; outputs are at `first` of positions of the output.
                unsafe { scaler.three(sums, outs) };
            }
        }
    }
}

/// A product of rows and columns.
struct Product {
    pairs: Option<Block>,
    rest: Option<Block>,
}

impl Product {
    /// Multiplies with three columns; a column is where it is and where its sums begin.
    ///
    /// # Safety
    ///
    /// Rows, columns and the memory for sums are there.
    #[inline]
    unsafe fn run(&mut self, bits: u8, x: [(*const u8, i32); COLUMNS]) {
        for block in [&mut self.pairs, &mut self.rest].into_iter().flatten() {
            [block.x_0, block.x_1, block.x_2] = x.map(|x| x.0);
            // SAFETY: by contract.
            unsafe {
                if bits == 8 {
                    isa::qmend_rows_8(block);
                    continue;
                }
                [block.offset_0, block.offset_1, block.offset_2] = x.map(|x| x.1);
                [
                    block.offset_0_again,
                    block.offset_1_again,
                    block.offset_2_again,
                ] = x.map(|x| x.1);
                match bits {
                    2 => isa::qmend_rows_2(block),
                    _ => isa::qmend_rows_4(block),
                }
            }
        }
    }
}
