//! Depthwise convolutions: one filter a channel, vectorised over channels.

use super::conv::positions;
use super::isa::Isa;
use super::plane::Plane;
use super::requant::Requant;

use crate::model::Conv2d;

/// Channels that are accumulated together.
const LANES: usize = 16;

/// Positions whose accumulators are kept together.
const TILE: usize = 8;

/// A depthwise convolution made ready. Input channels are repeated in the widened input where
/// there are several filters a channel, so that output channel and plane channel are one.
#[derive(Clone, Debug)]
pub(super) struct Depthwise {
    plane: Plane,
    origins: Vec<usize>,
    /// Plane offset of each tap.
    taps: Vec<usize>,
    /// `[block of LANES][tap][LANES]`
    weights: Vec<i16>,
    out_c: usize,
    requant: Requant,
}

impl Depthwise {
    pub(super) fn new(
        conv: &Conv2d,
        input: [usize; 3],
        output: [usize; 3],
        zx: i8,
        zy: i8,
    ) -> Self {
        let out_c = conv.linear.out_channels();
        let plane = Plane::new(input, conv.pads, zx).expanded(out_c / input[2], LANES);
        let (row, column) = (plane.row(), plane.column());
        let [kh, kw] = conv.kernel;
        let taps: Vec<usize> = (0..kh)
            .flat_map(|y| {
                (0..kw).map(move |x| y * conv.dilation[0] * row + x * conv.dilation[1] * column)
            })
            .collect();
        let mut weights = vec![0i16; out_c.next_multiple_of(LANES) * taps.len()];
        for c in 0..out_c {
            for (t, &w) in conv.linear.row(c).iter().enumerate() {
                weights[(c / LANES * taps.len() + t) * LANES + c % LANES] = w as i16;
            }
        }
        Self {
            origins: positions(output, conv.stride, row, column),
            plane,
            taps,
            weights,
            out_c,
            requant: Requant::new(&conv.linear, (1, LANES), (zx, zy), false),
        }
    }

    /// Elements of scratch a sample.
    pub(super) fn plane_elements(&self) -> usize {
        self.plane.elements()
    }

    /// `n` samples to int8.
    pub(super) fn run(&self, isa: Isa, x: &[i8], n: usize, plane: &mut Vec<i16>, out: &mut [i8]) {
        self.for_each(isa, x, n, plane, |at, c0, acc| {
            let width = LANES.min(self.out_c - c0);
            self.requant.store(
                isa,
                c0,
                acc,
                &mut out[at * self.out_c + c0..],
                (self.out_c, width),
            );
        });
    }

    /// `n` samples to accumulators, bias included.
    pub(super) fn accumulators(
        &self,
        isa: Isa,
        x: &[i8],
        n: usize,
        plane: &mut Vec<i16>,
        out: &mut [i32],
    ) {
        self.for_each(isa, x, n, plane, |at, c0, acc| {
            let width = LANES.min(self.out_c - c0);
            for (p, acc) in acc.iter().enumerate() {
                let to = (at + p) * self.out_c + c0;
                out[to..to + width].copy_from_slice(&acc[..width]);
            }
        });
    }

    /// Calls `sink(first position over all samples, first channel, accumulators of up to TILE
    /// positions)`.
    fn for_each(
        &self,
        isa: Isa,
        x: &[i8],
        n: usize,
        plane: &mut Vec<i16>,
        mut sink: impl FnMut(usize, usize, &[[i32; LANES]]),
    ) {
        self.plane.fill(isa, x, n, plane);
        let size = self.plane.elements();
        let mut acc = [[0; LANES]; TILE];
        for sample in 0..n {
            let plane = &plane[sample * size..(sample + 1) * size];
            for block in 0..self.out_c.div_ceil(LANES) {
                let c0 = block * LANES;
                let mut at = sample * self.origins.len();
                for origins in self.origins.chunks(TILE) {
                    isa.vectorized(
                        #[inline(always)]
                        || {
                            for (acc, origin) in acc.iter_mut().zip(origins) {
                                *acc = self.position(&plane[origin + c0..], block);
                            }
                        },
                    );
                    sink(at, c0, &acc[..origins.len()]);
                    at += origins.len();
                }
            }
        }
    }

    #[inline(always)]
    fn position(&self, x: &[i16], block: usize) -> [i32; LANES] {
        let mut acc = [0i32; LANES];
        acc.copy_from_slice(&self.requant.bias[block * LANES..][..LANES]);
        let (weights, _) = self.weights[block * self.taps.len() * LANES..].as_chunks::<LANES>();
        for (&tap, w) in self.taps.iter().zip(weights) {
            let x = &x[tap..tap + LANES];
            for lane in 0..LANES {
                acc[lane] += x[lane] as i32 * w[lane] as i32;
            }
        }
        acc
    }
}
