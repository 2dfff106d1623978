//! Depthwise convolutions for vectors of bytes, a row of outputs at a time.
//!
//! A row of outputs, positions and channels alike, is one run of bytes, and each tap another run of
//! the prepared input at an offset of its own, so that any 64 outputs that follow each other are
//! computed together, however many channels there are. The filters repeat every `channels` bytes:
//! weights and constants are laid out for the smallest number of whole vectors after which they
//! repeat, the period. Where the stride is more than one, the input's columns are sorted by their
//! remainder first ([`Plane::phased`]).

use super::avx512::depthwise::{Row, Taps, lane_of};
use super::avx512::{BLOCK, GROUP};
use super::isa::Isa;
use super::plane::Plane;
use super::requant::Requant;
use super::step::Scratch;
use crate::model::Conv2d;

/// More channels than this are padded to whole vectors, so that a period is one row of filters.
const SHORT_PERIOD: usize = 256;

/// A depthwise convolution made ready.
#[derive(Clone, Debug)]
pub(super) struct FlatDepthwise {
    plane: Plane,
    /// Distance between the inputs of two rows of outputs.
    row_step: usize,
    taps: Taps,
    /// See [`Row::weights`].
    weights: Vec<i8>,
    requant: Requant,
    /// `[h][w][c]` of the output.
    output: [usize; 3],
}

impl FlatDepthwise {
    pub(super) fn new(
        conv: &Conv2d,
        input: [usize; 3],
        output: [usize; 3],
        zx: i8,
        zy: i8,
    ) -> Self {
        let out_c = output[2];
        let align = if out_c > SHORT_PERIOD { BLOCK } else { 8 };
        let plane = Plane::new(input, conv.pads, zx)
            .expanded(out_c / input[2], align)
            .phased(conv.stride[1]);
        let [kh, kw] = conv.kernel;
        let offsets: Vec<usize> = (0..kh)
            .flat_map(|y| (0..kw).map(move |x| (y * conv.dilation[0], x * conv.dilation[1])))
            .map(|(y, x)| y * plane.row() + plane.column_at(x))
            .collect();
        let taps = Taps::new(&offsets);
        let channels = plane.column();
        let period = channels / gcd(channels, BLOCK);
        let mut weights = vec![0i8; period * taps.groups() * GROUP * BLOCK];
        let mut channel_of = vec![None; period * BLOCK];
        for place in 0..period * BLOCK {
            let c = place % channels;
            if c >= out_c {
                continue;
            }
            let (block, lane) = (place / BLOCK, lane_of(place % BLOCK));
            channel_of[block * BLOCK + lane] = Some(c);
            for (t, &w) in conv.linear.row(c).iter().enumerate() {
                let group = block * taps.groups() + t / GROUP;
                weights[(group * BLOCK + lane) * GROUP + t % GROUP] = w;
            }
        }
        Self {
            row_step: conv.stride[0] * plane.row(),
            plane,
            taps,
            weights,
            requant: Requant::at_lanes(&conv.linear, &channel_of, (zx, zy)),
            output,
        }
    }

    /// Bytes of scratch a sample.
    pub(super) fn scratch_bytes(&self) -> usize {
        self.plane.elements()
    }

    /// `n` samples to int8.
    pub(super) fn run(&self, x: &[i8], n: usize, scratch: &mut Scratch, out: &mut [i8]) {
        let [_, w, c] = self.output;
        let channels = self.plane.column();
        let Some(prepared) = self.requant.prepared() else {
            return self.run_any(x, n, scratch, out);
        };
        let mut padded = vec![0i8; if channels == c { 0 } else { w * channels }];
        self.for_each_row(x, n, scratch, |i, row| {
            let out = &mut out[i * w * c..(i + 1) * w * c];
            // SAFETY: this type is made only where AVX-512 with VNNI was detected.
            unsafe {
                if channels == c {
                    row.outputs(prepared, out);
                } else {
                    row.outputs(prepared, &mut padded);
                    drop_padding(&padded, channels, out, c);
                }
            }
        });
    }

    /// As [`Self::run`] for multipliers that could not be made ready.
    fn run_any(&self, x: &[i8], n: usize, scratch: &mut Scratch, out: &mut [i8]) {
        let [_, w, c] = self.output;
        let channels = self.plane.column();
        let mut sums = vec![0i32; w * channels];
        self.for_each_row(x, n, scratch, |i, row| {
            // SAFETY: as in `run`.
            unsafe { row.accumulators(&mut sums) };
            let out = out[i * w * c..(i + 1) * w * c].chunks_exact_mut(c);
            for (at, out) in out.enumerate() {
                for (ch, out) in out.iter_mut().enumerate() {
                    let place = at * channels + ch;
                    let lane = self.lane(place);
                    *out = self.requant.one(lane, sums[place]);
                }
            }
        });
    }

    /// The lane of the constants for byte `place` of a row.
    fn lane(&self, place: usize) -> usize {
        let block = place / BLOCK % (self.requant.bias.len() / BLOCK);
        block * BLOCK + lane_of(place % BLOCK)
    }

    /// `n` samples to accumulators, bias included.
    pub(super) fn accumulators(&self, x: &[i8], n: usize, scratch: &mut Scratch, out: &mut [i32]) {
        let [_, w, c] = self.output;
        let channels = self.plane.column();
        let mut sums = vec![0i32; w * channels];
        self.for_each_row(x, n, scratch, |i, row| {
            // SAFETY: as in `run`.
            unsafe { row.accumulators(&mut sums) };
            drop_padding(&sums, channels, &mut out[i * w * c..(i + 1) * w * c], c);
        });
    }

    /// Calls `sink` with every row of outputs: its index over all samples, and its operands.
    fn for_each_row(
        &self,
        x: &[i8],
        n: usize,
        scratch: &mut Scratch,
        mut sink: impl FnMut(usize, Row<'_>),
    ) {
        self.plane.fill(Isa::Avx512Vnni, x, n, &mut scratch.quads);
        let size = self.plane.elements();
        let h = self.output[0];
        for sample in 0..n {
            for y in 0..h {
                let row = Row {
                    x: &scratch.quads[sample * size + y * self.row_step..],
                    taps: &self.taps,
                    weights: &self.weights,
                    bias: &self.requant.bias,
                };
                sink(sample * h + y, row);
            }
        }
    }
}

/// Positions of `channels` numbers to positions of their first `c`.
fn drop_padding<T: Copy>(padded: &[T], channels: usize, out: &mut [T], c: usize) {
    for (from, to) in padded.chunks_exact(channels).zip(out.chunks_exact_mut(c)) {
        to.copy_from_slice(&from[..c]);
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
