//! The multiply-accumulate loops of convolutions and fully connected layers: some positions by one
//! or two vectors of output channels.
//!
//! Inputs come in groups of consecutive taps: pairs of i16, or quads of bytes with AVX-512 VNNI.
//! Weights lie as `[group][channel lane][tap]` (plain loops: `[group][tap][lane]`), so that one
//! instruction multiplies a broadcast group of inputs with the group of weights of every channel
//! and adds the products to the channel's i32 accumulator. No horizontal sums are needed and the
//! accumulators come out in the order of the output. A group's sum is far from overflow and whole
//! accumulators are bounded by [`super::accumulator_bound`], so the order of summation does not
//! show.

use super::plane::SLACK;

/// Most accumulators that one call computes.
pub(super) const MAX_ACC: usize = 16 * 16;

/// Consecutive inputs that meet consecutive weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// First input, from the position's origin in the plane.
    pub offset: usize,
    /// Groups of inputs; where the number of inputs is no multiple the last weights are zero.
    pub groups: usize,
}

/// All that a filter reads, in the order of its weights.
#[derive(Clone, Debug)]
pub(super) struct Runs {
    list: Vec<Run>,
    /// Taps a group.
    group: usize,
    groups: usize,
    /// One past the last element read, from the position's origin.
    reach: usize,
}

impl Runs {
    pub(super) fn new(list: Vec<Run>, group: usize) -> Self {
        let groups = list.iter().map(|r| r.groups).sum();
        let reach = list.iter().map(|r| r.offset + group * r.groups).max();
        Self {
            list,
            group,
            groups,
            reach: reach.unwrap_or(0),
        }
    }

    /// Groups of weights a channel.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }
}

/// Operands of a tile of `P` positions. `X` and `W` are the elements of inputs and weights.
pub(super) struct Tile<'a, X, W, const P: usize> {
    /// Prepared inputs of all samples of a chunk.
    pub plane: &'a [X],
    /// Where each position's inputs start in `plane`.
    pub origins: &'a [usize; P],
    /// The same for every position and channel.
    pub runs: &'a Runs,
    /// `[block][group]`, the taps of a group as the instruction set wants them.
    pub weights: &'a [W],
    /// One a lane.
    pub bias: &'a [i32],
}

impl<X, W, const P: usize> Tile<'_, X, W, P> {
    /// What the unchecked reads of the loops below rely on.
    fn check(&self, lanes: usize, blocks: usize) {
        let last = self.origins.iter().fold(0, |m, o| m.max(*o));
        // A run's last group may end past the plane's data, which is why planes end in `SLACK`.
        assert!(self.runs.group <= SLACK);
        assert!(last.saturating_add(self.runs.reach) <= self.plane.len());
        assert!(self.weights.len() >= blocks * self.runs.groups * lanes * self.runs.group);
        assert!(self.bias.len() >= blocks * lanes);
    }
}

impl<const P: usize> Tile<'_, i16, i16, P> {
    /// Accumulators, bias included, as `[position][8]`. Position by position, so that eight stay
    /// in registers.
    pub(super) fn portable(&self, acc: &mut [i32; MAX_ACC]) {
        const LANES: usize = 8;
        let (weights, _) = self.weights.as_chunks::<{ 2 * LANES }>();
        for (sums, &origin) in acc.as_chunks_mut::<LANES>().0.iter_mut().zip(self.origins) {
            let mut s = [0i32; LANES];
            s.copy_from_slice(&self.bias[..LANES]);
            let mut weights = weights;
            for run in &self.runs.list {
                let (inputs, _) =
                    self.plane[origin + run.offset..][..2 * run.groups].as_chunks::<2>();
                let (of_run, rest) = weights.split_at(run.groups);
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

    /// Accumulators, bias included, as `[position][8]`.
    ///
    /// # Safety
    /// The machine has AVX2.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2(&self, acc: &mut [i32; MAX_ACC]) {
        use std::arch::x86_64::*;
        const LANES: usize = 8;
        const { assert!(P * LANES <= MAX_ACC) };
        self.check(LANES, 1);
        // SAFETY: every read is inside the slices by `check`; the loads are unaligned ones.
        unsafe {
            let mut sums = [_mm256_loadu_si256(self.bias.as_ptr().cast()); P];
            let mut w = self.weights.as_ptr();
            for run in &self.runs.list {
                let from = self.plane.as_ptr().add(run.offset);
                let x: [*const i16; P] = std::array::from_fn(|p| from.add(self.origins[p]));
                for pair in 0..run.groups {
                    let weights = _mm256_loadu_si256(w.cast());
                    w = w.add(2 * LANES);
                    for p in 0..P {
                        let inputs =
                            _mm256_set1_epi32(x[p].add(2 * pair).cast::<i32>().read_unaligned());
                        sums[p] = _mm256_add_epi32(sums[p], _mm256_madd_epi16(inputs, weights));
                    }
                }
            }
            for (p, s) in sums.iter().enumerate() {
                _mm256_storeu_si256(acc.as_mut_ptr().add(p * LANES).cast(), *s);
            }
        }
    }
}

impl<const P: usize> Tile<'_, u8, i8, P> {
    /// Accumulators of `B` blocks, bias included, as `[block][position][16]`.
    ///
    /// Sixteen accumulators hide the latency of the instruction.
    ///
    /// # Safety
    /// The machine has AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn vnni<const B: usize>(&self, acc: &mut [i32; MAX_ACC]) {
        use std::arch::x86_64::*;
        const LANES: usize = 16;
        const { assert!(B * P * LANES <= MAX_ACC) };
        self.check(LANES, B);
        let block = self.runs.groups * 4 * LANES;
        // SAFETY: every read is inside the slices by `check`; the loads are unaligned ones.
        unsafe {
            let mut sums = [[_mm512_setzero_si512(); P]; B];
            for (b, sums) in sums.iter_mut().enumerate() {
                *sums = [_mm512_loadu_si512(self.bias.as_ptr().add(b * LANES).cast()); P];
            }
            let mut w = self.weights.as_ptr();
            for run in &self.runs.list {
                let from = self.plane.as_ptr().add(run.offset);
                let x: [*const u8; P] = std::array::from_fn(|p| from.add(self.origins[p]));
                for quad in 0..run.groups {
                    let mut weights = [_mm512_setzero_si512(); B];
                    for (b, weights) in weights.iter_mut().enumerate() {
                        *weights = _mm512_loadu_si512(w.add(b * block).cast());
                    }
                    w = w.add(4 * LANES);
                    for p in 0..P {
                        let inputs =
                            _mm512_set1_epi32(x[p].add(4 * quad).cast::<i32>().read_unaligned());
                        for b in 0..B {
                            sums[b][p] = _mm512_dpbusd_epi32(sums[b][p], inputs, weights[b]);
                        }
                    }
                }
            }
            for (i, s) in sums.iter().flatten().enumerate() {
                _mm512_storeu_si512(acc.as_mut_ptr().add(i * LANES).cast(), *s);
            }
        }
    }
}
