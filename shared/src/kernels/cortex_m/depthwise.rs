//! Depthwise convolution, four channels at a time.
//!
//! The weights of four channels are unpacked once, from whatever width and layout, to the stack where there
//! are few, else to scratch memory; then all output positions of these channels are computed, runs of positions whose windows
//! lie inside the input in one call of the assembly.

use super::isa;
use super::record::Record;
use crate::kernels::conv2d::ConvParams;
use crate::kernels::depthwise_conv2d as portable;
use crate::kernels::runs::for_each_run;
use crate::kernels::scratch::TAPS_ON_STACK;
use crate::kernels::window::Axis;
use crate::weights::{Layout, Rows, row_stride};

/// Channels that are computed together.
const LANES: usize = 4;

/// Words of the constants of four channels: biases, then mantissa, rounding and shift of each.
const CONSTANTS: usize = LANES * Record::WORDS;

/// What the assembly works on: four channels of consecutive positions, in a row or a column,
/// whose windows have the same taps inside the input. The order of the fields is known there.
#[repr(C)]
pub(super) struct Run {
    /// The first tap inside, at the first position. Advanced.
    x: *const i8,
    /// The weights of that tap.
    w: *const u32,
    /// [`CONSTANTS`] words.
    constants: *const u32,
    /// Output of the first position. Advanced.
    out: *mut i8,
    /// Positions, at least one. Counted down.
    count: usize,
    /// Bytes from one position's input and output to the next one's.
    x_step: usize,
    out_step: usize,
    /// Bytes from a tap to the next one in a row, and from behind a row's last one to the next row's
    /// first (for [`isa::depthwise_3`]: from a row's first one).
    pub tap_step: usize,
    pub row_step: isize,
    /// Rows and taps of a row inside the input, each at least one.
    rows: usize,
    taps: usize,
    /// Bytes of weights between those of a row's last tap inside and the next row's first.
    w_skip: usize,
    /// The instruction set's form of the zero point.
    zero: u32,
    /// Whether to scale; else the sums of one position are left in `acc`.
    scale: u32,
    acc: [i32; LANES],
}

/// As [`crate::kernels::depthwise_conv2d`]. Returns whether it was done.
pub(super) fn depthwise_conv2d(
    p: &ConvParams,
    scratch: &mut [i8],
    input: &[i8],
    output: &mut [i8],
) -> bool {
    let [in_h, in_w, in_c] = p.input;
    let [out_h, out_w, out_c] = p.output;
    assert_eq!(input.len(), in_h * in_w * in_c);
    assert_eq!(output.len(), out_h * out_w * out_c);
    let axes = Axis::of(&p.window, p.input);
    let [y, x] = axes;
    let taps = y.kernel * x.kernel;
    assert!(taps > 0 && p.weights.columns == out_c);
    if in_c != out_c {
        return false;
    }
    let mut near = [0u32; CONSTANTS + TAPS_ON_STACK * isa::TAP_WORDS];
    // SAFETY: every bit pattern is a number of either type.
    let (_, far, _) = unsafe { scratch.align_to_mut::<u32>() };
    let words = if taps > TAPS_ON_STACK {
        far
    } else {
        &mut near[..]
    };
    let Some((constants, weights)) = words.split_at_mut_checked(CONSTANTS) else {
        return false;
    };
    let Some(weights) = weights.get_mut(..taps * isa::TAP_WORDS) else {
        return false;
    };
    let whole = out_c / LANES * LANES;
    for first in (0..whole).step_by(LANES) {
        let mut scale = true;
        for lane in 0..LANES {
            let r = Record::new(&p.channels, first + lane, taps, 0);
            scale &= r.shift != Record::BY_HAND;
            constants[lane] = r.bias as u32;
            constants[LANES + 3 * lane..][..3]
                .copy_from_slice(&[r.mantissa, r.round, r.shift].map(|v| v as u32));
        }
        unpack(&p.weights, first, weights);
        let group = Group {
            p,
            axes,
            first,
            constants,
            weights,
            scale,
        };
        group.positions(input, output);
    }
    if whole < out_c {
        portable::channels_from(p, whole, input, output);
    }
    true
}

/// Most taps of filters that are unpacked on the stack where there is no scratch memory.
const MOST_TAPS: usize = 64;

/// As [`depthwise_conv2d`] where scratch memory is too small: with some on the stack.
#[inline(never)]
pub(super) fn on_stack(p: &ConvParams, input: &[i8], output: &mut [i8]) -> bool {
    let mut room = [0u32; CONSTANTS + MOST_TAPS * isa::TAP_WORDS];
    // SAFETY: every bit pattern is a number of either type, and bytes are always aligned.
    let (_, room, _) = unsafe { room.align_to_mut::<i8>() };
    depthwise_conv2d(p, room, input, output)
}

/// Writes the weights of four channels from `first`, a multiple of four, on: [`isa::TAP_WORDS`] a row.
#[cfg_attr(not(feature = "fast"), inline(always))]
fn unpack(rows: &Rows, first: usize, to: &mut [u32]) {
    let (taps, _) = to.as_chunks_mut();
    let stride = row_stride(rows.columns, rows.bits);
    let each = |at: usize| rows.bytes[at..].chunks(stride);
    match rows.bits {
        // Bytes are as they are multiplied.
        8 if super::ROOMY => {
            for (to, row) in taps.iter_mut().zip(each(first)) {
                if let Some(w) = row.first_chunk() {
                    isa::pack_tap(w.map(|w| w as i8), to);
                }
            }
        }
        4 if rows.layout == Layout::Halfwords && super::ROOMY => {
            for (to, row) in taps.iter_mut().zip(each(first / 8 * 4 + first / 4 % 2)) {
                if let Some(&[low, _, high]) = row.first_chunk() {
                    isa::pack_fields::<4>([low, high], to);
                }
            }
        }
        2 if rows.layout == Layout::Halfwords && super::ROOMY => {
            let shift = first & 4;
            for (to, row) in taps.iter_mut().zip(each(first / 16 * 4 + first / 8 % 2)) {
                if let Some(&[low, _, high]) = row.first_chunk() {
                    isa::pack_fields::<2>([low, high].map(|b| b >> shift), to);
                }
            }
        }
        _ => {
            for (tap, to) in taps.iter_mut().enumerate() {
                let mut w = [0i8; LANES];
                rows.decode(tap, first, &mut w);
                isa::pack_tap(w, to);
            }
        }
    }
}

/// Four channels.
struct Group<'a> {
    p: &'a ConvParams<'a>,
    axes: [Axis; 2],
    first: usize,
    constants: &'a [u32],
    weights: &'a [u32],
    scale: bool,
}

impl Group<'_> {
    fn positions(&self, input: &[i8], output: &mut [i8]) {
        let [out_h, out_w, _] = self.p.output;
        for_each_run(self.axes, [out_h, out_w], |p| {
            self.runs([p.oy, p.ox], p.down, p.count, input, output);
        });
    }

    /// `count` positions from (oy, ox) on, down or to the right, of the same taps.
    fn runs(
        &self,
        [oy, ox]: [usize; 2],
        down: bool,
        count: usize,
        input: &[i8],
        output: &mut [i8],
    ) {
        let [y, x] = self.axes;
        let some_taps = y.taps(oy).count() > 0 && x.taps(ox).count() > 0;
        if self.scale && some_taps && count > 0 {
            return self.run([oy, ox], down, count, input, output);
        }
        for i in 0..count {
            let at = if down { [oy + i, ox] } else { [oy, ox + i] };
            self.run(at, down, 1, input, output);
        }
    }

    /// As [`Self::runs`], with `count` at least one, and more only where there are taps and sums are
    /// scaled.
    fn run(&self, [oy, ox]: [usize; 2], down: bool, count: usize, input: &[i8], output: &mut [i8]) {
        let [y, x] = self.axes;
        let [_, out_w, out_c] = self.p.output;
        let (ys, xs) = (y.taps(oy), x.taps(ox));
        let row = x.input * out_c;
        let (x_step, out_step) = match down {
            true => (y.stride * row, out_w * out_c),
            false => (x.stride * out_c, out_c),
        };
        let at = (oy * out_w + ox) * out_c + self.first;
        let out = &mut output[at..at + (count - 1) * out_step + LANES];
        let mut sums = [0, 1, 2, 3].map(|lane| self.constants[lane] as i32);
        if ys.count() > 0 && xs.count() > 0 {
            let tap_step = x.dilation * out_c;
            let start = ys.first * row + xs.first * out_c + self.first;
            let window = (ys.count() - 1) * y.dilation * row + (xs.count() - 1) * tap_step;
            let source = &input[start..start + window + (count - 1) * x_step + LANES];
            let tap = (ys.from * x.kernel + xs.from) * isa::TAP_WORDS;
            let three = isa::THREE && x.kernel == 3 && xs.count() == 3;
            let back = if three { 0 } else { xs.count() * tap_step };
            let mut run = Run {
                x: source.as_ptr(),
                w: self.weights[tap..].as_ptr(),
                constants: self.constants.as_ptr(),
                out: out.as_mut_ptr(),
                count,
                x_step,
                out_step,
                tap_step,
                row_step: (y.dilation * row) as isize - back as isize,
                rows: ys.count(),
                taps: xs.count(),
                w_skip: (x.kernel - xs.count()) * isa::TAP_WORDS * 4,
                zero: isa::minus_zero(self.p.input_zero_point),
                scale: self.scale as u32,
                acc: [0; LANES],
            };
            // SAFETY: the taps of `count` windows lie in `source`, their weights in `weights`, the
            // outputs in `out`.
            unsafe { isa::depthwise(&mut run, three) };
            if self.scale {
                return;
            }
            sums = run.acc;
        }
        for (lane, out) in out.iter_mut().take(LANES).enumerate() {
            let multiplier = self.p.channels.multiplier(self.first + lane);
            *out = self.p.channels.finish(multiplier.apply(sums[lane]));
        }
    }
}
