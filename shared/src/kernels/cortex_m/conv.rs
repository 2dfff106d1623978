//! Convolution as a matrix product, four output positions at a time.
//!
//! The inputs of four positions, a filter's taps each, are spread into scratch memory as columns of
//! the form that the instruction set multiplies best (padding and the zero point are dealt with
//! there, once an input). Then each row of weights is read once and multiplied with all four columns: a
//! word of weights that was loaded and unpacked serves four positions.

use super::isa;
use super::record::Record;
use super::unpack;
use crate::kernels::conv2d::ConvParams;
use crate::kernels::window::{Axis, Taps};

/// Columns of a block.
const COLUMNS: usize = 4;

/// What the assembly works on: four columns and some output channels. The order of the fields is
/// known there.
#[repr(C)]
pub(super) struct Block {
    /// The columns, interleaved: word `i` of column `q` at `4 * i + q`; not empty.
    pub x: *const u32,
    /// Their end.
    pub x_end: *const u32,
    /// The first channel's weights; each channel's follow. Advanced.
    w: *const u8,
    /// The first channel's constants; each channel's follow. Advanced.
    records: *const Record,
    /// Channels to do, at least one. Counted down.
    count: usize,
    /// The first channel's output at the first position. Advanced by one a channel.
    out: *mut i8,
    /// Bytes from one position's output to the next one's.
    out_stride: usize,
    /// Copies of the unrolled loop's body that are skipped at first: with these the number of
    /// bodies to run is a multiple of four.
    skip: usize,
    /// Sums of the channel that is to be scaled by hand, without its bias.
    acc: [i32; 4],
    /// Where every channel's sums begin, before its bias.
    offsets: [i32; 4],
    /// The assembly's own.
    entry: [u32; 2],
}

/// Working memory, in parts.
struct Scratch<'s> {
    records: &'s mut [u32],
    columns: &'s mut [u32],
    /// Rows that were unpacked, as many as there is room for.
    rows: &'s mut [u8],
    bytes: &'s mut [i8],
    outputs: &'s mut [i8],
}

impl<'s> Scratch<'s> {
    /// `None` where there is too little. `row`: bytes of a row that is unpacked, or zero.
    fn of(
        scratch: &'s mut [i8],
        inputs: usize,
        outputs: usize,
        bits: u8,
        row: usize,
    ) -> Option<Self> {
        // SAFETY: every bit pattern is a number of either type.
        let (_, words, _) = unsafe { scratch.align_to_mut::<u32>() };
        let (records, words) = words.split_at_mut_checked(outputs * Record::WORDS)?;
        let columns = COLUMNS * isa::column_words(inputs, bits);
        let (columns, words) = words.split_at_mut_checked(columns)?;
        // SAFETY: as above; bytes are always aligned.
        let (_, bytes, _) = unsafe { words.align_to_mut::<i8>() };
        let room = bytes.len().checked_sub(inputs + COLUMNS * outputs)?;
        let rows = room.checked_div(row).map_or(0, |rows| rows * row);
        if row > 0 && rows == 0 {
            return None;
        }
        let (rows, bytes) = bytes.split_at_mut(rows);
        // SAFETY: as above.
        let rows = unsafe { core::slice::from_raw_parts_mut(rows.as_mut_ptr().cast(), rows.len()) };
        let (bytes, rest) = bytes.split_at_mut(inputs);
        let outputs = &mut rest[..COLUMNS * outputs];
        Some(Self {
            records,
            columns,
            rows,
            bytes,
            outputs,
        })
    }
}

/// Where the inputs of an output position are.
struct Columns<'a> {
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

impl Columns<'_> {
    /// Writes the column of one position and returns the sum that [`isa::spread`] gives. `to` is the
    /// column's first word.
    ///
    /// # Safety
    ///
    /// `to` has `inputs` activations' room at every fourth word; `bytes` is `inputs` long.
    unsafe fn write(&self, ys: Taps, xs: Taps, mut to: *mut u32, bytes: &mut [i8]) -> i32 {
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
}

/// As [`crate::kernels::conv2d`]. Returns whether it was done: not where scratch memory is too small.
pub(super) fn conv2d(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]) -> bool {
    let [in_h, in_w, in_c] = p.input;
    let [out_h, out_w, out_c] = p.output;
    assert_eq!(input.len(), in_h * in_w * in_c);
    assert_eq!(output.len(), out_h * out_w * out_c);
    let taps = p.weights.columns;
    assert!(p.groups > 0 && taps > 0);
    let direct = isa::reads(&p.weights);
    if !super::ROOMY && !direct {
        return false;
    }
    let direct = !super::ROOMY || direct;
    // Other rows are unpacked: bytes where words cannot be loaded from their address, else to 4-bit fields.
    let bits = match (direct, p.weights.bits) {
        (true, bits) => bits,
        (false, 8) => 8,
        (false, _) => 4,
    };
    // One body of the assembly's loop takes this many inputs.
    let body = match bits {
        2 => 16,
        4 => 8,
        _ => 4,
    };
    let inputs = taps.next_multiple_of(body);
    let unpacked = match (direct, bits) {
        (true, _) => 0,
        (false, 8) => inputs,
        (false, _) => unpack::row_bytes(inputs),
    };
    let Some(scratch) = Scratch::of(scratch, inputs, out_c, bits, unpacked) else {
        return false;
    };
    let per_group = in_c / p.groups;
    let group_outputs = out_c / p.groups;
    let axes = Axis::of(&p.window, p.input);
    let [y, x] = axes;
    assert_eq!(taps, y.kernel * x.kernel * per_group);
    assert_eq!(p.weights.bytes.len(), out_c * p.weights.row_bytes(0).len());
    // Fields hold weights plus half their range.
    let per_sum = if bits == 8 { 0 } else { -(1 << (bits - 1)) };
    let skip = (inputs / body).wrapping_neg() % 4;
    for group in 0..p.groups {
        let columns = Columns {
            input,
            axes,
            in_c,
            per_group,
            first_channel: group * per_group,
            zero_point: p.input_zero_point,
            bits,
            runs: p.groups == 1 && x.dilation == 1,
            fours: per_group.is_multiple_of(4) && isa::loads_from(input.as_ptr()),
            inputs,
        };
        // Rows that are unpacked take turns in what memory there is.
        let part = match scratch.rows.len().checked_div(unpacked) {
            Some(rows) => rows.min(group_outputs),
            None => group_outputs,
        };
        for from in (0..group_outputs).step_by(part) {
            let first = group * group_outputs + from;
            let group_outputs = part.min(group_outputs - from);
            let rows = if direct {
                let stride = p.weights.row_bytes(0).len();
                &p.weights.bytes[first * stride..][..group_outputs * stride]
            } else {
                let rows = scratch.rows.chunks_exact_mut(unpacked);
                for (i, row) in rows.enumerate().take(group_outputs) {
                    if bits == 8 {
                        let from = &p.weights.row_bytes(first + i)[..taps];
                        row[..taps].copy_from_slice(from);
                        row[taps..].fill(0);
                    } else {
                        unpack::fields(&p.weights, first + i, row);
                    }
                }
                &scratch.rows[..group_outputs * unpacked]
            };
            let row_bytes = rows.len() / group_outputs;
            let records = scratch.records[first * Record::WORDS..].chunks_exact_mut(Record::WORDS);
            for (i, words) in records.enumerate().take(group_outputs) {
                let row = &rows[i * row_bytes..][..row_bytes];
                let offset = isa::bias_offset(row, bits, p.input_zero_point);
                let r = Record::new(&p.channels, first + i, taps, offset);
                words.copy_from_slice(
                    &[
                        r.bias.wrapping_mul(isa::BIAS_SCALE),
                        r.mantissa,
                        r.round,
                        r.shift,
                    ]
                    .map(|v| v as u32),
                );
            }
            let (mut oy, mut ox) = (0, 0);
            let mut ys = y.taps(0);
            let positions = out_h * out_w;
            let mut done = 0;
            while done < positions {
                let count = COLUMNS.min(positions - done);
                let mut sums = [0i32; COLUMNS];
                for (q, sum) in sums.iter_mut().enumerate().take(count) {
                    // SAFETY: `columns` holds four columns of `inputs`, `bytes` is as long.
                    unsafe {
                        let to = scratch.columns.as_mut_ptr().add(q);
                        *sum = columns.write(ys, x.taps(ox), to, scratch.bytes);
                    }
                    ox += 1;
                    if ox == out_w {
                        ox = 0;
                        oy += 1;
                        ys = y.taps(oy);
                    }
                }
                // The assembly always writes four positions.
                let whole = count == COLUMNS;
                let (out, out_stride) = if whole {
                    (&mut output[done * out_c + first..], out_c)
                } else {
                    (&mut scratch.outputs[..], group_outputs)
                };
                assert!(out.len() >= (COLUMNS - 1) * out_stride + group_outputs);
                let words = scratch.columns.as_ptr_range();
                let mut block = Block {
                    x: words.start,
                    x_end: words.end,
                    w: rows.as_ptr(),
                    records: scratch.records[first * Record::WORDS..].as_ptr().cast(),
                    count: group_outputs,
                    out: out.as_mut_ptr(),
                    out_stride,
                    skip,
                    acc: [0; 4],
                    offsets: sums.map(|s| s.wrapping_mul(per_sum)),
                    entry: [0; 2],
                };
                // SAFETY: rows, records and outputs of `count` channels are there, as asserted.
                unsafe { channels(p, &mut block, bits, first, rows) };
                if !whole {
                    for (q, from) in scratch
                        .outputs
                        .chunks_exact(group_outputs)
                        .take(count)
                        .enumerate()
                    {
                        output[(done + q) * out_c + first..][..group_outputs].copy_from_slice(from);
                    }
                }
                done += count;
            }
        }
    }
    true
}

/// All channels of a block, from channel `c` on, whose weights are `rows`.
///
/// # Safety
///
/// As [`Block`]'s fields say.
unsafe fn channels(p: &ConvParams, block: &mut Block, bits: u8, mut c: usize, rows: &[u8]) {
    let (first, end) = (c, c + block.count);
    let row_bytes = rows.len() / block.count;
    while c < end {
        let before = block.count;
        // SAFETY: by contract.
        unsafe { isa::run(block, bits) };
        c += before - block.count;
        if block.count > 0 {
            // This one the assembly has summed and not scaled.
            let multiplier = p.channels.multiplier(c);
            let row = &rows[(c - first) * row_bytes..][..row_bytes];
            let offset = isa::bias_offset(row, bits, p.input_zero_point);
            let bias = p.channels.bias(c).wrapping_add(offset);
            for (q, &acc) in block.acc.iter().enumerate() {
                let acc = acc.wrapping_add(bias);
                let y = p.channels.finish(multiplier.apply(acc));
                // SAFETY: the output has this channel at four positions.
                unsafe { block.out.add(q * block.out_stride).write(y) };
            }
            // SAFETY: at most one past the output's end.
            block.out = unsafe { block.out.add(1) };
            block.count -= 1;
            c += 1;
        }
    }
}
