//! Fully connected layer: three rows of bytes, or four of fields, are multiplied with the input at a
//! time.

use super::isa::{Product, qmend_product_2, qmend_product_4, qmend_product_8};
use super::rows::{Form, delta, fill, raised, split, unpack, unsigned};
use super::scale::{by_vector, scale};
use crate::arith::Rounding;
use crate::image::Channels;
use crate::kernels::fully_connected::FullyConnectedParams;

/// Outputs whose sums are held: a multiple of three and of four.
const PART: usize = 24;

/// Rows that are multiplied at a time.
const fn together(bits: u8) -> usize {
    if bits == 8 { 3 } else { 4 }
}

/// As [`crate::kernels::fully_connected`]. Returns whether it was done.
pub(super) fn fully_connected(
    p: &FullyConnectedParams,
    scratch: &mut [i8],
    input: &[i8],
    output: &mut [i8],
) -> bool {
    let form = Form::of(&p.weights);
    let c = &p.channels;
    let outputs = output.len();
    assert_eq!(input.len(), form.columns);
    assert_eq!(c.count(), outputs);
    assert_eq!(
        p.weights.bytes.len(),
        outputs * crate::weights::row_stride(form.columns, p.weights.bits)
    );
    if form.columns == 0 || outputs == 0 {
        return false;
    }
    let zero_point = p.input_zero_point;
    let vector = by_vector(c) && p.rounding == Rounding::Tflm;
    if !form.direct {
        return unpacked(p, &form, vector, scratch, input, output);
    }
    let (mut x, mut offset, mut ones) = (input.as_ptr().cast::<u8>(), 0, None);
    if form.bits != 8 {
        let len = form.column_bytes();
        // First the bytes as they are, then in their order; where the zero point asks for rows' own sums, a
        // column of ones.
        let columns = if zero_point == -128 { 2 } else { 3 };
        let Some(room) = scratch.get_mut(..columns * len) else {
            return false;
        };
        let (plain, room) = room.split_at_mut(len);
        let (column, one) = room.split_at_mut(len);
        plain[..input.len()].copy_from_slice(input);
        fill(&mut plain[input.len()..], -128);
        let column = unsigned(column);
        let sum = form.spread(plain, column);
        offset = form.column_offset(sum, zero_point);
        x = column.as_ptr();
        if zero_point != -128 {
            fill(&mut plain[..input.len()], -127);
            let one = unsigned(one);
            form.spread(plain, one);
            ones = Some(one.as_ptr());
        }
    }
    for first in (0..outputs).step_by(PART) {
        let count = PART.min(outputs - first);
        let w = p.weights.bytes[first * form.stride()..].as_ptr();
        let mut sums = [0; PART + 4];
        // SAFETY: rows of `count` outputs follow `w`, and the column is as long as they need.
        unsafe { products(&form, x, offset, zero_point, w, count, &mut sums) };
        let mut bias = [0; PART];
        for (i, bias) in bias[..count].iter_mut().enumerate() {
            *bias = c.bias(first + i);
        }
        if let Some(ones) = ones {
            let mut weights = [0; PART + 4];
            // SAFETY: as above.
            unsafe { products(&form, ones, 0, 0, w, count, &mut weights) };
            for (bias, sum) in bias[..count].iter_mut().zip(weights) {
                *bias = bias.wrapping_sub(raised(zero_point).wrapping_mul(sum));
            }
        }
        let out = &mut output[first..first + count];
        finish(p.rounding, c, vector, first, &bias[..count], &sums, out);
    }
    true
}

/// As [`fully_connected`], where rows are to be unpacked first.
fn unpacked(
    p: &FullyConnectedParams,
    form: &Form,
    vector: bool,
    scratch: &mut [i8],
    input: &[i8],
    output: &mut [i8],
) -> bool {
    const ROWS: usize = together(8);
    let columns = form.columns;
    let Some((_, room)) = split(scratch, 0) else {
        return false;
    };
    let Some(room) = room.get_mut(..ROWS * columns) else {
        return false;
    };
    let outputs = output.len();
    for first in (0..outputs).step_by(ROWS) {
        let count = ROWS.min(outputs - first);
        for (i, row) in room.chunks_exact_mut(columns).take(count).enumerate() {
            unpack(&p.weights, first + i, row);
        }
        let mut sums = [0; PART + 4];
        let zero_point = p.input_zero_point;
        let (x, w) = (input.as_ptr().cast(), room.as_ptr().cast());
        // SAFETY: there is room for three rows, and what is in those that were not unpacked does not
        // matter.
        unsafe { products(form, x, 0, zero_point, w, ROWS, &mut sums) };
        let bias = [0, 1, 2].map(|i| p.channels.bias((first + i).min(outputs - 1)));
        let out = &mut output[first..first + count];
        finish(
            p.rounding,
            &p.channels,
            vector,
            first,
            &bias[..count],
            &sums,
            out,
        );
    }
    true
}

/// The sums of `count` rows, at most [`PART`], from `w` on.
///
/// # Safety
///
/// The rows are there, and a column at `x`.
unsafe fn products(
    form: &Form,
    x: *const u8,
    offset: i32,
    zero_point: i8,
    w: *const u8,
    count: usize,
    sums: &mut [i32; PART + 4],
) {
    let rows = together(form.bits);
    let stride = form.stride();
    let beginnings = if form.bits == 8 { 0 } else { offset };
    let mut run = |first: usize, count: usize, stride: usize| {
        let to = &mut sums[first..first + count.next_multiple_of(rows)];
        let ends = to.as_mut_ptr_range();
        // SAFETY: below the end of the rows; the last one is not used for three rows.
        let w = unsafe { w.add(first * form.stride()) };
        let product = Product {
            offset,
            x,
            offsets_again: [beginnings, beginnings, beginnings, 0, 0],
            row_bytes: form.row_bytes(),
            delta: delta(form, rows),
            end: ends.end,
            w: [0, 1, 2, 3].map(|i| w.wrapping_add(i * stride)),
            sums: ends.start,
            zero_point: zero_point as i32,
        };
        // SAFETY: by contract; where the stride is none, one row is read several times.
        unsafe {
            match form.bits {
                2 => qmend_product_2(&product),
                4 => qmend_product_4(&product),
                _ => qmend_product_8(&product),
            }
        }
    };
    let whole = count / rows * rows;
    if whole > 0 {
        run(0, whole, stride);
    }
    if whole == count {
    } else if whole > 0 {
        // The last ones, some of them again.
        run(count - rows, rows, stride);
    } else {
        for row in 0..count {
            run(row, 1, 0);
        }
    }
}

fn finish(
    rounding: Rounding,
    channels: &Channels,
    vector: bool,
    first: usize,
    bias: &[i32],
    sums: &[i32],
    output: &mut [i8],
) {
    if rounding == Rounding::Tflm {
        assert_eq!(bias.len(), output.len());
        // SAFETY: the output is as long.
        unsafe { scale(channels, vector, first, bias, sums, &[output.as_mut_ptr()]) };
        return;
    }
    for (i, (out, bias)) in output.iter_mut().zip(bias).enumerate() {
        let acc = sums[i].wrapping_add(*bias);
        let multiplier = channels.multiplier(first + i);
        *out = channels.finish(multiplier.apply_single_rounding(acc));
    }
}
