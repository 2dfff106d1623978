//! Convolutions (grouped too) and fully connected layers.

#[cfg(target_arch = "x86_64")]
use super::avx512::product::{Place, Product, padded};
use super::isa::Isa;
use super::plane::Plane;
use super::requant::Requant;
use super::step::Scratch;
use super::tile::{MAX_ACC, POSITIONS, Run, Runs, Tile};
use crate::graph::Pads;
use crate::model::{Conv2d, FullyConnected, Linear};

/// A convolution made ready: an implicit matrix product over the prepared input.
#[derive(Clone, Debug)]
pub(super) struct Conv {
    plane: Plane,
    /// Where each output position's taps start in a sample's plane, `[out_h][out_w]`.
    origins: Vec<usize>,
    runs: Runs,
    /// Every group's first input, from a position's origin.
    #[cfg(target_arch = "x86_64")]
    offsets: Vec<usize>,
    groups: usize,
    group_in: usize,
    group_out: usize,
    weights: Weights,
    requant: Requant,
    isa: Isa,
}

/// `[group][block of lanes][group of taps]`, within a group of taps as [`Isa::weight_place`] says.
#[derive(Clone, Debug)]
enum Weights {
    /// Two taps a lane, four for Neon.
    Pairs(Vec<i16>),
    /// Four taps a lane, for AVX-512 VNNI.
    Quads(Vec<i8>),
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
        for y in 0..kh {
            let start = y * conv.dilation[0] * row;
            if conv.groups == 1 && conv.dilation[1] == 1 {
                // A filter row's inputs lie side by side.
                runs.push((start, kw * group_in));
            } else {
                for x in 0..kw {
                    runs.push((start + x * conv.dilation[1] * column, group_in));
                }
            }
        }
        let origins = positions(output, conv.stride, row, column);
        let requant = requant(&conv.linear, conv.groups, (zx, zy), false, isa);
        Self::pack(
            plane,
            origins,
            &runs,
            conv.groups,
            &conv.linear,
            requant,
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
        let requant = requant(&fc.linear, 1, (zx, zy), single_rounding, isa);
        Self::pack(plane, origins, &[(0, taps)], 1, &fc.linear, requant, isa)
    }

    /// Lays out the weights as `isa`'s loop reads them. A filter reads, in the order of its
    /// weights, `runs` of consecutive inputs: the offset of the first, and how many.
    fn pack(
        plane: Plane,
        origins: Vec<usize>,
        runs: &[(usize, usize)],
        groups: usize,
        linear: &Linear,
        requant: Requant,
        isa: Isa,
    ) -> Self {
        let (lanes, taps) = (isa.lanes(), isa.taps());
        let group_out = linear.out_channels() / groups;
        let blocks = group_out.div_ceil(lanes);
        let list = runs.iter().map(|&(offset, length)| Run {
            offset,
            groups: length.div_ceil(taps),
        });
        let list = Runs::new(list.collect(), taps);
        let block = list.groups() * taps * lanes;
        let mut weights = vec![0i8; groups * blocks * block];
        for c in 0..linear.out_channels() {
            let (group, within) = (c / group_out, c % group_out);
            let to = &mut weights[(group * blocks + within / lanes) * block..][..block];
            let mut row = linear.row(c);
            let mut first = 0;
            for &(_, length) in runs {
                let (run, rest) = row.split_at(length);
                for (i, &w) in run.iter().enumerate() {
                    let place = isa.weight_place(within % lanes, i % taps);
                    to[(first + i / taps) * taps * lanes + place] = w;
                }
                first += length.div_ceil(taps);
                row = rest;
            }
        }
        Self {
            group_in: plane.column() / groups,
            plane,
            origins,
            #[cfg(target_arch = "x86_64")]
            offsets: list.offsets(),
            runs: list,
            groups,
            group_out,
            weights: match isa {
                Isa::Avx512Vnni => Weights::Quads(weights),
                _ => Weights::Pairs(weights.into_iter().map(i16::from).collect()),
            },
            requant,
            isa,
        }
    }

    /// Bytes of scratch a sample.
    pub(super) fn scratch_bytes(&self) -> usize {
        match self.weights {
            Weights::Pairs(_) => 2 * self.plane.elements(),
            Weights::Quads(_) => self.plane.elements(),
        }
    }

    /// `n` samples to int8.
    pub(super) fn run(&self, x: &[i8], n: usize, scratch: &mut Scratch, out: &mut [i8]) {
        let out_c = self.groups * self.group_out;
        #[cfg(target_arch = "x86_64")]
        if let Weights::Quads(weights) = &self.weights {
            match self.requant.prepared() {
                Some(p) => self.quads(x, n, weights, scratch, |product, place, blocks, total| {
                    // SAFETY: quads are packed only where AVX-512 with VNNI was detected.
                    unsafe {
                        match blocks {
                            2 => product.outputs::<2, 1>(total, p, place, out),
                            _ => product.outputs::<1, 2>(total, p, place, out),
                        }
                    }
                }),
                None => {
                    let mut sums = vec![0; out.len()];
                    self.accumulators(x, n, scratch, &mut sums);
                    for (i, (sum, out)) in sums.into_iter().zip(out).enumerate() {
                        let c = i % out_c;
                        let blocks = self.group_out.div_ceil(self.isa.lanes());
                        let lane = c / self.group_out * blocks * self.isa.lanes();
                        *out = self.requant.one(lane + c % self.group_out, sum);
                    }
                }
            }
            return;
        }
        self.for_each_tile(x, n, scratch, |at, acc| {
            let out = &mut out[at.position * out_c + at.channel..];
            let acc = &acc.as_chunks::<8>().0[..at.count];
            let layout = (out_c, at.width);
            self.requant.store(self.isa, at.lane, acc, out, layout);
        });
    }

    /// `n` samples to accumulators, bias included.
    pub(super) fn accumulators(&self, x: &[i8], n: usize, scratch: &mut Scratch, out: &mut [i32]) {
        let out_c = self.groups * self.group_out;
        #[cfg(target_arch = "x86_64")]
        if let Weights::Quads(weights) = &self.weights {
            self.quads(x, n, weights, scratch, |product, place, blocks, total| {
                for b in 0..blocks {
                    let (product, place) = (product.block(b), place.block(b));
                    // SAFETY: quads are packed only where AVX-512 with VNNI was detected.
                    unsafe { product.accumulators(total, place, out) };
                }
            });
            return;
        }
        let lanes = self.isa.lanes();
        self.for_each_tile(x, n, scratch, |at, acc| {
            for p in 0..at.count {
                let to = (at.position + p) * out_c + at.channel;
                out[to..to + at.width].copy_from_slice(&acc[p * lanes..p * lanes + at.width]);
            }
        });
    }

    /// Calls `sink(operands, place, blocks, positions)` for every block of channels, or two of
    /// them, with the positions of all samples.
    #[cfg(target_arch = "x86_64")]
    fn quads(
        &self,
        x: &[i8],
        n: usize,
        weights: &[i8],
        scratch: &mut Scratch,
        mut sink: impl FnMut(Product<'_>, Place, usize, usize),
    ) {
        self.plane.fill(self.isa, x, n, &mut scratch.quads);
        let total = n * self.origins.len();
        let size = self.plane.elements();
        scratch.origins.clear();
        scratch.origins.resize(padded(total), 0);
        let samples = scratch.origins.chunks_mut(self.origins.len());
        for (sample, to) in samples.take(n).enumerate() {
            for (to, from) in to.iter_mut().zip(&self.origins) {
                *to = sample * size + from;
            }
        }
        let lanes = self.isa.lanes();
        let blocks = self.group_out.div_ceil(lanes);
        let weights_a_block = self.runs.groups() * self.isa.taps() * lanes;
        for group in 0..self.groups {
            let plane = &scratch.quads[group * self.group_in..];
            let mut block = 0;
            while block < blocks {
                let count = (blocks - block).min(2);
                let first = group * blocks + block;
                let product = Product {
                    plane,
                    origins: &scratch.origins,
                    offsets: &self.offsets,
                    weights: &weights[first * weights_a_block..][..count * weights_a_block],
                    bias: &self.requant.bias[first * lanes..][..count * lanes],
                };
                let place = Place {
                    channel: group * self.group_out + block * lanes,
                    lane: first * lanes,
                    width: (self.group_out - block * lanes).min(count * lanes),
                    stride: self.groups * self.group_out,
                };
                sink(product, place, count, total);
                block += count;
            }
        }
    }

    /// Calls `sink` with the accumulators, `[position][lane]`, of every tile and block.
    fn for_each_tile(
        &self,
        x: &[i8],
        n: usize,
        scratch: &mut Scratch,
        mut sink: impl FnMut(At, &[i32]),
    ) {
        let Weights::Pairs(weights) = &self.weights else {
            unreachable!("quads have a loop of their own");
        };
        let blocks = self.group_out.div_ceil(self.isa.lanes());
        self.plane.fill(self.isa, x, n, &mut scratch.pairs);
        let operands = (&scratch.pairs[..], &weights[..]);
        for (group, block) in (0..self.groups).flat_map(|g| (0..blocks).map(move |b| (g, b))) {
            self.blocks(operands, n, group, block, &mut sink);
        }
    }

    /// All positions of all samples by block `block`, a few positions at a time.
    fn blocks(
        &self,
        (plane, weights): (&[i16], &[i16]),
        n: usize,
        group: usize,
        block: usize,
        sink: &mut impl FnMut(At, &[i32]),
    ) {
        let lanes = self.isa.lanes();
        let blocks = self.group_out.div_ceil(lanes);
        let first = group * blocks + block;
        let weights_a_block = self.runs.groups() * self.isa.taps() * lanes;
        let weights = &weights[first * weights_a_block..][..weights_a_block];
        let bias = &self.requant.bias[first * lanes..][..lanes];
        let size = self.plane.elements();
        let total = n * self.origins.len();
        let mut places = (0..n)
            .flat_map(|sample| self.origins.iter().map(move |o| sample * size + o))
            .map(|o| o + group * self.group_in);
        let mut acc = [0i32; MAX_ACC];
        let mut origins = [0; POSITIONS];
        for position in (0..total).step_by(POSITIONS) {
            let positions = POSITIONS.min(total - position);
            for origin in &mut origins[..positions] {
                *origin = places.next().expect("as many places as positions");
            }
            // A last tile that is not full computes its first position again.
            let first_origin = origins[0];
            origins[positions..].fill(first_origin);
            let tile = Tile {
                plane,
                origins: &origins,
                runs: &self.runs,
                weights,
                bias,
            };
            match self.isa {
                // SAFETY: an `Isa` other than `Portable` comes from detection on this machine.
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => unsafe { tile.avx2(&mut acc) },
                #[cfg(target_arch = "aarch64")]
                Isa::Neon => tile.neon(&mut acc),
                _ => tile.portable(&mut acc),
            }
            let within = block * lanes;
            let at = At {
                position,
                count: positions,
                channel: group * self.group_out + within,
                width: lanes.min(self.group_out - within),
                lane: first * lanes,
            };
            sink(at, &acc);
        }
    }
}

/// Where the accumulators of a tile and block belong.
struct At {
    /// First position, over all samples.
    position: usize,
    /// Positions.
    count: usize,
    /// First output channel.
    channel: usize,
    /// Output channels.
    width: usize,
    /// First lane of the constants.
    lane: usize,
}

/// Constants for what the loop of `isa` reads.
fn requant(
    linear: &Linear,
    groups: usize,
    zero_points: (i8, i8),
    single_rounding: bool,
    isa: Isa,
) -> Requant {
    let new = match isa {
        Isa::Avx512Vnni => Requant::from_minimum,
        _ => Requant::new,
    };
    new(linear, (groups, isa.lanes()), zero_points, single_rounding)
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
