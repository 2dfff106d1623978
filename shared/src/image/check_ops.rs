//! What must hold of one operator by itself: tensors, shapes, constants, accumulators.

use super::check::MAX_CONCAT_INPUTS;
use super::check_elementwise;
use super::error::OpFault;
use super::manifest::TensorDesc;
use super::model::Model;
use super::op::*;
use super::operators::is_built_in;
use crate::arith::Multiplier;
use crate::kernels::{Axis, SoftmaxParams, shape};
use crate::weights::{Rows, is_width, row_stride};

/// Rows or columns of padding that a window may hang over behind the input, as before it.
const MAX_PAD: u64 = u8::MAX as u64;

/// Checks one operator; afterwards all its tensor ids are in the table.
pub(super) fn check_op(model: &Model, op: &Op) -> Result<(), OpFault> {
    if let Op::Concat(o) = op {
        check_concat_records(o)?;
    }
    for id in op.inputs().chain([op.output()]) {
        tensor(model, id)?;
    }
    let y = tensor(model, op.output())?;
    let has = is_built_in;
    match op {
        Op::Conv2d(o) if has(0) => conv2d(model, o, &tensor(model, o.input)?, &y),
        Op::DepthwiseConv2d(o) if has(1) => {
            depthwise_conv2d(model, o, &tensor(model, o.input)?, &y)
        }
        Op::FullyConnected(o) if has(2) => fully_connected(model, o, &tensor(model, o.input)?, &y),
        Op::Add(o) if has(3) => add(model, o, &y),
        Op::MaxPool(o) | Op::AveragePool(o) if has(4) || has(5) => {
            pool(o, &tensor(model, o.input)?, &y)
        }
        Op::Mean(o) if has(6) => {
            let x = tensor(model, o.input)?;
            ensure(y.shape == [1, 1, x.shape[2]], OpFault::Shape)?;
            let positions = x.shape[0] as u64 * x.shape[1] as u64;
            ensure(
                o.multiplier.is_valid_quotient(),
                OpFault::Multiplier { channel: 0 },
            )?;
            shifted_sum(
                o.multiplier,
                positions * largest_difference(x.zero_point),
                0,
            )
        }
        Op::Pad(o) if has(7) => {
            let x = tensor(model, o.input)?;
            let fits = |i: usize| x.shape[i] as u32 + o.before[i] as u32 <= y.shape[i] as u32;
            ensure((0..3).all(fits), OpFault::Shape)?;
            ensure(x.zero_point == y.zero_point, OpFault::ZeroPoint)
        }
        Op::Concat(o) if has(8) => concat(model, o, &y),
        Op::Reshape(o) if has(9) => {
            let x = tensor(model, o.input)?;
            ensure(x.elements() == y.elements(), OpFault::Shape)?;
            ensure(x.zero_point == y.zero_point, OpFault::ZeroPoint)
        }
        Op::Transpose(o) if has(10) => {
            let x = tensor(model, o.input)?;
            ensure((0..3u8).all(|axis| o.perm.contains(&axis)), OpFault::Axis)?;
            ensure(
                (0..3).all(|i| y.shape[i] == x.shape[o.perm[i] as usize]),
                OpFault::Shape,
            )?;
            ensure(x.zero_point == y.zero_point, OpFault::ZeroPoint)
        }
        Op::Requantize(o) if has(11) => {
            let x = tensor(model, o.input)?;
            ensure(x.shape == y.shape, OpFault::Shape)?;
            scaled_sum(o.multiplier, largest_difference(x.zero_point), 0)
        }
        Op::Lut(o) if has(12) => {
            ensure(tensor(model, o.input)?.shape == y.shape, OpFault::Shape)?;
            range(model, o.table, 256)
        }
        Op::Softmax(o) if has(13) => {
            ensure(tensor(model, o.input)?.shape == y.shape, OpFault::Shape)?;
            ensure(y.zero_point == -128, OpFault::ZeroPoint)?;
            softmax(o, &y)
        }
        Op::Mul(o) if has(14) => check_elementwise::product(model, o, &y),
        Op::Sub(o) | Op::BroadcastAdd(o) if has(15) || has(16) => {
            check_elementwise::sum(model, o, &y)
        }
        Op::ResizeNearest(o) if has(17) => check_elementwise::resize(model, o, &y),
        _ => Err(OpFault::Undecodable),
    }
}

pub(super) fn ensure(holds: bool, fault: OpFault) -> Result<(), OpFault> {
    if holds { Ok(()) } else { Err(fault) }
}

pub(super) fn tensor(model: &Model, id: TensorId) -> Result<TensorDesc, OpFault> {
    model.get_tensor(id).ok_or(OpFault::UnknownTensor(id))
}

/// The largest `|x - zero point|` of an int8 tensor.
pub(super) fn largest_difference(zero_point: i8) -> u64 {
    let zero_point = zero_point as i32;
    (127 - zero_point).max(zero_point + 128) as u64
}

/// Whether constants lie in the weight section, aligned.
pub(super) fn range(model: &Model, offset: WeightOffset, bytes: u64) -> Result<(), OpFault> {
    ensure(offset.is_multiple_of(4), OpFault::Alignment { offset })?;
    let end = (offset as u64).checked_add(bytes);
    let inside = end.is_some_and(|end| end <= model.manifest().weights.len() as u64);
    ensure(inside, OpFault::Range { offset })
}

/// Whether a sum of at most `largest` in magnitude can be scaled without overflow.
pub(super) fn scaled_sum(
    multiplier: Multiplier,
    largest: u64,
    channel: u32,
) -> Result<(), OpFault> {
    ensure(multiplier.is_valid(), OpFault::Multiplier { channel })?;
    shifted_sum(multiplier, largest, channel)
}

/// Whether a sum of at most `largest` in magnitude can be shifted left as a multiplier says.
fn shifted_sum(multiplier: Multiplier, largest: u64, channel: u32) -> Result<(), OpFault> {
    let shift = multiplier.exponent.max(0) as u32;
    let fits = largest < 1 << 31 && largest << shift < 1 << 31;
    ensure(fits, OpFault::Accumulator { channel })
}

/// Whether a window's settings and the output's height and width agree with the input.
fn window(w: &Window, x: &TensorDesc, y: &TensorDesc, pools: bool) -> Result<(), OpFault> {
    let settings = [w.kernel, w.stride, w.dilation];
    ensure(settings.iter().flatten().all(|&v| v >= 1), OpFault::Window)?;
    for (axis, outputs) in Axis::of(w, shape(x.shape)).into_iter().zip(y.shape) {
        let last = outputs as usize - 1;
        let start = last as u64 * axis.stride as u64;
        let end = start + (axis.kernel as u64 - 1) * axis.dilation as u64 + 1;
        // Positions are counted from the first one of the padding.
        let input_end = axis.pad as u64 + axis.input as u64;
        ensure(end <= input_end + MAX_PAD, OpFault::WindowPlace)?;
        // One more window would not have fitted: the output is not cut off.
        ensure(end + axis.stride as u64 > input_end, OpFault::WindowPlace)?;
        if pools {
            // A window that starts in the input has its first tap there, so only those that
            // start in the padding before it (at most 255) need a look.
            ensure(start < input_end, OpFault::WindowPlace)?;
            let leading = axis.pad.div_ceil(axis.stride).min(last + 1);
            let some = (0..leading).all(|o| axis.taps(o).count() > 0);
            ensure(some, OpFault::WindowPlace)?;
        }
    }
    Ok(())
}

/// Constants of a linear operator with `count` rows of `columns` weights; returns its rows.
fn constants<'a>(
    model: &Model<'a>,
    weights: WeightRef,
    channels: ChannelRef,
    [count, columns]: [u64; 2],
    outputs: u64,
) -> Result<Rows<'a>, OpFault> {
    ensure(is_width(weights.bits), OpFault::WeightWidth(weights.bits))?;
    ensure(
        channels.act_min <= channels.act_max,
        OpFault::ActivationRange,
    )?;
    range(model, channels.bias, outputs * 4)?;
    range(model, channels.mantissas, outputs * 4)?;
    range(model, channels.exponents, outputs)?;
    // A row longer than the section cannot lie in it; after this, sizes fit in a usize.
    let section = model.manifest().weights.len() as u64;
    ensure(
        columns <= section.saturating_mul(4),
        OpFault::Range {
            offset: weights.offset,
        },
    )?;
    let stride = row_stride(columns as usize, weights.bits) as u64;
    range(model, weights.offset, count.saturating_mul(stride))?;
    let rows = model.rows(weights, count as usize, columns as usize);
    for row in 0..count as usize {
        ensure(
            rows.padding_is_zero(row),
            OpFault::RowPadding { row: row as u32 },
        )?;
    }
    Ok(rows)
}

/// The accumulator bound of one output channel, given the sum of its weights' magnitudes.
fn accumulator(
    model: &Model,
    channels: ChannelRef,
    outputs: usize,
    (x, y): (&TensorDesc, &TensorDesc),
    channel: usize,
    magnitudes: u64,
) -> Result<(), OpFault> {
    let constants = model.channels(channels, outputs, y);
    let bias = constants.bias(channel).unsigned_abs() as u64;
    // Weights in an image are below 2^32 in number, so this fits in 64 bits.
    let largest = bias + magnitudes * largest_difference(x.zero_point);
    scaled_sum(constants.multiplier(channel), largest, channel as u32)
}

/// Constants and accumulators of a linear operator with `rows` = [count, columns]; `magnitudes` gives
/// the sum of the magnitudes of an output channel's weights.
fn linear(
    model: &Model,
    (weights, channels): (WeightRef, ChannelRef),
    rows: [u64; 2],
    (x, y): (&TensorDesc, &TensorDesc),
    magnitudes: &dyn Fn(&Rows, usize) -> u64,
) -> Result<(), OpFault> {
    let outputs = y.shape[2];
    let rows = constants(model, weights, channels, rows, outputs as u64)?;
    for c in 0..outputs as usize {
        let sum = magnitudes(&rows, c);
        accumulator(model, channels, outputs as usize, (x, y), c, sum)?;
    }
    Ok(())
}

/// `sum |w|` of a row.
fn magnitudes(rows: &Rows, row: usize) -> u64 {
    let mut buffer = [0i8; 64];
    let mut sum = 0u64;
    for start in (0..rows.columns).step_by(buffer.len()) {
        let part = &mut buffer[..(rows.columns - start).min(64)];
        rows.decode(row, start, part);
        sum += part.iter().map(|w| w.unsigned_abs() as u64).sum::<u64>();
    }
    sum
}

/// Whether hints are empty or name working memory in the arena, apart from both operands.
fn hints(model: &Model, hints: &[u8], x: &TensorDesc, y: &TensorDesc) -> Result<(), OpFault> {
    let Some(scratch) = hints.as_array().map(Scratch::from_bytes) else {
        return ensure(hints.is_empty(), OpFault::Hints);
    };
    let (from, bytes) = (scratch.offset as u64, scratch.bytes as u64);
    let inside = bytes > 0 && from + bytes <= model.manifest().arena_bytes as u64;
    let apart = !x.overlaps(from, bytes) && !y.overlaps(from, bytes);
    ensure(inside && apart, OpFault::Hints)
}

fn conv2d(model: &Model, o: &Conv2d, x: &TensorDesc, y: &TensorDesc) -> Result<(), OpFault> {
    hints(model, o.hints, x, y)?;
    window(&o.window, x, y, false)?;
    let (groups, outputs) = (o.groups, y.shape[2]);
    let divide = groups >= 1 && x.shape[2].is_multiple_of(groups) && outputs.is_multiple_of(groups);
    ensure(divide, OpFault::Groups)?;
    let columns = filter_positions(&o.window) * (x.shape[2] / groups) as u64;
    let rows = [outputs as u64, columns];
    linear(model, (o.weights, o.channels), rows, (x, y), &magnitudes)
}

fn depthwise_conv2d(
    model: &Model,
    o: &Conv2d,
    x: &TensorDesc,
    y: &TensorDesc,
) -> Result<(), OpFault> {
    hints(model, o.hints, x, y)?;
    window(&o.window, x, y, false)?;
    let outputs = y.shape[2];
    ensure(
        o.groups == 1 && outputs.is_multiple_of(x.shape[2]),
        OpFault::Groups,
    )?;
    let rows = [filter_positions(&o.window), outputs as u64];
    linear(model, (o.weights, o.channels), rows, (x, y), &|rows, c| {
        let mut magnitudes = 0u64;
        for position in 0..filter_positions(&o.window) as usize {
            let mut w = [0i8];
            rows.decode(position, c, &mut w);
            magnitudes += w[0].unsigned_abs() as u64;
        }
        magnitudes
    })
}

fn filter_positions(w: &Window) -> u64 {
    w.kernel[0] as u64 * w.kernel[1] as u64
}

fn fully_connected(
    model: &Model,
    o: &FullyConnected,
    x: &TensorDesc,
    y: &TensorDesc,
) -> Result<(), OpFault> {
    // The whole input is one vector, or each position of an input of the output's size is.
    let columns = if y.shape[..2] == [1, 1] {
        x.elements()
    } else {
        ensure(x.shape[..2] == y.shape[..2], OpFault::Shape)?;
        x.shape[2] as u64
    };
    hints(model, o.hints, x, y)?;
    let rows = [y.shape[2] as u64, columns];
    linear(model, (o.weights, o.channels), rows, (x, y), &magnitudes)
}

fn add(model: &Model, o: &Add, y: &TensorDesc) -> Result<(), OpFault> {
    for id in o.inputs {
        ensure(tensor(model, id)?.shape == y.shape, OpFault::Shape)?;
    }
    sum(
        &o.input_multipliers,
        o.output_multiplier,
        o.act_min..=o.act_max,
    )
}

/// Multipliers and range of a sum: with exponents of at most 0 no shifted and scaled value leaves 30
/// bits.
pub(super) fn sum(
    inputs: &[Multiplier; 2],
    output: Multiplier,
    act: core::ops::RangeInclusive<i8>,
) -> Result<(), OpFault> {
    for (channel, m) in (0..).zip(inputs.iter().chain([&output])) {
        ensure(
            m.is_valid() && m.exponent <= 0,
            OpFault::Multiplier { channel },
        )?;
    }
    ensure(!act.is_empty(), OpFault::ActivationRange)
}

fn pool(o: &Pool, x: &TensorDesc, y: &TensorDesc) -> Result<(), OpFault> {
    window(&o.window, x, y, true)?;
    ensure(x.shape[2] == y.shape[2], OpFault::Shape)?;
    ensure(x.zero_point == y.zero_point, OpFault::ZeroPoint)?;
    ensure(o.act_min <= o.act_max, OpFault::ActivationRange)
}

/// The records themselves, before anything reads the tensors that they name.
fn check_concat_records(o: &Concat) -> Result<(), OpFault> {
    let (records, rest) = o.inputs.as_chunks::<{ ConcatInput::BYTES }>();
    let count = 1..=MAX_CONCAT_INPUTS;
    ensure(
        rest.is_empty() && count.contains(&records.len()),
        OpFault::Inputs,
    )?;
    ensure(o.axis <= 2, OpFault::Axis)?;
    // A copy has one spelling.
    ensure(
        records
            .iter()
            .all(|r| ConcatInput::from_bytes(r).to_bytes() == *r),
        OpFault::Inputs,
    )
}

fn concat(model: &Model, o: &Concat, y: &TensorDesc) -> Result<(), OpFault> {
    let axis = o.axis as usize;
    let mut length = 0u64;
    for (channel, record) in o.records().enumerate() {
        let x = tensor(model, record.tensor)?;
        ensure(
            (0..3).all(|i| i == axis || x.shape[i] == y.shape[i]),
            OpFault::Shape,
        )?;
        length += x.shape[axis] as u64;
        match record.multiplier {
            Some(m) => scaled_sum(m, largest_difference(x.zero_point), channel as u32)?,
            None => ensure(x.zero_point == y.zero_point, OpFault::ZeroPoint)?,
        }
    }
    ensure(length == y.shape[axis] as u64, OpFault::Shape)
}

fn softmax(o: &Softmax, y: &TensorDesc) -> Result<(), OpFault> {
    let channels = y.shape[2] as usize <= SoftmaxParams::MAX_CHANNELS;
    let multiplier = o.multiplier >= 1 << 30;
    let shifted = (-(o.diff_min.max(-255)) as i64).checked_shl(o.left_shift as u32);
    let fits = o.left_shift <= 30 && shifted.is_some_and(|s| s < 1 << 31);
    ensure(
        channels && multiplier && o.diff_min <= 0 && fits,
        OpFault::Softmax,
    )
}
