//! Depthwise convolution, eight channels at a time.
//!
//! The weights of eight channels are unpacked once, from whatever width and layout, into scratch
//! memory; then all output positions of these channels are computed, runs of positions whose windows
//! lie inside the input in one call of the assembly.

use super::isa::{
    Constants, Run, qmend_depthwise, qmend_depthwise_2, qmend_depthwise_3,
    qmend_depthwise_3_inside, qmend_depthwise_masked,
};
use super::rows::{copy, signed};
use super::scale::by_vector;
use crate::kernels::conv2d::ConvParams;
use crate::kernels::runs::{Positions, for_each_run};
use crate::kernels::scratch::TAPS_ON_STACK;
use crate::kernels::window::Axis;

/// Channels that are computed together.
const LANES: usize = 8;

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
    if in_c != out_c || !by_vector(&p.channels) {
        return false;
    }
    let mut near = [0i8; TAPS_ON_STACK * LANES];
    let room = match taps > TAPS_ON_STACK {
        true => scratch,
        false => &mut near[..],
    };
    let Some(weights) = room.get_mut(..taps * LANES) else {
        return false;
    };
    for first in (0..out_c).step_by(LANES) {
        let lanes = LANES.min(out_c - first);
        let mut constants = Constants::default();
        for lane in 0..lanes {
            let (odd, i) = (lane % 2, lane / 2);
            let multiplier = p.channels.multiplier(first + lane);
            constants.bias[odd][i] = p.channels.bias(first + lane);
            constants.mantissas[odd][i] = multiplier.mantissa;
            constants.exponents[odd][i] = multiplier.exponent as i32;
        }
        if p.weights.bits == 8 && lanes == LANES {
            // Bytes are bytes in any layout.
            let stride = p.weights.row_bytes(0).len();
            let bytes = signed(&p.weights.bytes[first..]);
            copy(weights, bytes, LANES, taps, stride);
        } else {
            for (tap, to) in weights.chunks_exact_mut(LANES).enumerate() {
                p.weights.decode(tap, first, &mut to[..lanes]);
            }
        }
        // Where all taps are inside, the zero point's part of a sum is always the same.
        let mut inside = constants;
        let mut sums = [0i32; LANES];
        for tap in weights.chunks_exact(LANES) {
            for (sum, &w) in sums.iter_mut().zip(tap).take(lanes) {
                *sum += w as i32;
            }
        }
        for (lane, sum) in sums.iter().enumerate() {
            let part = sum.wrapping_mul(p.input_zero_point as i32);
            let bias = &mut inside.bias[lane % 2][lane / 2];
            *bias = bias.wrapping_sub(part);
        }
        let group = Group {
            p,
            axes,
            first,
            lanes,
            constants: &constants,
            inside: &inside,
            weights,
        };
        for_each_run(axes, [out_h, out_w], |run| group.run(run, input, output));
    }
    true
}

/// Most taps of filters that are unpacked on the stack where there is no scratch memory.
const MOST_TAPS: usize = 64;

/// As [`depthwise_conv2d`] where scratch memory is too small: with some on the stack.
#[inline(never)]
pub(super) fn on_stack(p: &ConvParams, input: &[i8], output: &mut [i8]) -> bool {
    depthwise_conv2d(p, &mut [0i8; MOST_TAPS * LANES], input, output)
}

/// Eight channels, or the last ones.
struct Group<'a> {
    p: &'a ConvParams<'a>,
    axes: [Axis; 2],
    first: usize,
    lanes: usize,
    constants: &'a Constants,
    /// With the zero point's part in the bias.
    inside: &'a Constants,
    weights: &'a [i8],
}

impl Group<'_> {
    fn run(&self, positions: Positions, input: &[i8], output: &mut [i8]) {
        let [y, x] = self.axes;
        let [_, out_w, out_c] = self.p.output;
        let Positions {
            oy,
            ox,
            down,
            count,
        } = positions;
        let (ys, xs) = (y.taps(oy), x.taps(ox));
        if ys.count() == 0 || xs.count() == 0 {
            // Nothing but the bias; how far such positions reach is not the assembly's to know.
            for i in 0..count {
                let at = if down { [oy + i, ox] } else { [oy, ox + i] };
                let at = (at[0] * out_w + at[1]) * out_c + self.first;
                for (lane, out) in output[at..at + self.lanes].iter_mut().enumerate() {
                    let c = self.first + lane;
                    let scaled = self.p.channels.multiplier(c).apply(self.p.channels.bias(c));
                    *out = self.p.channels.finish(scaled);
                }
            }
            return;
        }
        let row = x.input * out_c;
        let (x_step, out_step) = match down {
            true => (y.stride * row, out_w * out_c),
            false => (x.stride * out_c, out_c),
        };
        let at = (oy * out_w + ox) * out_c + self.first;
        let out = &mut output[at..at + (count - 1) * out_step + self.lanes];
        let tap_step = x.dilation * out_c;
        let start = ys.first * row + xs.first * out_c + self.first;
        let window = (ys.count() - 1) * y.dilation * row + (xs.count() - 1) * tap_step;
        let source = &input[start..start + window + (count - 1) * x_step + self.lanes];
        let tap = (ys.from * x.kernel + xs.from) * LANES;
        let whole = self.lanes == LANES;
        // Rows of three taps of which at most one is outside have functions of their own.
        let few = whole && x.kernel == 3 && xs.count() >= 2;
        let three = few && xs.count() == 3;
        let inside = three && ys.count() == y.kernel;
        let back = if few { (xs.count() - 1) * tap_step } else { 0 };
        let channels = &self.p.channels;
        let run = Run {
            x: source.as_ptr(),
            w: self.weights[tap..].as_ptr(),
            out: out.as_mut_ptr(),
            constants: if inside { self.inside } else { self.constants },
            minus_zero: -(self.p.input_zero_point as i32),
            zero_point: channels.zero_point as i32,
            tap_step,
            row_step: (y.dilation * row) as isize - back as isize,
            min: channels.act_min as i32,
            max: channels.act_max as i32,
            lanes: self.lanes,
            count,
            rows: ys.count(),
            taps: xs.count(),
            x_step,
            out_step,
            w_skip: (x.kernel - xs.count()) * LANES,
        };
        // SAFETY: the taps of `count` windows lie in `source`, their weights in `weights`, the
        // outputs in `out`.
        unsafe {
            match (three, few, whole) {
                (true, _, _) if inside => qmend_depthwise_3_inside(&run),
                (true, _, _) => qmend_depthwise_3(&run),
                (false, true, _) => qmend_depthwise_2(&run),
                (false, false, true) => qmend_depthwise(&run),
                (false, false, false) => qmend_depthwise_masked(&run),
            }
        }
    }
}
