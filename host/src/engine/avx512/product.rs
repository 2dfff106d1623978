//! Convolutions and fully connected layers: some positions by one or two vectors of channels.

// Loops with constant bounds over places are unrolled, and their arrays kept in registers; iterators
// over the same arrays take their address, and every step writes them to memory.
#![allow(clippy::needless_range_loop)]

use std::arch::x86_64::*;

use super::super::requant::Prepared;
use super::scale::{Finish, Lanes};
use super::{GROUP, LANES};

/// Operands of a block of output channels, or two. Inputs are read in groups of four consecutive
/// ones; each group is multiplied with the group's weights of every channel.
pub(in super::super) struct Product<'a> {
    /// Prepared inputs of all samples.
    pub plane: &'a [u8],
    /// Where each position's inputs start in `plane`: as many as [`padded`] says, those beyond
    /// the last position anything that is there.
    pub origins: &'a [usize],
    /// Each group's first input, from a position's origin.
    pub offsets: &'a [usize],
    /// `[block][group][lane][tap]`
    pub weights: &'a [i8],
    /// `[block][lane]`
    pub bias: &'a [i32],
}

/// Positions that are computed together.
const TOGETHER: usize = 8;

/// How many origins `positions` positions need.
pub(in super::super) fn padded(positions: usize) -> usize {
    positions.next_multiple_of(TOGETHER)
}

/// Where outputs go.
#[derive(Clone, Copy)]
pub(in super::super) struct Place {
    /// Channel of the first block's first lane.
    pub channel: usize,
    /// First lane of the constants.
    pub lane: usize,
    /// Channels of all blocks.
    pub width: usize,
    /// Channels of the output: the distance of two positions.
    pub stride: usize,
}

impl Place {
    /// That of block `b` alone.
    pub(in super::super) fn block(self, b: usize) -> Self {
        Self {
            channel: self.channel + b * LANES,
            lane: self.lane + b * LANES,
            width: self.width.saturating_sub(b * LANES).min(LANES),
            ..self
        }
    }

    /// One past the last output, or the end of address space.
    fn end(&self, positions: usize) -> usize {
        let last = positions.saturating_sub(1).saturating_mul(self.stride);
        last.saturating_add(self.channel).saturating_add(self.width)
    }
}

impl Product<'_> {
    /// Block `b` alone.
    pub(in super::super) fn block(&self, b: usize) -> Self {
        let weights = self.offsets.len() * GROUP * LANES;
        Self {
            weights: &self.weights[b * weights..][..weights],
            bias: &self.bias[b * LANES..][..LANES],
            ..*self
        }
    }

    /// Asserts what the unchecked reads of `positions` positions by `blocks` blocks rely on.
    fn check(&self, positions: usize, blocks: usize) {
        let farthest = self.origins.iter().max().copied().unwrap_or(0);
        let reach = self.offsets.iter().max().copied().unwrap_or(0);
        let end = farthest.saturating_add(reach).saturating_add(GROUP);
        assert!(self.offsets.is_empty() || end <= self.plane.len());
        assert!(self.origins.len() >= padded(positions));
        assert!(self.weights.len() >= blocks * self.offsets.len() * GROUP * LANES);
        assert!(self.bias.len() >= blocks * LANES);
    }

    /// Accumulators, bias included. `K` groups of inputs at a time go to accumulators of their
    /// own: sixteen hide the latency of the instruction, and more positions than eight would need
    /// more addresses than there are registers.
    ///
    /// # Safety
    /// AVX-512 with VNNI; [`Self::check`] has passed for `B` blocks and `first` + [`TOGETHER`]
    /// positions.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn sums<const B: usize, const K: usize>(
        &self,
        first: usize,
    ) -> [[__m512i; TOGETHER]; B] {
        let block = self.offsets.len() * GROUP * LANES;
        // SAFETY: every read is inside the slices by the caller's promise; loads are unaligned ones.
        unsafe {
            let mut sums = [[[_mm512_setzero_si512(); TOGETHER]; B]; K];
            for b in 0..B {
                let bias = _mm512_loadu_si512(self.bias.as_ptr().add(b * LANES).cast());
                for p in 0..TOGETHER {
                    sums[0][b][p] = bias;
                }
            }
            let origins = self.origins.as_ptr().add(first);
            let mut x = [self.plane.as_ptr(); TOGETHER];
            for p in 0..TOGETHER {
                x[p] = x[p].add(*origins.add(p));
            }
            let mut w = self.weights.as_ptr();
            let (groups, rest) = self.offsets.as_chunks::<K>();
            for offsets in groups {
                for k in 0..K {
                    multiply(&mut sums[k], w, block, &x, offsets[k]);
                    w = w.add(GROUP * LANES);
                }
            }
            for &offset in rest {
                multiply(&mut sums[0], w, block, &x, offset);
                w = w.add(GROUP * LANES);
            }
            let mut total = sums[0];
            for k in 1..K {
                for b in 0..B {
                    for p in 0..TOGETHER {
                        total[b][p] = _mm512_add_epi32(total[b][p], sums[k][b][p]);
                    }
                }
            }
            total
        }
    }

    /// Outputs of `positions` positions by `B` blocks.
    ///
    /// # Safety
    /// The machine has AVX-512 with VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(in super::super) unsafe fn outputs<const B: usize, const K: usize>(
        &self,
        positions: usize,
        prepared: &Prepared,
        place: Place,
        out: &mut [i8],
    ) {
        self.check(positions, B);
        assert!(place.lane + B * LANES <= prepared.lanes());
        assert!(place.end(positions) <= out.len() && place.width <= B * LANES);
        let finish = Finish::of(prepared);
        for first in (0..positions).step_by(TOGETHER) {
            // SAFETY: checked above: reads by `check`, constants by `place.lane`, and no output is
            // written beyond the last position's last channel.
            unsafe {
                let sums = self.sums::<B, K>(first);
                for b in 0..B {
                    let lanes = Lanes::load(prepared, place.lane + b * LANES);
                    let width = place.width.saturating_sub(b * LANES).min(LANES);
                    let mask = ((1u32 << width) - 1) as __mmask16;
                    let to = out.as_mut_ptr().add(place.channel + b * LANES);
                    for four in 0..TOGETHER / 4 {
                        let mut scaled = [_mm512_setzero_si512(); 4];
                        for i in 0..4 {
                            scaled[i] = lanes.scale(sums[b][4 * four + i]);
                        }
                        let at = first + 4 * four;
                        let to = to.wrapping_add(at * place.stride);
                        let bytes = finish.pack_in_order(scaled);
                        let each = [
                            _mm512_castsi512_si128(bytes),
                            _mm512_extracti32x4_epi32(bytes, 1),
                            _mm512_extracti32x4_epi32(bytes, 2),
                            _mm512_extracti32x4_epi32(bytes, 3),
                        ];
                        if width == LANES && at + 4 <= positions {
                            for i in 0..4 {
                                _mm_storeu_si128(to.add(i * place.stride).cast(), each[i]);
                            }
                        } else {
                            for i in 0..4 {
                                if at + i < positions {
                                    _mm_mask_storeu_epi8(to.add(i * place.stride), mask, each[i]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    /// Accumulators of `positions` positions by one block.
    ///
    /// # Safety
    /// The machine has AVX-512 with VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(in super::super) unsafe fn accumulators(
        &self,
        positions: usize,
        place: Place,
        out: &mut [i32],
    ) {
        self.check(positions, 1);
        assert!(place.end(positions) <= out.len() && place.width <= LANES);
        let mask = ((1u32 << place.width) - 1) as __mmask16;
        for first in (0..positions).step_by(TOGETHER) {
            // SAFETY: checked above: reads by `check`, and no output is written beyond the last
            // position's last channel.
            unsafe {
                let sums = self.sums::<1, 2>(first);
                for p in 0..TOGETHER {
                    if first + p < positions {
                        let to = (first + p) * place.stride + place.channel;
                        _mm512_mask_storeu_epi32(out.as_mut_ptr().add(to), mask, sums[0][p]);
                    }
                }
            }
        }
    }
}

/// Adds the products of one group of inputs of each position, `offset` from `x`, and its weights of
/// each block, `block` apart from `w` on.
///
/// # Safety
/// AVX-512 with VNNI; the places read are within one allocation each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn multiply<const B: usize>(
    sums: &mut [[__m512i; TOGETHER]; B],
    w: *const i8,
    block: usize,
    x: &[*const u8; TOGETHER],
    offset: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut weights = [_mm512_setzero_si512(); B];
        for b in 0..B {
            weights[b] = _mm512_loadu_si512(w.add(b * block).cast());
        }
        for p in 0..TOGETHER {
            let inputs = x[p].add(offset).cast::<i32>().read_unaligned();
            let inputs = _mm512_set1_epi32(inputs);
            for b in 0..B {
                sums[b][p] = _mm512_dpbusd_epi32(sums[b][p], inputs, weights[b]);
            }
        }
    }
}
