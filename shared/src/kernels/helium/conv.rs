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

impl Source<'_> {
    /// Copies the inputs of a position.
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

/// Fewer channels than this are not computed at a time, since columns are made for them: less working
/// memory is too little.
const LEAST_CHANNELS: usize = 16;

/// Words on the stack for a convolution that has too little working memory.
const STACK_WORDS: usize = 320;

/// Working memory, in parts.
struct Scratch<'s> {
    /// Channels that are computed at a time.
    channels: usize,
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
    /// `None` where there is too little for some of a group's `outputs` channels.
    fn of(scratch: &'s mut [i8], form: &Form, outputs: usize) -> Option<Self> {
        let len = form.column_bytes;
        let plain = if form.bits == 8 { 0 } else { len };
        let row = if form.direct { 0 } else { form.columns };
        // What is lost where the memory does not begin at a word.
        let room = scratch.len().checked_sub(COLUMNS * len + plain + 3)?;
        let words = |channels: usize| channels + channels.next_multiple_of(2) * COLUMNS;
        let mut channels = outputs;
        if room < 4 * words(outputs) + row {
            channels = room / (4 * (1 + COLUMNS) + row) / 2 * 2;
            if channels < LEAST_CHANNELS.min(outputs) {
                return None;
            }
        }
        let (words, bytes) = split(scratch, words(channels))?;
        let (bias, sums) = words.split_at_mut(channels);
        let (columns, bytes) = bytes.split_at_mut_checked(COLUMNS * len)?;
        let (plain, rows) = bytes.split_at_mut_checked(plain)?;
        if !form.direct {
            channels = channels.min(rows.len() / form.columns);
        }
        (channels > 0).then_some(Self {
            channels,
            bias,
            sums,
            columns,
            plain,
            rows,
        })
    }
}

/// As [`crate::kernels::conv2d`].
pub(super) fn conv2d(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]) {
    if !convolve(p, scratch, input, output) && !on_stack(p, input, output) {
        super::blocks::conv2d(p, input, output);
    }
}

/// The convolution with working memory on the stack, if that is enough.
#[inline(never)]
fn on_stack(p: &ConvParams, input: &[i8], output: &mut [i8]) -> bool {
    let mut room = [0i32; STACK_WORDS];
    // SAFETY: every bit pattern is a number of either type, and bytes are always aligned.
    let (_, room, _) = unsafe { room.align_to_mut::<i8>() };
    convolve(p, room, input, output)
}

/// As [`conv2d`], with this working memory only. Returns whether that was enough.
fn convolve(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]) -> bool {
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
    assert_eq!(p.weights.bytes.len(), out_c * form.packed);
    assert!(p.channels.count() == out_c && group_outputs * p.groups == out_c);
    let Some(mut scratch) = Scratch::of(scratch, &form, group_outputs) else {
        return false;
    };
    let vector = by_vector(&p.channels);
    // Where there is little memory channels take turns, and so do rows that are unpacked.
    let part = scratch.channels;
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
                true => p.weights.bytes[first * form.stride..].as_ptr(),
                false => {
                    let rows = scratch.rows.chunks_exact_mut(form.columns);
                    for (i, row) in rows.take(count).enumerate() {
                        unpack(&p.weights, first + i, 0, row);
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
pub(super) struct Rows<'a> {
    pub form: &'a Form,
    pub w: *const u8,
    pub count: usize,
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
            unsafe { isa::qmend_row_sums(w, form.stride, form.row_bytes, count, to) };
            for (bias, sum) in scratch.bias.iter_mut().zip(sums) {
                *bias = bias.wrapping_sub(zero.wrapping_mul(*sum));
            }
            return;
        }
        // Fields behind a row's last number do not count: the rows are multiplied with ones.
        let (ones, padding) = scratch.plain.split_at_mut(form.columns);
        fill(ones, -127);
        fill(padding, -128);
        let len = form.column_bytes;
        let column = unsigned(&mut scratch.columns[..len]);
        form.spread(scratch.plain, column);
        let column = column.as_ptr();
        let mut product = self.product(scratch.sums);
        for q in 0..COLUMNS {
            product.set(q, column);
        }
        // SAFETY: by contract.
        unsafe { product.run(form.bits) };
        for (c, bias) in scratch.bias[..count].iter_mut().enumerate() {
            *bias = bias.wrapping_sub(zero.wrapping_mul(scratch.sums[sum_at(c, 0)]));
        }
    }

    /// Their product with columns, made ready.
    pub fn product(&self, sums: &mut [i32]) -> Product {
        let Self { form, w, count } = *self;
        assert!(count > 0 && sums.len() >= count.next_multiple_of(2) * COLUMNS);
        let even = count & !1;
        let from = sums.as_mut_ptr();
        let last = from.wrapping_add(even * COLUMNS);
        let block = |first: usize, second: usize, sums: *mut i32, end: *mut i32| Block {
            head: [core::ptr::null(); 9],
            row_bytes: form.row_bytes,
            delta: delta(form, 2),
            end,
            w: [first, second].map(|row| w.wrapping_add(row * form.stride)),
            sums,
        };
        Product {
            pairs: block(0, 1, from, last),
            some: even > 0,
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
        let len = form.column_bytes;
        if bits != 8 {
            fill(&mut scratch.plain[form.columns..], -128);
        }
        let positions = out_h * out_w;
        assert!(output.len() == positions * out_c && first + self.count <= out_c);
        let product = self.product(scratch.sums);
        let sums = scratch.sums.as_ptr();
        let bias = scratch.bias[..self.count].as_ptr().cast();
        // SAFETY: as many were written.
        let scaler = unsafe { Scaler::new(&p.channels, vector, first, self.count, bias) };
        let mut line = Line {
            product,
            scaler,
            sums,
            form: *form,
            plain: scratch.plain,
            rooms: [0, 1, 2].map(|q| scratch.columns[q * len..(q + 1) * len].as_mut_ptr()),
            out: output.as_mut_ptr().wrapping_add(first),
            out_step: out_c,
            zero_point: source.zero_point,
            q: 0,
        };
        let step = x.stride * source.in_c;
        let in_one_go = source.runs || source.is_run;
        for oy in 0..out_h {
            let ys = y.taps(oy);
            let whole = in_one_go && rows_inside.contains(&oy);
            let fast = if whole { columns_inside.clone() } else { 0..0 };
            let mut ox = 0;
            while ox < out_w {
                if ox != fast.start || fast.is_empty() {
                    // SAFETY: by contract, and there are as many positions in the output.
                    unsafe { line.copied(|to| source.write_taps(ys, x.taps(ox), to)) };
                    ox += 1;
                    continue;
                }
                let [top, left] = [oy * y.stride - y.pad, ox * x.stride - x.pad];
                let from = (top * x.input + left) * source.in_c + source.first_channel;
                let to = from + (fast.len() - 1) * step + source.span;
                let mut from = source.input[from..to].as_ptr();
                for _ in 0..fast.len() {
                    // SAFETY: as above; the inputs of these positions are in the slice.
                    unsafe {
                        if source.is_run && bits == 8 {
                            line.push(from.cast());
                        } else {
                            let (run, rows, row_step) = (source.run, y.kernel, source.row_step);
                            line.copied(|to| {
                                debug_assert_eq!(to.len(), run * rows);
                                isa::qmend_copy(to.as_mut_ptr(), from, run, rows, row_step);
                            });
                        }
                    }
                    from = from.wrapping_add(step);
                }
                ox = fast.end;
            }
        }
        // SAFETY: as above.
        unsafe { line.finish() };
    }
}

/// Columns in the order of output positions, three of which are multiplied at a time.
struct Line<'a> {
    product: Product,
    scaler: Scaler<'a>,
    sums: *const i32,
    form: Form,
    plain: &'a mut [i8],
    /// Where columns are copied to.
    rooms: [*mut i8; COLUMNS],
    /// The next position's first output.
    out: *mut i8,
    out_step: usize,
    zero_point: i8,
    /// Columns that wait.
    q: usize,
}

impl Line<'_> {
    /// Adds the column that `write` writes.
    ///
    /// # Safety
    ///
    /// As [`Self::push`].
    #[inline(always)]
    unsafe fn copied(&mut self, write: impl FnOnce(&mut [i8])) {
        let room = self.rooms[self.q];
        if self.form.bits == 8 {
            // SAFETY: there is room for a column.
            write(unsafe { core::slice::from_raw_parts_mut(room, self.form.columns) });
        } else {
            write(&mut self.plain[..self.form.columns]);
            let len = self.form.column_bytes;
            // SAFETY: as above.
            let to = unsafe { core::slice::from_raw_parts_mut(room.cast(), len) };
            let sum = self.form.spread(self.plain, to);
            let offset = self.form.column_offset(sum, self.zero_point);
            self.product.set_offset(self.q, offset);
        }
        // SAFETY: by contract.
        unsafe { self.push(room.cast()) };
    }

    /// Adds a column.
    ///
    /// # Safety
    ///
    /// The column is as long as rows need; the output has a position for it; and what [`Product::run`] and
    /// [`Scaler::three`] need is there.
    #[inline(always)]
    unsafe fn push(&mut self, x: *const u8) {
        self.product.set(self.q, x);
        self.scaler.set_out(self.q, self.out);
        self.out = self.out.wrapping_add(self.out_step);
        self.q += 1;
        if self.q == COLUMNS {
            self.q = 0;
            // SAFETY: by contract.
            unsafe {
                self.product.run(self.form.bits);
                self.scaler.three(self.sums);
            }
        }
    }

    /// Multiplies the columns that wait.
    ///
    /// # Safety
    ///
    /// As [`Self::push`].
    unsafe fn finish(&mut self) {
        if self.q == 0 {
            return;
        }
        // The last position again.
        self.out = self.out.wrapping_sub(self.out_step);
        self.out_step = 0;
        let (x, offset) = self.product.column(self.q - 1);
        while self.q != 0 {
            self.product.set_offset(self.q, offset);
            // SAFETY: by contract.
            unsafe { self.push(x) };
        }
    }
}

/// A product of rows and columns.
pub(super) struct Product {
    pairs: Block,
    some: bool,
    rest: Option<Block>,
}

impl Product {
    /// Where column `q` is.
    #[inline(always)]
    pub fn set(&mut self, q: usize, x: *const u8) {
        self.pairs.head[Block::X[q]] = x;
    }

    /// Where its sums begin.
    #[inline(always)]
    pub fn set_offset(&mut self, q: usize, offset: i32) {
        let offset = core::ptr::without_provenance(offset as u32 as usize);
        for at in Block::OFFSETS[q] {
            self.pairs.head[at] = offset;
        }
    }

    /// Both.
    fn column(&self, q: usize) -> (*const u8, i32) {
        let offset = self.pairs.head[Block::OFFSETS[q][0]];
        (self.pairs.head[Block::X[q]], offset.addr() as i32)
    }

    /// Multiplies.
    ///
    /// # Safety
    ///
    /// Rows, columns and the memory for sums are there.
    #[inline(always)]
    pub unsafe fn run(&mut self, bits: u8) {
        let rows = match bits {
            2 => isa::qmend_rows_2,
            4 => isa::qmend_rows_4,
            _ => isa::qmend_rows_8,
        };
        // SAFETY: by contract.
        unsafe {
            if self.some {
                rows(&self.pairs);
            }
            if let Some(rest) = &mut self.rest {
                rest.head = self.pairs.head;
                rows(rest);
            }
        }
    }
}
