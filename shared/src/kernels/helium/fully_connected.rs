//! Fully connected layer: three rows of bytes, or four of fields, are multiplied with the input at a
//! time.

use core::mem::MaybeUninit;

use super::isa::{Product, qmend_product_2, qmend_product_4, qmend_product_8};
use super::rows::{Form, delta, fill, raised, unpack, unsigned};
use super::scale::{Scaler, by_vector};
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
    assert_eq!(p.weights.bytes.len(), outputs * form.packed);
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
        let len = form.column_bytes;
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
    let rows = together(form.bits);
    let mut product = Product {
        offset,
        x,
        offsets_again: [offset, offset, offset, 0, 0],
        row_bytes: form.row_bytes,
        delta: delta(&form, rows),
        end: core::ptr::null_mut(),
        w: [core::ptr::null(); 4],
        sums: core::ptr::null_mut(),
        zero_point: zero_point as i32,
    };
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
    let Some(room) = scratch.get_mut(..ROWS * columns) else {
        return false;
    };
    let c = &p.channels;
    let outputs = output.len();
    let mut product = Product {
        offset: 0,
        x: input.as_ptr().cast(),
        offsets_again: [0; 5],
        row_bytes: columns,
        delta: 0,
        end: core::ptr::null_mut(),
        w: [core::ptr::null(); 4],
        sums: core::ptr::null_mut(),
        zero_point: p.input_zero_point as i32,
    };
    let mut sums = Sums::uninit();
    for first in (0..outputs).step_by(ROWS) {
        let count = ROWS.min(outputs - first);
        for (i, row) in room.chunks_exact_mut(columns).take(count).enumerate() {
            unpack(&p.weights, first + i, row);
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
    let rows = together(bits);
    assert!(count <= PART);
    let sums = sums.as_mut_ptr().cast::<i32>();
    let mut run = |first: usize, end: usize, stride: usize, w: *const u8| {
        product.sums = sums.wrapping_add(first);
        product.end = sums.wrapping_add(end);
        product.w = [0, 1, 2, 3].map(|i| w.wrapping_add(i * stride));
        // SAFETY: by contract; where the stride is none, one row is read several times.
        unsafe {
            match bits {
                2 => qmend_product_2(product),
                4 => qmend_product_4(product),
                _ => qmend_product_8(product),
            }
        }
    };
    let whole = count / rows * rows;
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
unsafe fn finish(
    rounding: Rounding,
    channels: &Channels,
    vector: bool,
    first: usize,
    bias: *const u8,
    sums: &Sums,
    output: &mut [i8],
) {
    let sums = sums.as_ptr().cast::<i32>();
    if rounding == Rounding::Tflm {
        // SAFETY: by contract; the output is as long.
        unsafe {
            Scaler::new(channels, vector, first, output.len(), bias).one(sums, output.as_mut_ptr())
        };
        return;
    }
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
