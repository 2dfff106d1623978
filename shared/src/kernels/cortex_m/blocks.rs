//! Convolution with little memory: a block of the inputs at a time.
//!
//! Where working memory is too small for whole columns, the columns of a block of inputs are on the stack, as are
//! the sums of some output channels with them; block after block is added, then the sums are scaled.

use super::columns::Columns;
use super::conv::{Block, COLUMNS, Form};
use super::isa;
use super::record::Record;
use super::unpack;
use crate::kernels::conv2d::ConvParams;

/// Words of four columns of a block.
const WORDS: usize = 256;
/// Inputs of a block, where an activation is half a word; half as many where it is a word. All loops' bodies, of
/// sixteen inputs at most, run a multiple of four times in a whole block.
const INPUTS: usize = 2 * WORDS / COLUMNS;
/// Channels for which a block's columns are made once.
const CHANNELS: usize = 16;

/// Records of channels that are not scaled.
static SUMS_ONLY: [Record; CHANNELS] = [Record::UNSCALED; CHANNELS];

/// Bytes that may be loaded as words.
#[repr(align(4))]
struct Aligned<T>(T);

/// As [`crate::kernels::conv2d`].
#[inline(never)]
pub(super) fn conv2d(p: &ConvParams, input: &[i8], output: &mut [i8]) {
    let Some(form) = Form::of(p) else {
        return;
    };
    let [in_h, in_w, in_c] = p.input;
    let [out_h, out_w, out_c] = p.output;
    let [y, x] = crate::kernels::window::Axis::of(&p.window, p.input);
    let taps = p.weights.columns;
    let group_outputs = out_c / p.groups;
    assert_eq!(input.len(), in_h * in_w * in_c);
    assert_eq!(output.len(), out_h * out_w * out_c);
    assert_eq!(taps, y.kernel * x.kernel * (in_c / p.groups));
    assert_eq!(p.weights.bytes.len(), out_c * p.weights.row_bytes(0).len());
    let block_inputs = INPUTS.min(2 * WORDS / (isa::column_words(2, form.bits) * COLUMNS));
    let mut columns_room = [0u32; WORDS];
    let mut bytes = Aligned([0i8; INPUTS]);
    let mut row = Aligned([0u8; INPUTS]);
    for group in 0..p.groups {
        let columns = Columns::of(p, &form, group, input);
        for from in (0..group_outputs).step_by(CHANNELS) {
            let first = group * group_outputs + from;
            let count = CHANNELS.min(group_outputs - from);
            let mut records = [Record::UNSCALED; CHANNELS];
            for (c, record) in (first..).zip(&mut records[..count]) {
                let mut offset = 0i32;
                if isa::raises(form.bits, p.input_zero_point) {
                    for at in (0..form.inputs).step_by(block_inputs) {
                        let inputs = block_inputs.min(form.inputs - at);
                        let w = weights(p, &form, c, at, inputs, &mut row.0);
                        let part = isa::bias_offset(w, form.bits, p.input_zero_point);
                        offset = offset.wrapping_add(part);
                    }
                }
                *record = Record::new(&p.channels, c, taps, offset);
            }
            let (mut oy, mut ox) = (0, 0);
            let positions = out_h * out_w;
            for done in (0..positions).step_by(COLUMNS) {
                let mut windows = [(y.taps(oy), x.taps(ox)); COLUMNS];
                let together = COLUMNS.min(positions - done);
                for window in &mut windows[..together] {
                    *window = (y.taps(oy), x.taps(ox));
                    ox += 1;
                    if ox == out_w {
                        (oy, ox) = (oy + 1, 0);
                    }
                }
                let mut sums = [[0i32; COLUMNS]; CHANNELS];
                for at in (0..form.inputs).step_by(block_inputs) {
                    let inputs = block_inputs.min(form.inputs - at);
                    let mut offsets = [0i32; COLUMNS];
                    let windows = windows.iter().take(together);
                    for (q, (&(ys, xs), offset)) in windows.zip(&mut offsets).enumerate() {
                        let bytes = &mut bytes.0[..inputs];
                        // SAFETY: there is room for four columns of so many inputs.
                        let sum = unsafe {
                            let to = columns_room.as_mut_ptr().add(q);
                            columns.write_part(ys, xs, at, inputs, to, bytes)
                        };
                        *offset = sum.wrapping_mul(form.per_sum());
                    }
                    let words = COLUMNS * isa::column_words(inputs, form.bits);
                    let range = columns_room[..words].as_ptr_range();
                    let mut block = Block {
                        x: range.start,
                        x_end: range.end,
                        w: core::ptr::null(),
                        records: SUMS_ONLY.as_ptr(),
                        count,
                        out: core::ptr::null_mut(),
                        out_stride: 0,
                        skip: (inputs / form.body).wrapping_neg() % 4,
                        acc: [0; 4],
                        offsets,
                        entry: [0; 2],
                        to: core::ptr::null_mut(),
                        w_step: 0,
                    };
                    if isa::ADDS_SUMS && form.direct {
                        let w = weights(p, &form, first, at, inputs, &mut row.0);
                        block.w = w.as_ptr();
                        block.w_step = p.weights.row_bytes(first).len() - w.len();
                        block.to = sums.as_mut_ptr().cast();
                        // SAFETY: columns and the rows of `count` channels are there, with room for their sums.
                        unsafe { isa::run(&mut block, form.bits) };
                        continue;
                    }
                    for (c, sums) in (first..).zip(&mut sums[..count]) {
                        block.w = weights(p, &form, c, at, inputs, &mut row.0).as_ptr();
                        block.records = SUMS_ONLY.as_ptr();
                        block.count = 1;
                        if isa::ADDS_SUMS {
                            block.to = sums.as_mut_ptr();
                        }
                        // SAFETY: columns and weights of `inputs` inputs are there, with room for sums, and
                        // nothing is scaled.
                        unsafe { isa::run(&mut block, form.bits) };
                        if !isa::ADDS_SUMS {
                            for (sum, acc) in sums.iter_mut().zip(block.acc) {
                                *sum = sum.wrapping_add(acc);
                            }
                        }
                    }
                }
                for (i, (sums, record)) in sums.iter().zip(&records).enumerate().take(count) {
                    let out = output[done * out_c + first + i..].iter_mut().step_by(out_c);
                    for (out, sum) in out.zip(sums).take(together) {
                        let acc = sum.wrapping_add(record.bias);
                        *out = match record.scale(acc) {
                            Some(y) => y,
                            None => {
                                let multiplier = p.channels.multiplier(first + i);
                                p.channels.finish(multiplier.apply(acc))
                            }
                        };
                    }
                }
            }
        }
    }
}

/// The weights of channel `c` with `inputs` inputs from number `at` on, as the assembly reads them.
#[inline(always)]
fn weights<'a>(
    p: &'a ConvParams,
    form: &Form,
    c: usize,
    at: usize,
    inputs: usize,
    row: &'a mut [u8; INPUTS],
) -> &'a [u8] {
    let bytes = p.weights.row_bytes(c);
    if form.direct {
        return &bytes[at * form.bits as usize / 8..][..inputs * form.bits as usize / 8];
    }
    let row = &mut row[..inputs * form.bits as usize / 8];
    unpack::part(&p.weights, form.bits, c, at, row);
    row
}
