//! The layers of the kernel benchmark, and how one is measured.
//!
//! Shapes are those of the table of CMSIS-NN's instruction counts in `docs/kernels.md`: int8 in and
//! out, SAME padding, input zero point -128 (CMSIS-NN's input offset 128), output zero point -128,
//! multipliers for each channel, random data.

use qmend_shared::arith::Rounding;
use qmend_shared::engine;
use qmend_shared::image::{Channels, Model, Window};
use qmend_shared::kernels::{
    ConvParams, FullyConnectedParams, Kernels, Native, Portable, conv2d_scratch_bytes,
    depthwise_scratch_bytes, fully_connected_scratch_bytes,
};
use qmend_shared::weights::{Layout, Rows, row_stride};

use crate::port::Meter;

/// Frequency of SysTick on the processor's clock of the benchmark's Cortex-M boards.
pub const TICKS_PER_SECOND: u32 = if cfg!(target_abi = "eabihf") {
    // mps3-an547
    32_000_000
} else {
    // The MPS2 boards
    25_000_000
};

/// What a layer does.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A convolution.
    Conv,
    /// A depthwise convolution.
    Depthwise,
    /// A fully connected layer (the input has one position).
    FullyConnected,
}

/// A layer: square kernel, SAME padding.
#[derive(Clone, Copy, Debug)]
pub struct Layer {
    /// As in the table.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// Bits of a weight.
    pub bits: u8,
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Step down and right.
    pub stride: usize,
    /// Height, width, channels.
    pub input: [usize; 3],
    /// Output channels.
    pub outputs: usize,
}

const fn layer(
    name: &'static str,
    kind: Kind,
    bits: u8,
    [kernel, stride]: [usize; 2],
    input: [usize; 3],
    outputs: usize,
) -> Layer {
    Layer {
        name,
        kind,
        bits,
        kernel,
        stride,
        input,
        outputs,
    }
}

use Kind::{Conv, Depthwise, FullyConnected};

/// All of them: first the table's, then more widths of weights.
pub const LAYERS: &[Layer] = &[
    layer("conv3x3_3-16@32x32", Conv, 8, [3, 1], [32, 32, 3], 16),
    layer("conv3x3_16-16@32x32", Conv, 8, [3, 1], [32, 32, 16], 16),
    layer("conv3x3_16-32_s2@32x32", Conv, 8, [3, 2], [32, 32, 16], 32),
    layer("conv3x3_32-32@16x16", Conv, 8, [3, 1], [16, 16, 32], 32),
    layer("conv3x3_64-64@8x8", Conv, 8, [3, 1], [8, 8, 64], 64),
    layer("conv1x1_16-32_s2@32x32", Conv, 8, [1, 2], [32, 32, 16], 32),
    layer("conv1x1_64-64@25x5", Conv, 8, [1, 1], [25, 5, 64], 64),
    layer(
        "depthwise3x3_64@25x5",
        Depthwise,
        8,
        [3, 1],
        [25, 5, 64],
        64,
    ),
    layer("depthwise3x3_8@48x48", Depthwise, 8, [3, 1], [48, 48, 8], 8),
    layer("fc640-128", FullyConnected, 8, [1, 1], [1, 1, 640], 128),
    layer("fc64-10", FullyConnected, 8, [1, 1], [1, 1, 64], 10),
    layer("s4_conv3x3_16-16@32x32", Conv, 4, [3, 1], [32, 32, 16], 16),
    layer("s4_conv3x3_64-64@8x8", Conv, 4, [3, 1], [8, 8, 64], 64),
    layer("s4_conv1x1_64-64@25x5", Conv, 4, [1, 1], [25, 5, 64], 64),
    layer(
        "s4_depthwise3x3_64@25x5",
        Depthwise,
        4,
        [3, 1],
        [25, 5, 64],
        64,
    ),
    layer("s4_fc640-128", FullyConnected, 4, [1, 1], [1, 1, 640], 128),
    layer("s3_conv3x3_16-16@32x32", Conv, 3, [3, 1], [32, 32, 16], 16),
    layer("s3_fc640-128", FullyConnected, 3, [1, 1], [1, 1, 640], 128),
    layer("s2_conv3x3_16-16@32x32", Conv, 2, [3, 1], [32, 32, 16], 16),
    layer("s2_fc640-128", FullyConnected, 2, [1, 1], [1, 1, 640], 128),
];

const TENSOR: usize = 32 * 1024;
const WEIGHTS: usize = 96 * 1024;
const CHANNELS: usize = 128;
const SCRATCH: usize = 32 * 1024;
const ARENA: usize = 1024 * 1024;
const IMAGE: usize = 1024 * 1024;

/// All that the benchmark needs; a `static` of the program.
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
    arena: [i8; ARENA],
    image: [u8; IMAGE],
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
            arena: [0; ARENA],
            image: [0; IMAGE],
        }
    }

    /// Room for a model's image.
    pub fn image(&mut self) -> &mut [u8] {
        &mut self.image
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// Marsaglia's xorshift32.
pub(crate) struct Random(u32);

impl Random {
    pub(crate) fn new(seed: u32) -> Self {
        // Any state but zero.
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9) | 1);
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// A number from `from` to `to`, both included.
    pub(crate) fn range(&mut self, from: usize, to: usize) -> usize {
        from + (self.next() >> 3) as usize % (to - from + 1)
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| (self.next() >> 11) as u8);
    }
}

/// What was measured of a layer.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Multiply-accumulates; those with padding are counted, as in the table.
    pub macs: usize,
    /// SysTick's, of this processor's kernels.
    pub ticks: u64,
    /// Of the portable kernels.
    pub portable_ticks: u64,
    /// Whether both gave the same bytes.
    pub same: bool,
}

/// Runs one layer.
pub fn run(layer: &Layer, memory: &mut Memory, meter: &mut impl Meter) -> Measured {
    let mut random = Random::new(1);
    let [h, w, c] = layer.input;
    let output = [h, w].map(|n| n.div_ceil(layer.stride));
    let out_shape = [output[0], output[1], layer.outputs];
    let positions = layer.kernel * layer.kernel;
    let taps = match layer.kind {
        Depthwise => positions,
        _ => positions * c,
    };
    let (rows, columns) = match layer.kind {
        Depthwise => (positions, layer.outputs),
        _ => (layer.outputs, taps),
    };
    let m = &mut *memory;
    let stride = row_stride(columns, layer.bits);
    let weights = &mut m.weights[..rows * stride];
    random.fill(weights);
    for row in weights.chunks_exact_mut(stride) {
        // Only whole bytes of padding; the benchmark's other rows end with a word.
        let used = (columns * layer.bits as usize).div_ceil(8);
        row[used..].fill(0);
    }
    let input = &mut m.input[..h * w * c];
    input.fill_with(|| random.next() as i8);
    for channel in 0..layer.outputs {
        let at = channel * 4..channel * 4 + 4;
        let bias = (random.next() as i32) >> 18;
        m.bias[at.clone()].copy_from_slice(&bias.to_le_bytes());
        let mantissa = 1 << 30 | random.next() >> 2;
        m.mantissas[at].copy_from_slice(&mantissa.to_le_bytes());
        // Outputs of all sizes: a sum of n products is about 74 * half * sqrt(n).
        let spread = layer.bits as i32 - 1 + 6 + taps.ilog2() as i32 / 2;
        m.exponents[channel] = (6 - spread) as u8;
    }
    let channels = Channels {
        bias: &m.bias[..layer.outputs * 4],
        mantissas: &m.mantissas[..layer.outputs * 4],
        exponents: &m.exponents[..layer.outputs],
        zero_point: -128,
        act_min: -128,
        act_max: 127,
    };
    let weights = Rows {
        bytes: &m.weights[..rows * stride],
        columns,
        bits: layer.bits,
        layout: Layout::Halfwords,
    };
    let len = out_shape.iter().product::<usize>();
    let mut measured = Measured {
        macs: len * taps,
        ticks: 0,
        portable_ticks: 0,
        same: false,
    };
    let (got, expected) = (&mut m.output[..len], &mut m.expected[..len]);
    let input = &m.input[..h * w * c];
    match layer.kind {
        FullyConnected => {
            let p = FullyConnectedParams {
                input_zero_point: -128,
                rounding: Rounding::Tflm,
                weights,
                channels,
            };
            let scratch = &mut m.scratch[..fully_connected_scratch_bytes(taps)];
            meter.start();
            Native::fully_connected(&p, scratch, input, got);
            measured.ticks = meter.stop();
            meter.start();
            Portable::fully_connected(&p, &mut [], input, expected);
            measured.portable_ticks = meter.stop();
        }
        Conv | Depthwise => {
            let pad = |n: usize, outputs: usize| {
                ((outputs - 1) * layer.stride + layer.kernel).saturating_sub(n) / 2
            };
            let p = ConvParams {
                input: layer.input,
                output: out_shape,
                input_zero_point: -128,
                window: Window {
                    kernel: [layer.kernel as u8; 2],
                    stride: [layer.stride as u8; 2],
                    dilation: [1; 2],
                    pad: [pad(h, output[0]) as u8, pad(w, output[1]) as u8],
                },
                groups: 1,
                weights,
                channels,
            };
            if let Conv = layer.kind {
                let scratch =
                    &mut m.scratch[..conv2d_scratch_bytes(taps, layer.outputs, layer.bits)];
                meter.start();
                Native::conv2d(&p, scratch, input, got);
                measured.ticks = meter.stop();
                meter.start();
                Portable::conv2d(&p, &mut [], input, expected);
                measured.portable_ticks = meter.stop();
            } else {
                let scratch = &mut m.scratch[..depthwise_scratch_bytes(taps)];
                meter.start();
                Native::depthwise_conv2d(&p, scratch, input, got);
                measured.ticks = meter.stop();
                meter.start();
                Portable::depthwise_conv2d(&p, &mut [], input, expected);
                measured.portable_ticks = meter.stop();
            }
        }
    }
    measured.same = got == expected;
    measured
}

/// What was measured of a model.
#[derive(Clone, Copy, Debug)]
pub struct MeasuredModel {
    /// SysTick's, for one sample, with this processor's kernels.
    pub ticks: u64,
    /// With the portable kernels.
    pub portable_ticks: u64,
    /// The arena.
    pub arena_bytes: usize,
    /// Deepest stack of a run with this processor's kernels.
    pub stack: u32,
    /// Of the output's bytes.
    pub digest: u32,
    /// Whether both gave the same bytes.
    pub same: bool,
}

/// Where a digest begins (FNV-1a).
pub const DIGEST: u32 = 0x811c_9dc5;

/// Continues a digest.
pub fn digest(from: u32, bytes: &[i8]) -> u32 {
    bytes.iter().fold(from, |d, &byte| {
        (d ^ byte as u8 as u32).wrapping_mul(0x0100_0193)
    })
}

/// Runs the model whose image was read, on random input. `None` where it is not sound or too large.
/// `operator` is told each operator's index, kind and ticks of this processor's kernels, those of finding it in the
/// image included.
pub fn model(
    len: usize,
    memory: &mut Memory,
    meter: &mut impl Meter,
    mut operator: impl FnMut(usize, &str, u64),
) -> Option<MeasuredModel> {
    let m = &mut *memory;
    let model = Model::from_bytes(m.image.get(..len)?).ok()?;
    let input = m.input.get_mut(..model.input().elements() as usize)?;
    let mut random = Random::new(1);
    input.fill_with(|| random.next() as i8);
    let outputs = model.output().elements() as usize;
    let (got, expected) = (m.output.get_mut(..outputs)?, m.expected.get_mut(..outputs)?);
    let arena = m.arena.get_mut(..model.arena_bytes())?;
    meter.reset_stack();
    meter.start();
    engine::run(&model, arena, input, got).ok()?;
    let ticks = meter.stop();
    let (stack, _) = meter.stack();
    meter.start();
    engine::run_on::<Portable>(&model, arena, input, expected, |_, _, _| {}).ok()?;
    let portable_ticks = meter.stop();
    meter.start();
    engine::run_with(&model, arena, input, expected, |index, op, _| {
        operator(index, op.kind(), meter.stop());
        meter.start();
    })
    .ok()?;
    meter.stop();
    Some(MeasuredModel {
        ticks,
        portable_ticks,
        arena_bytes: arena.len(),
        stack,
        digest: digest(DIGEST, got),
        same: got == expected,
    })
}
