//! A row of a depthwise convolution.

use std::arch::x86_64::*;

use super::super::requant::Prepared;
use super::scale::{Finish, Lanes};
use super::{BLOCK, GROUP, LANES};

/// Where the inputs of each tap start.
#[derive(Clone, Debug)]
pub(in super::super) struct Taps {
    groups: Vec<[usize; GROUP]>,
    reach: usize,
}

impl Taps {
    /// Offsets are from the first tap; a last group that is not full reads the first input.
    pub(in super::super) fn new(offsets: &[usize]) -> Self {
        let group = |c: &[usize]| std::array::from_fn(|i| c.get(i).copied().unwrap_or(0));
        Self {
            groups: offsets.chunks(GROUP).map(group).collect(),
            reach: offsets.iter().max().copied().unwrap_or(0),
        }
    }

    /// Groups of taps.
    pub(in super::super) fn groups(&self) -> usize {
        self.groups.len()
    }
}

/// Operands of one row of a depthwise convolution: see [`super::super::depthwise_flat`].
pub(in super::super) struct Row<'a> {
    /// Prepared inputs, from the row's first tap on.
    pub x: &'a [u8],
    pub taps: &'a Taps,
    /// `[block of the period][group of taps][quarter][lane][tap]`
    pub weights: &'a [i8],
    /// `[block of the period][quarter][lane]`
    pub bias: &'a [i32],
}

impl Row<'_> {
    /// Asserts what unchecked reads of `length` outputs rely on; gives the blocks of a period.
    fn check(&self, length: usize) -> usize {
        let period = self.bias.len() / BLOCK;
        assert!(period > 0 && self.bias.len() == period * BLOCK);
        assert!(self.weights.len() == period * self.taps.groups() * GROUP * BLOCK);
        assert!(
            self.taps
                .reach
                .saturating_add(length.next_multiple_of(BLOCK))
                <= self.x.len()
        );
        period
    }

    /// Accumulators of the 64 outputs from `at` on, block `block` of the period.
    ///
    /// # Safety
    /// AVX-512 with VNNI; [`Self::check`] has passed for `at + 64` outputs and `block` is below what
    /// it gave.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    unsafe fn block(&self, at: usize, block: usize) -> [__m512i; 4] {
        // SAFETY: every read is inside the slices by the caller's promise; loads are unaligned ones.
        unsafe {
            let bias = self.bias.as_ptr().add(block * BLOCK);
            let mut acc = [_mm512_setzero_si512(); 4];
            for (q, acc) in acc.iter_mut().enumerate() {
                *acc = _mm512_loadu_si512(bias.add(q * LANES).cast());
            }
            let mut w = self
                .weights
                .as_ptr()
                .add(block * self.taps.groups() * GROUP * BLOCK);
            let x = self.x.as_ptr().add(at);
            for taps in &self.taps.groups {
                let a = _mm512_loadu_si512(x.add(taps[0]).cast());
                let b = _mm512_loadu_si512(x.add(taps[1]).cast());
                let c = _mm512_loadu_si512(x.add(taps[2]).cast());
                let d = _mm512_loadu_si512(x.add(taps[3]).cast());
                let (ab, cd) = (_mm512_unpacklo_epi8(a, b), _mm512_unpacklo_epi8(c, d));
                let (ef, gh) = (_mm512_unpackhi_epi8(a, b), _mm512_unpackhi_epi8(c, d));
                let inputs = [
                    _mm512_unpacklo_epi16(ab, cd),
                    _mm512_unpackhi_epi16(ab, cd),
                    _mm512_unpacklo_epi16(ef, gh),
                    _mm512_unpackhi_epi16(ef, gh),
                ];
                for (q, inputs) in inputs.into_iter().enumerate() {
                    let weights = _mm512_loadu_si512(w.add(q * BLOCK).cast());
                    acc[q] = _mm512_dpbusd_epi32(acc[q], inputs, weights);
                }
                w = w.add(GROUP * BLOCK);
            }
            acc
        }
    }

    /// Outputs of a row.
    ///
    /// # Safety
    /// The machine has AVX-512 with VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(in super::super) unsafe fn outputs(&self, p: &Prepared, out: &mut [i8]) {
        let period = self.check(out.len());
        assert!(p.lanes() == self.bias.len());
        let finish = Finish::of(p);
        let mut block = 0;
        for at in (0..out.len()).step_by(BLOCK) {
            // SAFETY: checked above; `block` stays below the period, whose lanes `p` has; the store
            // is within `out`.
            unsafe {
                let acc = self.block(at, block);
                let scaled =
                    [0, 1, 2, 3].map(|q| Lanes::load(p, block * BLOCK + q * LANES).scale(acc[q]));
                let bytes = finish.pack(scaled);
                let to = out.as_mut_ptr().add(at);
                if out.len() - at >= BLOCK {
                    _mm512_storeu_si512(to.cast(), bytes);
                } else {
                    _mm512_mask_storeu_epi8(to, (1u64 << (out.len() - at)) - 1, bytes);
                }
            }
            block += 1;
            if block == period {
                block = 0;
            }
        }
    }

    /// Accumulators of a row, in the order of the outputs.
    ///
    /// # Safety
    /// The machine has AVX-512 with VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(in super::super) unsafe fn accumulators(&self, out: &mut [i32]) {
        let period = self.check(out.len());
        let mut buffer = [0i32; BLOCK];
        for (i, out) in out.chunks_mut(BLOCK).enumerate() {
            // SAFETY: checked above; the buffer is four vectors.
            unsafe {
                for (q, acc) in self.block(i * BLOCK, i % period).into_iter().enumerate() {
                    _mm512_storeu_si512(buffer.as_mut_ptr().add(q * LANES).cast(), acc);
                }
            }
            for (place, out) in out.iter_mut().enumerate() {
                *out = buffer[lane_of(place)];
            }
        }
    }
}

/// Where the accumulator of byte `place` of a block is among its four vectors: interleaving works
/// within quarters of a vector, so each vector has four neighbours of each quarter.
pub(in super::super) fn lane_of(place: usize) -> usize {
    let (quarter, vector, lane) = (place / 16, place % 16 / 4, place % 4);
    vector * LANES + quarter * 4 + lane
}
