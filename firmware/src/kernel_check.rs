//! This processor's kernels against the portable ones, on random layers and on extremes.
//!
//! Kernels from 1x1 to 5x5, strides 1 to 3, dilation, padding on one side or both, up to 67
//! channels, groups, depth multipliers; all-equal and alternating inputs and weights; zero points at
//! both ends; multipliers at both ends, with left shifts, and of zero; sums close to 2^31, and at ties of
//! both roundings; every width in both layouts; buffers at any address, scratch memory of any length.

use qmend_shared::arith::Rounding;
use qmend_shared::image::{Channels, Window};
use qmend_shared::kernels::{
    ConvParams, FullyConnectedParams, Kernels, Native, Portable, conv2d_scratch_bytes,
    depthwise_scratch_bytes, fully_connected_scratch_bytes,
};
use qmend_shared::weights::{Layout, Rows, row_stride};

use crate::bench::{self, Random};

const TENSOR: usize = 24 * 1024;
const WEIGHTS: usize = 96 * 1024;
const CHANNELS: usize = 512;
const SCRATCH: usize = 64 * 1024;

/// All that the check needs; a `static` of the program.
#[repr(C, align(16))]
pub struct Memory {
    input: [i8; TENSOR],
    output: [i8; TENSOR],
    expected: [i8; TENSOR],
    weights: [u8; WEIGHTS],
    bias: [u8; 4 * CHANNELS],
    mantissas: [u8; 4 * CHANNELS],
    exponents: [u8; CHANNELS],
    scratch: [i8; SCRATCH],
}

impl Memory {
    /// Zeros.
    pub const fn new() -> Self {
        Self {
            input: [0; TENSOR],
            output: [0; TENSOR],
            expected: [0; TENSOR],
            weights: [0; WEIGHTS],
            bias: [0; 4 * CHANNELS],
            mantissas: [0; 4 * CHANNELS],
            exponents: [0; CHANNELS],
            scratch: [0; SCRATCH],
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// What a layer was like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A convolution, in groups or not.
    Conv,
    /// A depthwise convolution.
    Depthwise,
    /// A fully connected layer.
    FullyConnected,
}

/// The layer of one seed, compared.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// What it does.
    pub kind: Kind,
    /// Bits of a weight.
    pub bits: u8,
    /// Output elements.
    pub elements: usize,
    /// Elements that differ, or that were written outside the output.
    pub differing: usize,
}

struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    pad: usize,
}

fn axis(r: &mut Random) -> Axis {
    loop {
        let [input, kernel, stride] = [r.range(1, 11), r.range(1, 5), r.range(1, 3)];
        let dilation = if r.range(0, 3) == 0 { 2 } else { 1 };
        let [pad, after] = [r.range(0, 3), r.range(0, 3)];
        let extent = (kernel - 1) * dilation + 1;
        let padded = input + pad + after;
        if extent <= padded {
            return Axis {
                input,
                output: (padded - extent) / stride + 1,
                kernel,
                stride,
                dilation,
                pad,
            };
        }
    }
}

fn zero_point(r: &mut Random) -> i8 {
    match r.range(0, 4) {
        0 | 1 => -128,
        2 => 127,
        3 => 0,
        _ => r.next() as i8,
    }
}

/// Numbers of one of several kinds.
fn values(r: &mut Random, to: &mut [u8]) {
    match r.range(0, 7) {
        0 => to.fill(0x80),
        1 => to.fill(0x7f),
        2 => to.fill_with(|| if r.next() & 64 == 0 { 0x80 } else { 0x7f }),
        _ => to.fill_with(|| (r.next() >> 9) as u8),
    }
}

/// Compares one layer, and continues a digest with the output's bytes: over the same seeds it
/// is the same number on every processor.
pub fn check(seed: u32, m: &mut Memory, digest: &mut u32) -> Outcome {
    let mut random = Random::new(seed);
    let r = &mut random;
    let kind = [
        Kind::Conv,
        Kind::Conv,
        Kind::Depthwise,
        Kind::FullyConnected,
    ][r.range(0, 3)];
    let bits = [2, 3, 4, 8, 4, 8][r.range(0, 5)];
    let layout = [Layout::Halfwords, Layout::Halfwords, Layout::Rows][r.range(0, 2)];
    let [mut y, mut x] = [axis(r), axis(r)];
    if kind == Kind::FullyConnected || r.range(0, 3) == 0 {
        for a in [&mut y, &mut x] {
            (a.kernel, a.dilation, a.pad) = (1, 1, 0);
            a.output = (a.input - 1) / a.stride + 1;
        }
    }
    let groups = match kind {
        Kind::Conv if r.range(0, 4) == 0 => r.range(2, 4),
        _ => 1,
    };
    let mut per_group = match r.range(0, 3) {
        0 => 4 * r.range(1, 16),
        1 => r.range(1, 67),
        _ => r.range(1, 12),
    };
    per_group = per_group.div_ceil(groups);
    let in_c = per_group * groups;
    let (outputs, rows, columns, taps) = match kind {
        Kind::Conv => {
            let taps = y.kernel * x.kernel * per_group;
            let outputs = groups * r.range(1, if taps > 400 { 9 } else { 40 }).div_ceil(groups);
            (outputs, outputs, taps, taps)
        }
        Kind::Depthwise => {
            let outputs = in_c * [1, 1, 1, 2, 3][r.range(0, 4)];
            let taps = y.kernel * x.kernel;
            (outputs, taps, outputs, taps)
        }
        Kind::FullyConnected => {
            let taps = y.input * x.input * in_c;
            let most = WEIGHTS / row_stride(taps, bits) - 1;
            let outputs = r.range(1, most.min(70));
            (outputs, outputs, taps, taps)
        }
    };
    let len = match kind {
        Kind::FullyConnected => outputs,
        _ => y.output * x.output * outputs,
    };
    // Smaller where it would not fit: the input is at most 11 * 11 * 68 long.
    if len + 8 > TENSOR {
        (y.output, x.output) = (1, 1);
    }
    let len = match kind {
        Kind::FullyConnected => outputs,
        _ => y.output * x.output * outputs,
    };
    // Words at word addresses mostly, as images are laid out.
    let shift = if r.range(0, 5) == 0 { r.range(1, 3) } else { 0 };
    let stride = row_stride(columns, bits);
    let weights = &mut m.weights[shift..shift + rows * stride];
    values(r, weights);
    // Whatever is behind a row's end is zero in an image. It must not matter here either, but for
    // 8 bits, where the image's check is what the assembly relies on.
    if bits == 8 {
        for row in weights.chunks_exact_mut(stride) {
            row[columns..].fill(0);
        }
    }
    let packed = Rows {
        bytes: weights,
        columns,
        bits,
        layout,
    };
    let input_shift = r.range(0, 3);
    let input = &mut m.input[input_shift..input_shift + y.input * x.input * in_c];
    {
        let mut byte = [0u8; 64];
        values(r, &mut byte);
        let noisy = r.range(0, 3) > 0;
        input.fill_with(|| match noisy {
            true => r.next() as i8,
            false => byte[r.range(0, 63)] as i8,
        });
    }
    let input_zero_point = zero_point(r);
    // What weights alone can add up to, and what is left for the bias.
    let worst = (taps as i64 * 255) << (bits - 1);
    let room = i32::MAX as i64 - worst;
    let hard = r.range(0, 2) == 0;
    // A larger multiplier in one channel may mean another way for all of them.
    let left_shifts = r.range(0, 1) == 0;
    // Inputs at the zero point: sums are what the bias says, here at ties of both roundings and around.
    let ties = r.range(0, 7) == 0;
    if ties {
        input.fill(input_zero_point);
    }
    for c in 0..outputs {
        let sign = if r.next() & 32 == 0 { 1 } else { -1 };
        let typical = (worst >> 5).max(1);
        let near = (r.next() as i64 % (2 * typical)) - typical;
        let mantissa = match r.range(0, 5) {
            0 => 1 << 30,
            1 => i32::MAX,
            _ => (1 << 30 | r.next() >> 2) as i32,
        };
        let log = 63 - worst.leading_zeros() as i32;
        let usual = (9 - log + r.range(0, 4) as i32).clamp(-31, -1);
        let (bias, mantissa, exponent) = match if hard { r.range(0, 9) } else { 9 } {
            0 => (sign * room, mantissa, -23),
            1 => (0, 0, 0),
            2 => (sign * room, mantissa, -31),
            // A left shift as far as the sum's bound allows.
            3 if left_shifts => (near, mantissa, 30 - log - 2),
            4 => (near, mantissa, 0),
            5 => (
                sign * (1 << 28).min(room),
                mantissa,
                -20 - (r.next() & 1) as i32,
            ),
            _ => (near, mantissa, usual),
        };
        let (bias, mantissa, exponent) = match ties {
            true => {
                let shift = r.range(0, 31) as i32;
                let odd = 2 * (r.next() as i64 % 300) + 1;
                let tie = sign * if shift > 0 { odd << (shift - 1) } else { odd };
                let sum = 2 * tie + [0, 0, 0, 1, -1][r.range(0, 4)];
                let half = [1 << 30, 1 << 30, mantissa][r.range(0, 2)];
                (sum.clamp(-room, room), half, -shift)
            }
            false => (bias, mantissa, exponent),
        };
        let exponent = exponent.clamp(-31, 30);
        let at = c * 4..c * 4 + 4;
        m.bias[at.clone()].copy_from_slice(&(bias as i32).to_le_bytes());
        m.mantissas[at].copy_from_slice(&mantissa.to_le_bytes());
        m.exponents[c] = exponent as u8;
    }
    let (act_min, act_max) = match r.range(0, 4) {
        0 => (r.next() as i8 & !64, 127),
        1 => (-100, 100),
        _ => (-128, 127),
    };
    let channels = Channels {
        bias: &m.bias[..outputs * 4],
        mantissas: &m.mantissas[..outputs * 4],
        exponents: &m.exponents[..outputs],
        zero_point: zero_point(r),
        act_min,
        act_max,
    };
    let scratch = match kind {
        Kind::Conv => conv2d_scratch_bytes(taps, outputs, bits),
        Kind::Depthwise => depthwise_scratch_bytes(taps),
        Kind::FullyConnected => fully_connected_scratch_bytes(taps),
    };
    // With less the kernels work in parts and in blocks.
    let scratch_bytes = match r.range(0, 9) {
        0..3 => r.range(0, scratch),
        3..5 => 0,
        _ => scratch,
    }
    .min(SCRATCH - 4);
    let from = r.range(0, 3);
    // Stale numbers in scratch memory must not matter, nor may anything behind it be written.
    m.scratch.fill(0x55);
    m.output[..len + 8].fill(0x33);
    let scratch = &mut m.scratch[from..from + scratch_bytes];
    let got = &mut m.output[4..4 + len];
    let expected = &mut m.expected[..len];
    let input = &*input;
    match kind {
        Kind::FullyConnected => {
            let p = FullyConnectedParams {
                input_zero_point,
                rounding: [Rounding::Tflm, Rounding::Tflm, Rounding::LiteRtReference]
                    [r.range(0, 2)],
                weights: packed,
                channels,
            };
            Native::fully_connected(&p, scratch, input, got);
            Portable::fully_connected(&p, &mut [], input, expected);
        }
        Kind::Conv | Kind::Depthwise => {
            let p = ConvParams {
                input: [y.input, x.input, in_c],
                output: [y.output, x.output, outputs],
                input_zero_point,
                window: Window {
                    kernel: [y.kernel as u8, x.kernel as u8],
                    stride: [y.stride as u8, x.stride as u8],
                    dilation: [y.dilation as u8, x.dilation as u8],
                    pad: [y.pad as u8, x.pad as u8],
                },
                groups,
                weights: packed,
                channels,
            };
            if kind == Kind::Conv {
                Native::conv2d(&p, scratch, input, got);
                Portable::conv2d(&p, &mut [], input, expected);
            } else {
                Native::depthwise_conv2d(&p, scratch, input, got);
                Portable::depthwise_conv2d(&p, &mut [], input, expected);
            }
        }
    }
    let wrong = got.iter().zip(&*expected).filter(|(a, b)| a != b).count();
    *digest = bench::digest(*digest, got);
    let outside = [&m.output[..4], &m.output[4 + len..8 + len]];
    let outside = outside
        .iter()
        .flat_map(|s| s.iter())
        .filter(|&&b| b != 0x33)
        .count();
    let scratch_outside = m.scratch[..from]
        .iter()
        .chain(&m.scratch[from + scratch_bytes..])
        .filter(|&&b| b != 0x55)
        .count();
    Outcome {
        kind,
        bits,
        elements: len,
        differing: wrong + outside + scratch_outside,
    }
}
