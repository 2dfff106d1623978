//! Convolutions and fully connected layers: some positions by one or two vectors of channels.

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

/// Most positions that are computed together.
const MOST: usize = 16;

/// How many origins `positions` positions need.
pub(in super::super) fn padded(positions: usize) -> usize {
    positions.next_multiple_of(MOST)
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

    /// Accumulators, bias included. Sixteen of them hide the latency of the instruction.
    ///
    /// # Safety
    /// AVX-512 with VNNI; [`Self::check`] has passed for `B` blocks and `first + P` positions.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn sums<const B: usize, const P: usize>(&self, first: usize) -> [[__m512i; P]; B] {
        let block = self.offsets.len() * GROUP * LANES;
        // SAFETY: every read is inside the slices by the caller's promise; loads are unaligned ones.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); P]; B];
            for b in 0..B {
                let bias = _mm512_loadu_si512(self.bias.as_ptr().add(b * LANES).cast());
                for p in 0..P {
                    sums[b][p] = bias;
                }
            }
            let origins = self.origins.as_ptr().add(first);
            let mut x = [self.plane.as_ptr(); P];
            for p in 0..P {
                x[p] = x[p].add(*origins.add(p));
            }
            let mut w = self.weights.as_ptr();
            for &offset in self.offsets {
                let mut weights = [_mm512_setzero_si512(); B];
                for b in 0..B {
                    weights[b] = _mm512_loadu_si512(w.add(b * block).cast());
                }
                w = w.add(GROUP * LANES);
                for p in 0..P {
                    let inputs = x[p].add(offset).cast::<i32>().read_unaligned();
                    let inputs = _mm512_set1_epi32(inputs);
                    for b in 0..B {
                        sums[b][p] = _mm512_dpbusd_epi32(sums[b][p], inputs, weights[b]);
                    }
                }
            }
            sums
        }
    }

    /// Outputs of `positions` positions by `B` blocks, `P` positions at a time.
    ///
    /// # Safety
    /// The machine has AVX-512 with VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(in super::super) unsafe fn outputs<const B: usize, const P: usize>(
        &self,
        positions: usize,
        prepared: &Prepared,
        place: Place,
        out: &mut [i8],
    ) {
        const { assert!(P.is_multiple_of(4) && MOST.is_multiple_of(P)) };
        self.check(positions, B);
        assert!(place.lane + B * LANES <= prepared.lanes());
        assert!(place.end(positions) <= out.len() && place.width <= B * LANES);
        let finish = Finish::new(prepared);
        // Four lanes of each of four positions become sixteen lanes of each in turn.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        for first in (0..positions).step_by(P) {
            // SAFETY: checked above: reads by `check`, constants by `place.lane`, and no output is
            // written beyond the last position's last channel.
            unsafe {
                let sums = self.sums::<B, P>(first);
                for b in 0..B {
                    let lanes = Lanes::load(prepared, place.lane + b * LANES);
                    let width = place.width.saturating_sub(b * LANES).min(LANES);
                    let mask = ((1u32 << width) - 1) as __mmask16;
                    let to = out.as_mut_ptr().add(place.channel + b * LANES);
                    for four in 0..P / 4 {
                        let mut scaled = [_mm512_setzero_si512(); 4];
                        for i in 0..4 {
                            scaled[i] = lanes.scale(sums[b][4 * four + i]);
                        }
                        let at = first + 4 * four;
                        let to = to.wrapping_add(at * place.stride);
                        let bytes = _mm512_permutexvar_epi32(order, finish.pack(scaled));
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
        for first in (0..positions).step_by(MOST) {
            // SAFETY: checked above: reads by `check`, and no output is written beyond the last
            // position's last channel.
            unsafe {
                let sums = self.sums::<1, MOST>(first);
                for p in 0..MOST {
                    if first + p < positions {
                        let to = (first + p) * place.stride + place.channel;
                        _mm512_mask_storeu_epi32(out.as_mut_ptr().add(to), mask, sums[0][p]);
                    }
                }
            }
        }
    }
}
