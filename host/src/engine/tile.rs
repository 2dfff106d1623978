//! The multiply-accumulate loops of convolutions and fully connected layers: `TILE` positions by
//! one vector of output channels.
//!
//! Weights lie as `[pair of taps][channel lane][2]` i16 (plain loops: `[pair][2][lane]`), so that one
//! instruction multiplies a broadcast pair of inputs with the pair of weights of every channel and
//! adds both products to the channel's i32 accumulator. No horizontal sums are needed and the accumulators come out in
//! the order of the output. A pair's sum is at most 2 * 255 * 128 and accumulators are bounded by
//! [`super::accumulator_bound`], so the order of summation does not show.

use super::isa::Isa;
use super::plane::SLACK;

/// Positions that one call computes.
pub(super) const TILE: usize = 8;

/// Most accumulators of a tile: `TILE` positions of at most 16 lanes.
pub(super) const MAX_ACC: usize = TILE * 16;

/// Consecutive inputs that meet consecutive weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// First input, from the position's origin in the plane.
    pub offset: usize,
    /// Pairs of inputs; where the number of inputs is odd the last weight is zero.
    pub pairs: usize,
}

/// All that a filter reads, in the order of its weights.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    list: Vec<Run>,
    pairs: usize,
    /// One past the last element read, from the position's origin.
    reach: usize,
}

impl Runs {
    pub(super) fn new(list: Vec<Run>) -> Self {
        let pairs = list.iter().map(|r| r.pairs).sum();
        let reach = list
            .iter()
            .map(|r| r.offset + 2 * r.pairs)
            .max()
            .unwrap_or(0);
        Self { list, pairs, reach }
    }

    /// Pairs of weights a channel.
    pub(super) fn pairs(&self) -> usize {
        self.pairs
    }
}

/// Operands of a tile.
pub(super) struct Tile<'a> {
    /// Widened inputs of all samples of a chunk.
    pub plane: &'a [i16],
    /// Where each position's inputs start in `plane`.
    pub origins: &'a [usize; TILE],
    /// The same for every position and channel.
    pub runs: &'a Runs,
    /// `[sum of pairs]`, two a lane within a pair as [`Isa::weight_place`] says.
    pub weights: &'a [i16],
    /// One per lane.
    pub bias: &'a [i32],
}

impl Tile<'_> {
    /// Writes accumulators, bias included, as `[position][lane]` with `isa.lanes()` lanes.
    pub(super) fn accumulate(&self, isa: Isa, acc: &mut [i32; MAX_ACC]) {
        let lanes = isa.lanes();
        let last = self.origins.iter().fold(0, |m, o| m.max(*o));
        // What the unchecked reads below rely on. A run's last odd element may lie one past the
        // plane's data, which is why planes end in `SLACK` zeros.
        const { assert!(SLACK >= 1) };
        assert!(last.saturating_add(self.runs.reach) <= self.plane.len());
        assert!(self.weights.len() >= self.runs.pairs * lanes * 2 && self.bias.len() >= lanes);
        match isa {
            Isa::Portable => self.portable(acc),
            // SAFETY: an `Isa` other than `Portable` comes from detection on this machine, and
            // every read is inside the slices by the assertions above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { self.avx2(acc) },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { self.avx512(acc) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => self.portable(acc),
        }
    }

    /// Position by position, so that eight accumulators stay in registers.
    fn portable(&self, acc: &mut [i32; MAX_ACC]) {
        const LANES: usize = 8;
        let (weights, _) = self.weights.as_chunks::<{ 2 * LANES }>();
        for (sums, &origin) in acc.as_chunks_mut::<LANES>().0.iter_mut().zip(self.origins) {
            let mut s = [0i32; LANES];
            s.copy_from_slice(&self.bias[..LANES]);
            let mut weights = weights;
            for run in &self.runs.list {
                let (inputs, _) =
                    self.plane[origin + run.offset..][..2 * run.pairs].as_chunks::<2>();
                let (of_run, rest) = weights.split_at(run.pairs);
                for (x, w) in inputs.iter().zip(of_run) {
                    for lane in 0..LANES {
                        s[lane] +=
                            x[0] as i32 * w[lane] as i32 + x[1] as i32 * w[LANES + lane] as i32;
                    }
                }
                weights = rest;
            }
            *sums = s;
        }
    }

    /// # Safety
    /// AVX2, and the bounds that [`Self::accumulate`] asserts.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    unsafe fn avx2(&self, acc: &mut [i32; MAX_ACC]) {
        use std::arch::x86_64::*;
        // SAFETY: see the function's contract; the loads are unaligned ones.
        unsafe {
            let mut sums = [_mm256_loadu_si256(self.bias.as_ptr().cast()); TILE];
            let mut w = self.weights.as_ptr();
            for run in &self.runs.list {
                let from = self.plane.as_ptr().add(run.offset);
                let x: [*const i16; TILE] = std::array::from_fn(|p| from.add(self.origins[p]));
                for pair in 0..run.pairs {
                    let weights = _mm256_loadu_si256(w.cast());
                    w = w.add(16);
                    for p in 0..TILE {
                        let inputs =
                            _mm256_set1_epi32(x[p].add(2 * pair).cast::<i32>().read_unaligned());
                        sums[p] = _mm256_add_epi32(sums[p], _mm256_madd_epi16(inputs, weights));
                    }
                }
            }
            for (p, s) in sums.iter().enumerate() {
                _mm256_storeu_si256(acc.as_mut_ptr().add(p * 8).cast(), *s);
            }
        }
    }

    /// # Safety
    /// AVX-512 with VNNI, and the bounds that [`Self::accumulate`] asserts.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn avx512(&self, acc: &mut [i32; MAX_ACC]) {
        use std::arch::x86_64::*;
        // SAFETY: see the function's contract; the loads are unaligned ones.
        unsafe {
            let mut sums = [_mm512_loadu_si512(self.bias.as_ptr().cast()); TILE];
            let mut w = self.weights.as_ptr();
            for run in &self.runs.list {
                let from = self.plane.as_ptr().add(run.offset);
                let x: [*const i16; TILE] = std::array::from_fn(|p| from.add(self.origins[p]));
                for pair in 0..run.pairs {
                    let weights = _mm512_loadu_si512(w.cast());
                    w = w.add(32);
                    for p in 0..TILE {
                        let inputs =
                            _mm512_set1_epi32(x[p].add(2 * pair).cast::<i32>().read_unaligned());
                        sums[p] = _mm512_dpwssd_epi32(sums[p], inputs, weights);
                    }
                }
            }
            for (p, s) in sums.iter().enumerate() {
                _mm512_storeu_si512(acc.as_mut_ptr().add(p * 16).cast(), *s);
            }
        }
    }
}
