//! Fully connected layer: three rows of bytes, or four of fields, are multiplied with the input at a
//! time.

use core::mem::MaybeUninit;

use super::isa::{Product, qmend_product_2, qmend_product_4, qmend_product_8};
use super::rows::{Form, VECTOR, delta, fill, raised, unpack, unsigned};
use super::scale::{Scaler, by_vector};
use crate::arith::Rounding;
use crate::image::Channels;
use crate::kernels::fully_connected::FullyConnectedParams;
use crate::weights::row_stride;

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
    if p.weights.bits == 8 {
        return bytes(p, input, output);
    }
    let form = Form::of(&p.weights);
    let c = &p.channels;
    let outputs = output.len();
    assert_eq!(input.len(), form.columns);
    assert_eq!(c.count(), outputs);
    assert_eq!(p.weights.bytes.len(), outputs * form.packed);
    if form.columns == 0 || outputs == 0 {
        return false;
    }
    let zero_point = p.input_zero_point;
    let vector = by_vector(c) && p.rounding == Rounding::Tflm;
    if !form.direct {
        return unpacked(p, &form, vector, scratch, input, output);
    }
    let len = form.column_bytes;
    // First the bytes as they are, then in their order; where the zero point asks for rows' own sums, a
    // column of ones.
    let columns = if zero_point == -128 { 2 } else { 3 };
    let Some(room) = scratch.get_mut(..columns * len) else {
        in_blocks(p, &form, vector, input, output);
        return true;
    };
    let (plain, room) = room.split_at_mut(len);
    let (column, one) = room.split_at_mut(len);
    plain[..input.len()].copy_from_slice(input);
    fill(&mut plain[input.len()..], -128);
    let column = unsigned(column);
    let sum = form.spread(plain, column);
    let offset = form.column_offset(sum, zero_point);
    let x: *const u8 = column.as_ptr();
    let mut ones = None;
    if zero_point != -128 {
        fill(&mut plain[..input.len()], -127);
        let one = unsigned(one);
        form.spread(plain, one);
        ones = Some(one.as_ptr());
    }
    let rows = together(form.bits);
    let mut product = Product::new(x, form.row_bytes, offset, delta(&form, rows), zero_point);
    let stride = form.stride;
    let mut sums = Sums::uninit();
    for first in (0..outputs).step_by(PART) {
        let count = PART.min(outputs - first);
        let w = p.weights.bytes[first * stride..].as_ptr();
        // SAFETY: rows of `count` outputs follow `w`, and the column is as long as they need.
        unsafe { products(&mut product, form.bits, w, stride, count, &mut sums) };
        let mut bias = c.bias[first * 4..][..count * 4].as_ptr();
        let mut corrected = Sums::uninit();
        if let Some(ones) = ones {
            product.x = ones;
            let beginnings = (product.offset, product.offsets_again);
            (product.offset, product.offsets_again) = (0, [0; 5]);
            let mut weights = Sums::uninit();
            // SAFETY: as above; as many sums are written.
            unsafe { products(&mut product, form.bits, w, stride, count, &mut weights) };
            product.x = x;
            (product.offset, product.offsets_again) = beginnings;
            let to = corrected.as_mut_ptr().cast::<i32>();
            for i in 0..count {
                // SAFETY: as above.
                unsafe {
                    let sum = weights.as_ptr().cast::<i32>().add(i).read();
                    let part = raised(zero_point).wrapping_mul(sum);
                    to.add(i).write(c.bias(first + i).wrapping_sub(part));
                }
            }
            bias = corrected.as_ptr().cast();
        }
        let out = &mut output[first..first + count];
        // SAFETY: `count` biases and sums are there.
        unsafe { finish(p.rounding, c, vector, first, bias, &sums, out) };
    }
    true
}

/// Inputs of a block, a multiple of what a vector of fields holds at every width.
const BLOCK: usize = 128;

/// As [`fully_connected`] of fields where there is no working memory: blocks of the input are spread on the
/// stack, again for each part of the outputs.
#[inline(never)]
fn in_blocks(p: &FullyConnectedParams, form: &Form, vector: bool, input: &[i8], output: &mut [i8]) {
    let zero_point = p.input_zero_point;
    let rows = together(form.bits);
    let [mut plain, mut column] = [[0i8; BLOCK]; 2];
    for (i, out) in output.chunks_mut(PART).enumerate() {
        let first = i * PART;
        let mut total = [0i32; PART + 4];
        for (b, x) in input.chunks(BLOCK).enumerate() {
            let start = b * BLOCK * form.bits as usize / 8;
            let row_bytes = (form.row_bytes - start).min(BLOCK * form.bits as usize / 8);
            let advance = row_bytes.next_multiple_of(VECTOR);
            let block = Form {
                columns: x.len(),
                row_bytes,
                advance,
                column_bytes: advance * 8 / form.bits as usize,
                ..*form
            };
            // The weights alone are summed where the zero point asks for it.
            let ones = (zero_point != -128).then_some(-raised(zero_point));
            for factor in [Some(1), ones].into_iter().flatten() {
                // The other factor is negative.
                let of_weights = factor != 1;
                match of_weights {
                    false => plain[..x.len()].copy_from_slice(x),
                    true => fill(&mut plain[..x.len()], -127),
                }
                fill(&mut plain[x.len()..], -128);
                let sum = block.spread(&plain, unsigned(&mut column));
                let offset = match of_weights {
                    false => block.column_offset(sum, zero_point),
                    true => 0,
                };
                let mut product = Product::new(
                    column.as_ptr().cast(),
                    row_bytes,
                    offset,
                    delta(&block, rows),
                    zero_point,
                );
                let w = p.weights.bytes[first * form.stride + start..].as_ptr();
                let mut sums = Sums::uninit();
                // SAFETY: the rest of `out.len()` rows follows `w`, and the column is as long as a block needs.
                unsafe {
                    products(
                        &mut product,
                        form.bits,
                        w,
                        form.stride,
                        out.len(),
                        &mut sums,
                    )
                };
                for (i, total) in total.iter_mut().enumerate().take(out.len()) {
                    // SAFETY: as many sums were written.
                    let sum = unsafe { sums.as_ptr().cast::<i32>().add(i).read() };
                    *total = total.wrapping_add(sum.wrapping_mul(factor));
                }
            }
        }
        let bias = p.channels.bias[first * 4..][..out.len() * 4].as_ptr();
        let total = Sums::new(total);
        // SAFETY: as many biases and sums are there.
        unsafe { finish(p.rounding, &p.channels, vector, first, bias, &total, out) };
    }
}

/// As [`fully_connected`], of rows of bytes: the input is read where it is, and small layers feel every
/// instruction around the loops.
fn bytes(p: &FullyConnectedParams, input: &[i8], output: &mut [i8]) -> bool {
    let c = &p.channels;
    let columns = p.weights.columns;
    let stride = row_stride(columns, 8);
    assert_eq!(input.len(), columns);
    assert_eq!(c.count(), output.len());
    assert_eq!(p.weights.bytes.len(), output.len() * stride);
    assert_eq!(c.bias.len(), output.len() * 4);
    if columns == 0 {
        return false;
    }
    let vector = by_vector(c) && p.rounding == Rounding::Tflm;
    let mut product = Product::new(
        input.as_ptr().cast(),
        columns,
        0,
        (together(8) * stride) as isize - columns.next_multiple_of(VECTOR) as isize,
        p.input_zero_point,
    );
    let mut sums = Sums::uninit();
    let mut w = p.weights.bytes.as_ptr();
    let mut bias = c.bias.as_ptr();
    for (i, out) in output.chunks_mut(PART).enumerate() {
        // SAFETY: rows of these outputs follow `w`, and the column is as long as they need; as many biases
        // and sums are there.
        unsafe {
            products(&mut product, 8, w, stride, out.len(), &mut sums);
            finish(p.rounding, c, vector, i * PART, bias, &sums, out);
        }
        w = w.wrapping_add(PART * stride);
        bias = bias.wrapping_add(PART * 4);
    }
    true
}

/// Rows of bytes that are multiplied at a time.
const ROWS: usize = together(8);

/// As [`fully_connected`], where rows are to be unpacked first: three at a time.
fn unpacked(
    p: &FullyConnectedParams,
    form: &Form,
    vector: bool,
    scratch: &mut [i8],
    input: &[i8],
    output: &mut [i8],
) -> bool {
    let columns = form.columns;
    let Some(room) = scratch.get_mut(..ROWS * columns) else {
        unpacked_in_blocks(p, vector, input, output);
        return true;
    };
    let c = &p.channels;
    let outputs = output.len();
    let mut product = Product::new(input.as_ptr().cast(), columns, 0, 0, p.input_zero_point);
    let mut sums = Sums::uninit();
    for first in (0..outputs).step_by(ROWS) {
        let count = ROWS.min(outputs - first);
        for (i, row) in room.chunks_exact_mut(columns).take(count).enumerate() {
            unpack(&p.weights, first + i, 0, row);
        }
        let w = room.as_ptr().cast();
        // SAFETY: there is room for three rows, and what is in those that were not unpacked does not
        // matter.
        unsafe { products(&mut product, 8, w, columns, ROWS, &mut sums) };
        let bias = c.bias[first * 4..][..count * 4].as_ptr();
        let out = &mut output[first..first + count];
        // SAFETY: `count` biases and sums are there.
        unsafe { finish(p.rounding, c, vector, first, bias, &sums, out) };
    }
    true
}

/// As [`unpacked`] where there is no room for three rows: a block of each on the stack.
#[inline(never)]
fn unpacked_in_blocks(p: &FullyConnectedParams, vector: bool, input: &[i8], output: &mut [i8]) {
    let mut room = [0i8; ROWS * BLOCK];
    let c = &p.channels;
    let outputs = output.len();
    let mut product = Product::new(core::ptr::null(), 0, 0, 0, p.input_zero_point);
    let mut sums = Sums::uninit();
    for first in (0..outputs).step_by(ROWS) {
        let count = ROWS.min(outputs - first);
        let mut total = [0i32; ROWS];
        for (b, x) in input.chunks(BLOCK).enumerate() {
            for (i, row) in room.chunks_exact_mut(x.len()).take(count).enumerate() {
                unpack(&p.weights, first + i, b * BLOCK, row);
            }
            product.x = x.as_ptr().cast();
            product.row_bytes = x.len();
            let w = room.as_ptr().cast();
            // SAFETY: there is room for three rows, and what is in those that were not unpacked does not
            // matter.
            unsafe { products(&mut product, 8, w, x.len(), ROWS, &mut sums) };
            for (i, total) in total.iter_mut().enumerate() {
                // SAFETY: three sums were written.
                let sum = unsafe { sums.as_ptr().cast::<i32>().add(i).read() };
                *total = total.wrapping_add(sum);
            }
        }
        let to = sums.as_mut_ptr().cast::<[i32; ROWS]>();
        // SAFETY: there is room for more sums.
        unsafe { to.write(total) };
        let bias = c.bias[first * 4..][..count * 4].as_ptr();
        let out = &mut output[first..first + count];
        // SAFETY: `count` biases and sums are there.
        unsafe { finish(p.rounding, c, vector, first, bias, &sums, out) };
    }
}

/// Room for sums.
type Sums = MaybeUninit<[i32; PART + 4]>;

/// The sums of `count` rows, at most [`PART`], from `w` on.
///
/// # Safety
///
/// The rows are there, and the product's column.
unsafe fn products(
    product: &mut Product,
    bits: u8,
    w: *const u8,
    stride: usize,
    count: usize,
    sums: &mut Sums,
) {
    assert!(count <= PART);
    let sums = sums.as_mut_ptr().cast::<i32>();
    let mut run = |first: usize, end: usize, stride: usize, w: *const u8| {
        product.sums = sums.wrapping_add(first);
        product.end = sums.wrapping_add(end);
        // One after the other: the compiler makes a loop of `map`, which small layers would feel.
        let second = w.wrapping_add(stride);
        let third = second.wrapping_add(stride);
        product.w = [w, second, third, third.wrapping_add(stride)];
        // SAFETY: by contract; where the stride is none, one row is read several times.
        unsafe {
            match bits {
                2 => qmend_product_2(product),
                4 => qmend_product_4(product),
                _ => qmend_product_8(product),
            }
        }
    };
    // Divided by constants: a small layer feels the division.
    let (rows, whole) = match bits {
        8 => (3, count / 3 * 3),
        _ => (4, count / 4 * 4),
    };
    debug_assert_eq!(rows, together(bits));
    if whole > 0 {
        run(0, whole, stride, w);
        if whole < count {
            // The last ones, some of them again.
            let first = count - rows;
            run(first, count, stride, w.wrapping_add(first * stride));
        }
    } else {
        for row in 0..count {
            run(row, row + rows, 0, w.wrapping_add(row * stride));
        }
    }
}

/// # Safety
///
/// There are as many biases, 32-bit numbers at any address, and sums as outputs.
#[inline(always)]
unsafe fn finish(
    rounding: Rounding,
    channels: &Channels,
    vector: bool,
    first: usize,
    bias: *const u8,
    sums: &Sums,
    output: &mut [i8],
) {
    if rounding == Rounding::Tflm {
        let sums = sums.as_ptr().cast::<i32>();
        // SAFETY: by contract; the output is as long.
        unsafe {
            Scaler::new(channels, vector, first, output.len(), bias).one(sums, output.as_mut_ptr())
        };
    } else {
        // SAFETY: by contract.
        unsafe { round_once(channels, first, bias, sums, output) };
    }
}

/// As [`finish`], with LiteRT's one rounding.
///
/// # Safety
///
/// As there.
#[inline(never)]
unsafe fn round_once(
    channels: &Channels,
    first: usize,
    bias: *const u8,
    sums: &Sums,
    output: &mut [i8],
) {
    let sums = sums.as_ptr().cast::<i32>();
    for (i, out) in output.iter_mut().enumerate() {
        // SAFETY: by contract.
        let [bias, sum] = unsafe {
            [
                bias.cast::<i32>().add(i).read_unaligned(),
                sums.add(i).read(),
            ]
        };
        let multiplier = channels.multiplier(first + i);
        let scaled = multiplier.apply_single_rounding(sum.wrapping_add(bias));
        *out = channels.finish(scaled);
    }
}
