//! The multiply-accumulate loops of convolutions and fully connected layers: some positions by one
//! or two vectors of output channels.
//!
//! Inputs come in groups of consecutive taps: pairs of i16 (Neon: quads), or quads of bytes with AVX-512 VNNI.
//! Weights lie as `[group][channel lane][tap]` (plain loops and Neon: `[group][tap][lane]`), so that one
//! instruction multiplies a broadcast group of inputs with the group of weights of every channel
//! and adds the products to the channel's i32 accumulator. No horizontal sums are needed and the
//! accumulators come out in the order of the output. A group's sum is far from overflow and whole
//! accumulators are bounded by [`super::accumulator_bound`], so the order of summation does not
//! show.

use super::plane::SLACK;

/// Positions of a tile.
pub(super) const POSITIONS: usize = 8;

/// Output channels of a block.
const LANES: usize = 8;

/// Accumulators of a tile.
pub(super) const MAX_ACC: usize = POSITIONS * LANES;

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

    /// Where each group of inputs starts, from the position's origin.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn offsets(&self) -> Vec<usize> {
        let of_run = |r: &Run| (0..r.groups).map(|i| r.offset + i * self.group).collect();
        self.list.iter().flat_map::<Vec<usize>, _>(of_run).collect()
    }

    /// Groups of weights a channel.
    pub(super) fn groups(&self) -> usize {
        self.groups
    }
}

/// Operands of a tile.
pub(super) struct Tile<'a> {
    /// Prepared inputs of all samples of a chunk.
    pub plane: &'a [i16],
    /// Where each position's inputs start in `plane`.
    pub origins: &'a [usize; POSITIONS],
    /// The same for every position and channel.
    pub runs: &'a Runs,
    /// `[block][group]`, the taps of a group as the instruction set wants them.
    pub weights: &'a [i16],
    /// One a lane.
    pub bias: &'a [i32],
}

impl Tile<'_> {
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

impl Tile<'_> {
    /// Accumulators, bias included, as `[position][8]`. Position by position, so that eight stay
    /// in registers.
    pub(super) fn portable(&self, acc: &mut [i32; MAX_ACC]) {
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

    /// Accumulators, bias included, as `[position][8]`. Sixteen vectors of sums stay in registers, and four
    /// weights a channel: 64 instructions multiply four taps.
    #[cfg(target_arch = "aarch64")]
    pub(super) fn neon(&self, acc: &mut [i32; MAX_ACC]) {
        use std::arch::aarch64::*;
        const TAPS: usize = 4;
        assert_eq!(self.runs.group, TAPS);
        self.check(LANES, 1);
        // SAFETY: every read is inside the slices by `check`; vectors may be loaded from any address, and every
        // AArch64 processor that runs this target has them.
        unsafe {
            let bias = self.bias.as_ptr();
            let bias = [vld1q_s32(bias), vld1q_s32(bias.add(4))];
            let mut sums = [bias; POSITIONS];
            let mut w = self.weights.as_ptr();
            for run in &self.runs.list {
                let from = self.plane.as_ptr().add(run.offset);
                let mut x: [*const i16; POSITIONS] =
                    std::array::from_fn(|p| from.add(self.origins[p]));
                for _ in 0..run.groups {
                    let weights: [int16x8_t; TAPS] =
                        std::array::from_fn(|t| vld1q_s16(w.add(t * LANES)));
                    w = w.add(TAPS * LANES);
                    for (x, [low, high]) in x.iter_mut().zip(&mut sums) {
                        let inputs = vld1_s16(*x);
                        *x = x.add(TAPS);
                        macro_rules! tap {
                            ($t:literal) => {
                                let half = vget_low_s16(weights[$t]);
                                *low = vmlal_lane_s16::<$t>(*low, half, inputs);
                                *high = vmlal_high_lane_s16::<$t>(*high, weights[$t], inputs);
                            };
                        }
                        tap!(0);
                        tap!(1);
                        tap!(2);
                        tap!(3);
                    }
                }
            }
            for (p, [low, high]) in sums.iter().enumerate() {
                let to = acc.as_mut_ptr().add(p * LANES);
                vst1q_s32(to, *low);
                vst1q_s32(to.add(4), *high);
            }
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
        self.check(LANES, 1);
        // SAFETY: every read is inside the slices by `check`; the loads are unaligned ones.
        unsafe {
            let mut sums = [_mm256_loadu_si256(self.bias.as_ptr().cast()); POSITIONS];
            let mut w = self.weights.as_ptr();
            for run in &self.runs.list {
                let from = self.plane.as_ptr().add(run.offset);
                let x: [*const i16; POSITIONS] = std::array::from_fn(|p| from.add(self.origins[p]));
                for pair in 0..run.groups {
                    let weights = _mm256_loadu_si256(w.cast());
                    w = w.add(2 * LANES);
                    for p in 0..POSITIONS {
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
