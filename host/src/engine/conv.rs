//! Convolutions (grouped too) and fully connected layers.

use super::isa::Isa;
use super::plane::Plane;
use super::requant::Requant;
use super::tile::{MAX_ACC, Run, Runs, TILE, Tile};
use crate::graph::Pads;
use crate::model::{Conv2d, FullyConnected, Linear};

/// A convolution made ready: an implicit matrix product over the widened input.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    plane: Plane,
    /// Where each output position's taps start in a sample's plane, `[out_h][out_w]`.
    origins: Vec<usize>,
    runs: Runs,
    groups: usize,
    group_in: usize,
    group_out: usize,
    /// `[group][block of lanes][pair]`, two a lane within a pair as [`Isa::weight_place`] says.
    weights: Vec<i16>,
    requant: Requant,
}

impl Conv {
    pub(super) fn from_conv(
        conv: &Conv2d,
        input: [usize; 3],
        output: [usize; 3],
        zx: i8,
        zy: i8,
        isa: Isa,
    ) -> Self {
        let plane = Plane::new(input, conv.pads, zx);
        let group_in = input[2] / conv.groups;
        let (row, column) = (plane.row(), plane.column());
        let [kh, kw] = conv.kernel;
        let mut runs = Vec::new();
        let mut lengths = Vec::new();
        for y in 0..kh {
            let start = y * conv.dilation[0] * row;
            if conv.groups == 1 && conv.dilation[1] == 1 {
                // A filter row's inputs lie side by side.
                runs.push(start);
                lengths.push(kw * group_in);
            } else {
                for x in 0..kw {
                    runs.push(start + x * conv.dilation[1] * column);
                    lengths.push(group_in);
                }
            }
        }
        let origins = positions(output, conv.stride, row, column);
        Self::pack(
            plane,
            origins,
            runs,
            lengths,
            conv.groups,
            &conv.linear,
            zy,
            false,
            isa,
        )
    }

    pub(super) fn from_fully_connected(
        fc: &FullyConnected,
        input: [usize; 3],
        output: [usize; 3],
        zx: i8,
        zy: i8,
        single_rounding: bool,
        isa: Isa,
    ) -> Self {
        let elements: usize = input.iter().product();
        let (shape, taps) = match output[0] * output[1] {
            1 => ([1, 1, elements], elements),
            _ => (input, input[2]),
        };
        let plane = Plane::new(shape, Pads::default(), zx);
        let origins = positions(output, [1, 1], plane.row(), plane.column());
        Self::pack(
            plane,
            origins,
            vec![0],
            vec![taps],
            1,
            &fc.linear,
            zy,
            single_rounding,
            isa,
        )
    }

    #[allow(clippy::too_many_arguments)]
    fn pack(
        plane: Plane,
        origins: Vec<usize>,
        offsets: Vec<usize>,
        lengths: Vec<usize>,
        groups: usize,
        linear: &Linear,
        zy: i8,
        single_rounding: bool,
        isa: Isa,
    ) -> Self {
        let lanes = isa.lanes();
        let group_out = linear.out_channels() / groups;
        let blocks = group_out.div_ceil(lanes);
        let pairs: usize = lengths.iter().map(|l| l.div_ceil(2)).sum();
        let mut weights = vec![0i16; groups * blocks * pairs * lanes * 2];
        for c in 0..linear.out_channels() {
            let (group, within) = (c / group_out, c % group_out);
            let block = group * blocks + within / lanes;
            let to = &mut weights[block * pairs * lanes * 2..][..pairs * lanes * 2];
            let lane = within % lanes;
            let mut row = linear.row(c);
            let mut first_pair = 0;
            for &length in &lengths {
                let (run, rest) = row.split_at(length);
                for (i, &w) in run.iter().enumerate() {
                    to[(first_pair + i / 2) * lanes * 2 + isa.weight_place(lane, i % 2)] = w as i16;
                }
                first_pair += length.div_ceil(2);
                row = rest;
            }
        }
        let runs = offsets.into_iter().zip(&lengths);
        let runs = Runs::new(
            runs.map(|(offset, length)| Run {
                offset,
                pairs: length.div_ceil(2),
            })
            .collect(),
        );
        Self {
            group_in: plane.column() / groups,
            plane,
            origins,
            runs,
            groups,
            group_out,
            weights,
            requant: Requant::new(linear, groups, lanes, zy, single_rounding),
        }
    }

    /// Elements of scratch a sample.
    pub(super) fn plane_elements(&self) -> usize {
        self.plane.elements()
    }

    /// `n` samples to int8.
    pub(super) fn run(&self, isa: Isa, x: &[i8], n: usize, plane: &mut Vec<i16>, out: &mut [i8]) {
        let out_c = self.groups * self.group_out;
        self.for_each_tile(isa, x, n, plane, |first, lane0, c0, count, acc| {
            let width = (self.group_out - c0 % self.group_out).min(isa.lanes());
            let out = &mut out[first * out_c + c0..];
            let layout = (out_c, width);
            if isa.lanes() == 16 {
                self.requant
                    .store(isa, lane0, &acc.as_chunks::<16>().0[..count], out, layout);
            } else {
                self.requant
                    .store(isa, lane0, &acc.as_chunks::<8>().0[..count], out, layout);
            }
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
        let out_c = self.groups * self.group_out;
        let lanes = isa.lanes();
        self.for_each_tile(isa, x, n, plane, |first, _, c0, count, acc| {
            let width = (self.group_out - c0 % self.group_out).min(lanes);
            for p in 0..count {
                let to = (first + p) * out_c + c0;
                out[to..to + width].copy_from_slice(&acc[p * lanes..p * lanes + width]);
            }
        });
    }

    /// Calls `sink(first position over all samples, first lane of the constants, first channel,
    /// positions, accumulators)`.
    fn for_each_tile(
        &self,
        isa: Isa,
        x: &[i8],
        n: usize,
        plane: &mut Vec<i16>,
        mut sink: impl FnMut(usize, usize, usize, usize, &[i32; MAX_ACC]),
    ) {
        let lanes = isa.lanes();
        let blocks = self.group_out.div_ceil(lanes);
        let pairs = self.runs.pairs();
        let size = self.plane.elements();
        self.plane.fill(x, n, plane);
        let positions = self.origins.len();
        let total = n * positions;
        let mut acc = [0i32; MAX_ACC];
        for group in 0..self.groups {
            for block in 0..blocks {
                let index = group * blocks + block;
                let weights = &self.weights[index * pairs * lanes * 2..][..pairs * lanes * 2];
                let bias = &self.requant.bias[index * lanes..][..lanes];
                let c0 = group * self.group_out + block * lanes;
                let (mut sample, mut position) = (0, 0);
                for first in (0..total).step_by(TILE) {
                    let count = TILE.min(total - first);
                    let mut origins = [0; TILE];
                    for p in 0..TILE {
                        if p < count {
                            origins[p] =
                                sample * size + self.origins[position] + group * self.group_in;
                            position += 1;
                            if position == positions {
                                position = 0;
                                sample += 1;
                            }
                        } else {
                            origins[p] = origins[0];
                        }
                    }
                    Tile {
                        plane,
                        origins: &origins,
                        runs: &self.runs,
                        weights,
                        bias,
                    }
                    .accumulate(isa, &mut acc);
                    sink(first, index * lanes, c0, count, &acc);
                }
            }
        }
    }
}

/// Plane offsets of all output positions' first taps.
pub(super) fn positions(
    output: [usize; 3],
    stride: [usize; 2],
    row: usize,
    column: usize,
) -> Vec<usize> {
    let [h, w, _] = output;
    (0..h)
        .flat_map(|y| (0..w).map(move |x| y * stride[0] * row + x * stride[1] * column))
        .collect()
}
