//! Fully connected layer: the input is spread once, in the form that the instruction set multiplies
//! best, and each row of weights is multiplied with it.

use super::isa;
use super::unpack;
use crate::arith::Rounding;
use crate::kernels::backend::Kernels;
use crate::kernels::fully_connected::FullyConnectedParams;
use crate::weights::row_stride;

/// What the assembly works on: rows of weights times the input. The order of the fields is known
/// there.
#[repr(C)]
pub(super) struct Product {
    /// Added to every sum.
    offset: i32,
    /// The spread input.
    x: *const u32,
    /// Bodies of the main loop, and of the loop for the rest; not both zero.
    bodies: usize,
    rest: usize,
    /// The row to begin with. Advanced.
    next: usize,
    /// All rows' constants.
    bias: *const u8,
    mantissas: *const u8,
    exponents: *const u8,
    /// Shifts of 1 up to this are scaled by the assembly; the sums of others, with their bias, are
    /// left in `acc`.
    shifts: u32,
    zero_point: i32,
    /// All rows' outputs, and how many there are.
    out: *mut i8,
    count: usize,
    /// The weights of row `next`; the others follow. Advanced.
    w: *const u8,
    acc: i32,
}

/// As [`crate::kernels::fully_connected`]. Returns whether it was done.
pub(super) fn fully_connected(
    p: &FullyConnectedParams,
    scratch: &mut [i8],
    input: &[i8],
    output: &mut [i8],
) -> bool {
    let words = |b: &[u8]| b.as_ptr().addr().is_multiple_of(4);
    // Rows that the assembly does not read are unpacked one at a time: to bytes, or to 4-bit fields.
    let direct = isa::reads(&p.weights) && words(p.weights.bytes);
    if !super::ROOMY && !direct {
        return false;
    }
    let direct = !super::ROOMY || direct;
    let bits = match (direct, p.weights.bits) {
        (true, bits) => bits,
        (false, 8) => 8,
        (false, _) => 4,
    };
    let outputs = output.len();
    let columns = p.weights.columns;
    assert_eq!(input.len(), columns);
    assert_eq!(p.channels.count(), outputs);
    let aligned = words(p.channels.bias) && words(p.channels.mantissas);
    if outputs == 0 || columns == 0 || !aligned {
        return false;
    }
    let [_, rest] = isa::product_bodies(bits);
    let inputs = columns.next_multiple_of(rest);
    // The loop's rest takes what fills a word.
    let stride = match direct {
        true => inputs * bits as usize / 8,
        false => row_stride(columns, p.weights.bits),
    };
    debug_assert_eq!(stride, row_stride(columns, p.weights.bits));
    assert_eq!(p.weights.bytes.len(), outputs * stride);
    // SAFETY: every bit pattern is a number of either type.
    let (_, x, _) = unsafe { scratch.align_to_mut::<u32>() };
    let Some((x, row)) = x.split_at_mut_checked(isa::row_words(inputs, bits)) else {
        return false;
    };
    let mut row = if direct {
        None
    } else {
        // SAFETY: as above; bytes are always aligned.
        let (_, row, _) = unsafe { row.align_to_mut::<u8>() };
        let len = match bits {
            8 => inputs,
            _ => unpack::row_bytes(inputs),
        };
        let Some(row) = row.get_mut(..len) else {
            return false;
        };
        Some(row)
    };
    let mut product = Product::new(p, bits, inputs, x, output);
    product.offset = spread(p, input, inputs, bits, x);
    let c = &p.channels;
    let whole = c.act_min == i8::MIN && c.act_max == i8::MAX;
    let raised = isa::raises(bits, p.input_zero_point);
    if whole && !raised && p.rounding == Rounding::Tflm {
        product.shifts = 20;
    }
    while product.next < outputs {
        if let Some(row) = &mut row {
            unpack::part(&p.weights, bits, product.next, 0, row);
            product.w = row.as_ptr();
            product.count = product.next + 1;
        }
        // SAFETY: rows, constants and outputs from `next` to `count` are there, the input is spread.
        unsafe { isa::product(&mut product, bits) };
        if product.next < product.count {
            let row = match &row {
                Some(row) => row,
                None => p.weights.row_bytes(product.next),
            };
            let y = by_hand(p, bits, product.next, row, product.acc);
            // SAFETY: `next` is below the output's length.
            unsafe { product.out.add(product.next).write(y) };
            product.next += 1;
        }
    }
    true
}

impl Product {
    /// All rows as they lie in the image, no row scaled by the assembly.
    #[inline(always)]
    fn new(
        p: &FullyConnectedParams,
        bits: u8,
        inputs: usize,
        x: &[u32],
        output: &mut [i8],
    ) -> Self {
        let [body, rest] = isa::product_bodies(bits);
        let c = &p.channels;
        Self {
            offset: 0,
            x: x.as_ptr(),
            bodies: inputs / body,
            rest: inputs % body / rest,
            next: 0,
            bias: c.bias.as_ptr(),
            mantissas: c.mantissas.as_ptr(),
            exponents: c.exponents.as_ptr(),
            shifts: 0,
            zero_point: c.zero_point as i32,
            out: output.as_mut_ptr(),
            count: output.len(),
            w: p.weights.bytes.as_ptr(),
            acc: 0,
        }
    }
}

/// Scales the sum of output `c`, its bias included.
#[inline(never)]
fn by_hand(p: &FullyConnectedParams, bits: u8, c: usize, row: &[u8], acc: i32) -> i8 {
    let acc = acc.wrapping_add(isa::bias_offset(row, bits, p.input_zero_point));
    let multiplier = p.channels.multiplier(c);
    let scaled = match p.rounding {
        Rounding::Tflm => multiplier.apply(acc),
        Rounding::LiteRtReference => multiplier.apply_single_rounding(acc),
    };
    p.channels.finish(scaled)
}

/// Words of a block of the input, and outputs that it is spread for once.
const BLOCK_WORDS: usize = 128;
/// Words for the input of a small layer, which would feel that more are cleared.
const SMALL_WORDS: usize = 16;
const BLOCK_OUTPUTS: usize = 16;

/// The same where there is too little working memory: an input that fits is spread on the stack, with room for a row
/// where rows are unpacked, and of others a block at a time, again for every [`BLOCK_OUTPUTS`] outputs.
#[inline(never)]
pub(super) fn on_stack(p: &FullyConnectedParams, input: &[i8], output: &mut [i8]) -> bool {
    let words = |b: &[u8]| b.as_ptr().addr().is_multiple_of(4);
    let (c, rows) = (&p.channels, &p.weights);
    if input.is_empty() || !words(c.bias) || !words(c.mantissas) {
        return false;
    }
    let direct = isa::reads(rows) && words(rows.bytes);
    let bits = if direct || rows.bits == 8 {
        rows.bits
    } else {
        4
    };
    let [_, rest] = isa::product_bodies(bits);
    let inputs = rows.columns.next_multiple_of(rest);
    assert_eq!(input.len(), rows.columns);
    assert_eq!(c.count(), output.len());
    assert_eq!(
        rows.bytes.len(),
        output.len() * row_stride(rows.columns, rows.bits)
    );
    // A row of bytes or of 4-bit fields, in words.
    let row = if direct {
        0
    } else {
        inputs * bits as usize / 32
    };
    let words = isa::row_words(inputs, bits) + row;
    if words <= SMALL_WORDS {
        spread_whole::<SMALL_WORDS>(p, input, output);
    } else if words <= BLOCK_WORDS {
        spread_whole::<BLOCK_WORDS>(p, input, output);
    } else if direct {
        in_blocks(p, bits, input, inputs, None, output);
    } else {
        unpacked_in_blocks(p, bits, input, inputs, output);
    }
    true
}

/// Most bytes of a block of an unpacked row.
const BLOCK_ROW: usize = 2 * BLOCK_WORDS;

/// Of rows that are unpacked, a block of one at a time.
#[inline(never)]
fn unpacked_in_blocks(
    p: &FullyConnectedParams,
    bits: u8,
    input: &[i8],
    inputs: usize,
    output: &mut [i8],
) {
    let mut row = Aligned([0; BLOCK_ROW]);
    in_blocks(p, bits, input, inputs, Some(&mut row.0), output);
}

/// The layer with working memory of `WORDS` words, which are enough, on the stack.
#[inline(never)]
fn spread_whole<const WORDS: usize>(p: &FullyConnectedParams, input: &[i8], output: &mut [i8]) {
    let mut x = [0u32; WORDS];
    // SAFETY: every bit pattern is a number of either type, and bytes are always aligned.
    let (_, x, _) = unsafe { x.align_to_mut::<i8>() };
    super::CortexM::fully_connected(p, x, input, output);
}

#[inline(never)]
fn in_blocks(
    p: &FullyConnectedParams,
    bits: u8,
    input: &[i8],
    inputs: usize,
    mut row: Option<&mut [u8; BLOCK_ROW]>,
    output: &mut [i8],
) {
    let stride = row_stride(p.weights.columns, p.weights.bits);
    let mut x = [0u32; BLOCK_WORDS];
    // Words hold one input or two; every loop's body divides both.
    let block = 2 * BLOCK_WORDS / isa::row_words(2, bits);
    for first in (0..output.len()).step_by(BLOCK_OUTPUTS) {
        let count = BLOCK_OUTPUTS.min(output.len() - first);
        let mut sums = [0i32; BLOCK_OUTPUTS];
        for from in (0..inputs).step_by(block) {
            let inputs = block.min(inputs - from);
            let part = &input[from.min(input.len())..(from + inputs).min(input.len())];
            let mut product = Product::new(p, bits, inputs, &x, output);
            product.offset = spread(p, part, inputs, bits, &mut x);
            for (c, sum) in (first..).zip(&mut sums[..count]) {
                product.next = c;
                product.count = c + 1;
                let mut offset = 0;
                product.w = match &mut row {
                    None => p.weights.bytes[c * stride + from * bits as usize / 8..].as_ptr(),
                    Some(row) => {
                        let row = &mut row[..inputs * bits as usize / 8];
                        unpack::part(&p.weights, bits, c, from, row);
                        offset = isa::bias_offset(row, bits, p.input_zero_point);
                        row.as_ptr()
                    }
                };
                // SAFETY: what follows `w` in the row are the weights of `inputs` inputs, which are spread.
                unsafe { isa::product(&mut product, bits) };
                // Every block's sum has the bias in it.
                let part = product.acc.wrapping_sub(p.channels.bias(c));
                *sum = sum.wrapping_add(part).wrapping_add(offset);
            }
        }
        for (c, sum) in (first..).zip(&sums[..count]) {
            let acc = sum.wrapping_add(p.channels.bias(c));
            // Where rows were unpacked the sums have their offsets.
            let fields = match row {
                Some(_) => &[],
                None => p.weights.row_bytes(c),
            };
            output[c] = by_hand(p, bits, c, fields, acc);
        }
    }
}

/// Fills `x` with the input and zeros behind it; what is added to every sum because of how weights are held.
#[inline(always)]
fn spread(p: &FullyConnectedParams, input: &[i8], inputs: usize, bits: u8, x: &mut [u32]) -> i32 {
    let zero_point = p.input_zero_point;
    // Fours that are whole, and may be loaded as words; the others from the stack.
    let whole = if isa::loads_from(input.as_ptr()) {
        input.len() / 4 * 4
    } else {
        0
    };
    // SAFETY: `whole` inputs are there, and `x` has room for more than them.
    let mut sum =
        unsafe { isa::spread_row(input.as_ptr(), whole / 4, x.as_mut_ptr(), zero_point, bits) };
    for at in (whole..inputs).step_by(16) {
        let mut part = Aligned([zero_point; 16]);
        let count = 16.min(inputs - at);
        for (to, &from) in part.0.iter_mut().zip(input.get(at..).unwrap_or(&[])) {
            *to = from;
        }
        let to = &mut x[isa::row_words(at, bits)..isa::row_words(at + count, bits)];
        // SAFETY: `to` is the room for `count` inputs.
        let part = unsafe {
            isa::spread_row(
                part.0.as_ptr(),
                count / 4,
                to.as_mut_ptr(),
                zero_point,
                bits,
            )
        };
        sum = sum.wrapping_add(part);
    }
    match bits {
        8 => 0,
        // Fields hold weights plus half their range.
        _ => sum.wrapping_mul(-(1 << (bits - 1))),
    }
}

/// Bytes that may be loaded as words.
#[repr(align(4))]
struct Aligned<T>(T);
