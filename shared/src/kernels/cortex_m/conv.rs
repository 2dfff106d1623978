//! Convolution as a matrix product, four output positions at a time.
//!
//! The inputs of four positions, a filter's taps each, are spread into scratch memory as columns of
//! the form that the instruction set multiplies best (padding and the zero point are dealt with
//! there, once an input). Then each row of weights is read once and multiplied with all four columns: a
//! word of weights that was loaded and unpacked serves four positions.

use super::columns::Columns;
use super::isa;
use super::record::Record;
use super::unpack;
use crate::kernels::conv2d::ConvParams;
use crate::kernels::window::Axis;

/// Columns of a block.
pub(super) const COLUMNS: usize = 4;

/// Fewer channels than this are not computed at a time, since columns are made for them: less working
/// memory is too little.
const LEAST_CHANNELS: usize = 16;

/// Words on the stack for a convolution that has too little working memory.
const STACK_WORDS: usize = 320;

/// What the assembly works on: four columns and some output channels. The order of the fields is
/// known there.
#[repr(C)]
pub(super) struct Block {
    /// The columns, interleaved: word `i` of column `q` at `4 * i + q`; not empty.
    pub x: *const u32,
    /// Their end.
    pub x_end: *const u32,
    /// The first channel's weights; each channel's follow. Advanced.
    pub w: *const u8,
    /// The first channel's constants; each channel's follow. Advanced.
    pub records: *const Record,
    /// Channels to do, at least one. Counted down.
    pub count: usize,
    /// The first channel's output at the first position. Advanced by one a channel.
    pub out: *mut i8,
    /// Bytes from one position's output to the next one's.
    pub out_stride: usize,
    /// Copies of the unrolled loop's body that are skipped at first: with these the number of
    /// bodies to run is a multiple of four.
    pub skip: usize,
    /// Sums of the channel that is to be scaled by hand, without its bias.
    pub acc: [i32; 4],
    /// Where every channel's sums begin, before its bias.
    pub offsets: [i32; 4],
    /// The assembly's own.
    pub entry: [u32; 2],
    /// Where the sums of channels that are not scaled are added, four a channel; those of the first are left in
    /// `acc` where this is null, and where [`isa::ADDS_SUMS`] is not.
    pub to: *mut i32,
    /// With `to`: bytes from behind a channel's weights to the next one's.
    pub w_step: usize,
}

/// Working memory, in parts.
struct Scratch<'s> {
    /// Channels that are computed at a time.
    channels: usize,
    records: &'s mut [u32],
    columns: &'s mut [u32],
    /// Rows that were unpacked, as many as there is room for.
    rows: &'s mut [u8],
    bytes: &'s mut [i8],
    outputs: &'s mut [i8],
}

impl<'s> Scratch<'s> {
    /// `None` where there is too little for some of a group's `outputs` channels. `row`: bytes of a row that
    /// is unpacked, or zero.
    fn of(
        scratch: &'s mut [i8],
        inputs: usize,
        outputs: usize,
        bits: u8,
        row: usize,
    ) -> Option<Self> {
        // SAFETY: every bit pattern is a number of either type.
        let (_, words, _) = unsafe { scratch.align_to_mut::<u32>() };
        let columns = COLUMNS * isa::column_words(inputs, bits);
        let mut room = (4 * words.len()).checked_sub(4 * columns + inputs)?;
        let each = 4 * Record::WORDS + COLUMNS;
        let mut channels = outputs;
        if room < each * outputs + row {
            channels = room / (each + row);
            if channels < LEAST_CHANNELS.min(outputs) {
                return None;
            }
        }
        let (records, words) = words.split_at_mut(channels * Record::WORDS);
        let (columns, words) = words.split_at_mut(columns);
        // SAFETY: as above; bytes are always aligned.
        let (_, bytes, _) = unsafe { words.align_to_mut::<i8>() };
        room -= each * channels;
        let unpacked = room.checked_div(row).unwrap_or(0);
        if row > 0 {
            channels = channels.min(unpacked);
        }
        let (rows, bytes) = bytes.split_at_mut(unpacked * row);
        // SAFETY: as above.
        let rows = unsafe { core::slice::from_raw_parts_mut(rows.as_mut_ptr().cast(), rows.len()) };
        let (bytes, rest) = bytes.split_at_mut(inputs);
        let outputs = &mut rest[..COLUMNS * channels];
        Some(Self {
            channels,
            records,
            columns,
            rows,
            bytes,
            outputs,
        })
    }
}

/// As [`crate::kernels::conv2d`]. Returns whether it was done: where scratch memory is too small only if there
/// is flash for it.
pub(super) fn conv2d(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]) -> bool {
    if convolve(p, scratch, input, output) {
        return true;
    }
    if super::ROOMY && !on_stack(p, input, output) {
        super::blocks::conv2d(p, input, output);
    }
    super::ROOMY
}

/// The convolution with working memory on the stack, if that is enough.
#[inline(never)]
fn on_stack(p: &ConvParams, input: &[i8], output: &mut [i8]) -> bool {
    let mut room = [0u32; STACK_WORDS];
    // SAFETY: every bit pattern is a number of either type, and bytes are always aligned.
    let (_, room, _) = unsafe { room.align_to_mut::<i8>() };
    convolve(p, room, input, output)
}

/// How rows of weights are read.
pub(super) struct Form {
    /// Whether the assembly reads them as they lie in the image; else they are unpacked: bytes where words
    /// cannot be loaded from their address, else to 4-bit fields.
    pub direct: bool,
    pub bits: u8,
    /// Inputs that one body of the assembly's loop takes.
    pub body: usize,
    /// Inputs with padding.
    pub inputs: usize,
}

impl Form {
    #[inline(always)]
    pub fn of(p: &ConvParams) -> Option<Self> {
        let direct = isa::reads(&p.weights);
        if !super::ROOMY && !direct {
            return None;
        }
        let direct = !super::ROOMY || direct;
        let bits = match (direct, p.weights.bits) {
            (true, bits) => bits,
            (false, 8) => 8,
            (false, _) => 4,
        };
        let body = match bits {
            2 => 16,
            4 => 8,
            _ => 4,
        };
        Some(Self {
            direct,
            bits,
            body,
            inputs: p.weights.columns.next_multiple_of(body),
        })
    }

    /// What fields add to a sum for each activation: they hold weights plus half their range.
    pub fn per_sum(&self) -> i32 {
        match self.bits {
            8 => 0,
            bits => -(1 << (bits - 1)),
        }
    }
}

/// As [`conv2d`], with this working memory only.
fn convolve(p: &ConvParams, scratch: &mut [i8], input: &[i8], output: &mut [i8]) -> bool {
    let [in_h, in_w, in_c] = p.input;
    let [out_h, out_w, out_c] = p.output;
    assert_eq!(input.len(), in_h * in_w * in_c);
    assert_eq!(output.len(), out_h * out_w * out_c);
    let taps = p.weights.columns;
    assert!(p.groups > 0 && taps > 0);
    let Some(form) = Form::of(p) else {
        return false;
    };
    let Form {
        direct,
        bits,
        body,
        inputs,
    } = form;
    let unpacked = match (direct, bits) {
        (true, _) => 0,
        (false, 8) => inputs,
        (false, _) => unpack::row_bytes(inputs),
    };
    let per_group = in_c / p.groups;
    let group_outputs = out_c / p.groups;
    let Some(scratch) = Scratch::of(scratch, inputs, group_outputs, bits, unpacked) else {
        return false;
    };
    let axes = Axis::of(&p.window, p.input);
    let [y, x] = axes;
    assert_eq!(taps, y.kernel * x.kernel * per_group);
    assert_eq!(p.weights.bytes.len(), out_c * p.weights.row_bytes(0).len());
    let per_sum = form.per_sum();
    let skip = (inputs / body).wrapping_neg() % 4;
    for group in 0..p.groups {
        let columns = Columns::of(p, &form, group, input);
        // Where there is little memory channels take turns, and so do rows that are unpacked.
        let part = scratch.channels;
        for from in (0..group_outputs).step_by(part) {
            let first = group * group_outputs + from;
            let group_outputs = part.min(group_outputs - from);
            let rows = if direct {
                let stride = p.weights.row_bytes(0).len();
                &p.weights.bytes[first * stride..][..group_outputs * stride]
            } else {
                let rows = scratch.rows.chunks_exact_mut(unpacked);
                for (i, row) in rows.enumerate().take(group_outputs) {
                    unpack::part(&p.weights, bits, first + i, 0, row);
                }
                &scratch.rows[..group_outputs * unpacked]
            };
            let row_bytes = rows.len() / group_outputs;
            let records = scratch.records.chunks_exact_mut(Record::WORDS);
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
                    records: scratch.records.as_ptr().cast(),
                    count: group_outputs,
                    out: out.as_mut_ptr(),
                    out_stride,
                    skip,
                    acc: [0; 4],
                    offsets: sums.map(|s| s.wrapping_mul(per_sum)),
                    entry: [0; 2],
                    to: core::ptr::null_mut(),
                    w_step: 0,
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
