//! Convolution with little memory: a block of the inputs at a time.
//!
//! Where working memory is too small for whole columns, the columns of a block of inputs are on the stack, as are
//! the sums of some output channels with them; block after block is added, then the sums are scaled.

use super::conv::Rows;
use super::isa::COLUMNS;
use super::rows::{Form, copy, fill, raised, unpack, unsigned};
use super::scale::{Scaler, by_vector, sum_at};
use crate::kernels::conv2d::ConvParams;
use crate::kernels::runs::Inputs;
use crate::kernels::window::{Axis, Taps};

/// Inputs of a block, a multiple of what a vector of fields holds at every width.
const BLOCK: usize = 256;

/// Channels for which a block's columns are made once.
const CHANNELS: usize = 16;

/// Some channels' sums with three columns, as the assembly leaves them.
type Sums = [i32; CHANNELS * COLUMNS];

/// Room for columns, and for rows that are unpacked: two of them, or one of inputs that are yet to be put in order.
struct Room {
    columns: [[i8; BLOCK]; COLUMNS],
    rows: [i8; 2 * BLOCK],
}

/// As [`crate::kernels::conv2d`].
#[inline(never)]
pub(super) fn conv2d(p: &ConvParams, input: &[i8], output: &mut [i8]) {
    let form = Form::of(&p.weights);
    let axes = Axis::of(&p.window, p.input);
    let [y, x] = axes;
    let [in_h, in_w, in_c] = p.input;
    let [out_h, out_w, out_c] = p.output;
    let (per_group, group_outputs) = (in_c / p.groups, out_c / p.groups);
    assert_eq!(input.len(), in_h * in_w * in_c);
    assert_eq!(output.len(), out_h * out_w * out_c);
    assert_eq!(form.columns, y.kernel * x.kernel * per_group);
    assert_eq!(p.weights.bytes.len(), out_c * form.packed);
    let vector = by_vector(&p.channels);
    let mut room = Room {
        columns: [[0; BLOCK]; COLUMNS],
        rows: [0; 2 * BLOCK],
    };
    let zero = match form.bits {
        8 => p.input_zero_point as i32,
        _ => raised(p.input_zero_point),
    };
    for group in 0..p.groups {
        let inputs = Inputs {
            axes,
            in_c,
            per_group,
            first_channel: group * per_group,
            runs: p.groups == 1 && x.dilation == 1,
        };
        for from in (0..group_outputs).step_by(CHANNELS) {
            let first = group * group_outputs + from;
            let part = Part {
                p,
                form: &form,
                first,
                count: CHANNELS.min(group_outputs - from),
            };
            let mut bias = [0i32; CHANNELS];
            for (c, bias) in (first..).zip(&mut bias[..part.count]) {
                *bias = p.channels.bias(c);
            }
            if zero != 0 {
                // The weights' own sums: their products with ones.
                let one = if form.bits == 8 { 1 } else { -127 };
                let sums = part.sums(&mut room, 1, |_, _| 0, |_, _, to| fill(to, one));
                for (c, bias) in bias.iter_mut().enumerate().take(part.count) {
                    *bias = bias.wrapping_sub(zero.wrapping_mul(sums[sum_at(c, 0)]));
                }
            }
            let bias = bias[..part.count].as_ptr().cast();
            // SAFETY: as many were written, and live as long.
            let mut scaler = unsafe { Scaler::new(&p.channels, vector, first, part.count, bias) };
            let positions = out_h * out_w;
            let (mut oy, mut ox) = (0, 0);
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
                let offset = |block: &Form, sum| block.column_offset(sum, p.input_zero_point);
                let sums = part.sums(&mut room, together, offset, |q, at, to| {
                    let (ys, xs) = windows[q];
                    write(p, &inputs, input, ys, xs, at, to);
                });
                for q in 0..COLUMNS {
                    // Those behind the last position are the last one again.
                    let position = done + q.min(together - 1);
                    let out = &mut output[position * out_c + first..][..part.count];
                    scaler.set_out(q, out.as_mut_ptr());
                }
                // SAFETY: there are as many sums, and room for outputs.
                unsafe { scaler.three(sums.as_ptr()) };
            }
        }
    }
}

/// Writes a position's inputs from number `at` on.
fn write(
    p: &ConvParams,
    inputs: &Inputs,
    input: &[i8],
    ys: Taps,
    xs: Taps,
    at: usize,
    to: &mut [i8],
) {
    let mut done = 0;
    while done < to.len() {
        let (piece, from) = inputs.piece(ys, xs, at + done);
        let piece = piece.min(to.len() - done);
        let to = &mut to[done..done + piece];
        match from {
            Some(from) => copy(to, &input[from..], piece, 1, 0),
            None => fill(to, p.input_zero_point),
        }
        done += piece;
    }
}

/// Some of a group's channels.
struct Part<'a> {
    p: &'a ConvParams<'a>,
    form: &'a Form,
    first: usize,
    count: usize,
}

impl Part<'_> {
    /// Sums of the channels with up to three columns, of which `write(number, first input, to)` writes a block; those
    /// behind the last one are as that one. `offset(block, sum of a column)` is what fields add to its sums.
    #[inline(always)]
    fn sums(
        &self,
        room: &mut Room,
        columns: usize,
        offset: impl Fn(&Form, i32) -> i32,
        mut write: impl FnMut(usize, usize, &mut [i8]),
    ) -> Sums {
        let Self {
            p,
            form,
            first,
            count,
        } = *self;
        let mut totals: Sums = [0; CHANNELS * COLUMNS];
        for at in (0..form.columns).step_by(BLOCK) {
            let (block, start) = form.block(at, BLOCK.min(form.columns - at));
            let mut offsets = [0i32; COLUMNS];
            for (q, to) in offsets.iter_mut().enumerate().take(columns) {
                if form.bits == 8 {
                    write(q, at, &mut room.columns[q][..block.columns]);
                    continue;
                }
                let (plain, behind) = room.rows[..block.column_bytes].split_at_mut(block.columns);
                write(q, at, plain);
                fill(behind, -128);
                let sum = block.spread(&room.rows, unsigned(&mut room.columns[q]));
                *to = offset(&block, sum);
            }
            let mut sums: Sums = [0; CHANNELS * COLUMNS];
            // As many rows as there is room for, where they are unpacked.
            let part = if form.direct { count } else { 2 };
            for from in (0..count).step_by(part) {
                let count = part.min(count - from);
                let w = match form.direct {
                    true => p.weights.bytes[(first + from) * form.packed + start..].as_ptr(),
                    false => {
                        let rows = room.rows.chunks_exact_mut(block.columns);
                        for (i, row) in rows.enumerate().take(count) {
                            unpack(&p.weights, first + from + i, at, row);
                        }
                        room.rows.as_ptr().cast()
                    }
                };
                let rows = Rows {
                    form: &block,
                    w,
                    count,
                };
                let mut product = rows.product(&mut sums[sum_at(from, 0)..]);
                for q in 0..COLUMNS {
                    let same = q.min(columns - 1);
                    product.set(q, room.columns[same].as_ptr().cast());
                    product.set_offset(q, offsets[same]);
                }
                // SAFETY: `count` rows, columns as long, and room for their sums are there.
                unsafe { product.run(form.bits) };
            }
            for (total, sum) in totals.iter_mut().zip(&sums) {
                *total = total.wrapping_add(*sum);
            }
        }
        totals
    }
}
