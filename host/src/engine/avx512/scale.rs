//! From accumulators to int8.

use std::arch::x86_64::*;

use qmend_shared::arith::PreparedMultiplier;

use super::super::requant::Prepared;
use super::LANES;

/// Constants of sixteen lanes.
#[derive(Clone, Copy)]
pub(super) struct Lanes {
    even: __m512i,
    odd: __m512i,
    half: __m512i,
    tie: __m512i,
    shift: __m512i,
}

impl Lanes {
    /// Those from lane `at` on.
    ///
    /// # Safety
    /// AVX-512, and `at + 16` lanes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) unsafe fn load(p: &Prepared, at: usize) -> Self {
        debug_assert!(at + LANES <= p.lanes());
        // SAFETY: the caller's promise; the loads are unaligned ones.
        unsafe {
            let even = _mm512_loadu_si512(p.mantissas.as_ptr().add(at).cast());
            Self {
                even,
                odd: _mm512_srli_epi64(even, 32),
                half: _mm512_loadu_si512(p.halves.as_ptr().add(at).cast()),
                tie: _mm512_loadu_si512(p.ties.as_ptr().add(at).cast()),
                shift: _mm512_loadu_si512(p.shifts.as_ptr().add(at).cast()),
            }
        }
    }

    /// The same for all lanes.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) fn all(m: PreparedMultiplier) -> Self {
        Self {
            even: _mm512_set1_epi32(m.mantissa),
            odd: _mm512_set1_epi32(m.mantissa),
            half: _mm512_set1_epi32(m.half),
            tie: _mm512_set1_epi32(m.tie),
            shift: _mm512_set1_epi32(m.shift),
        }
    }

    /// `PreparedMultiplier::apply` of sixteen accumulators: products of the even and the odd lanes
    /// in 64 bits, both rounded and put side by side again, then the shift.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) fn scale(&self, acc: __m512i) -> __m512i {
        let nudge = _mm512_set1_epi64(1 << 30);
        let even = _mm512_add_epi64(_mm512_mul_epi32(acc, self.even), nudge);
        let odd = _mm512_mul_epi32(_mm512_srli_epi64(acc, 32), self.odd);
        let odd = _mm512_add_epi64(odd, nudge);
        let (even, odd) = (_mm512_srli_epi64(even, 31), _mm512_slli_epi64(odd, 1));
        let high = _mm512_mask_blend_epi32(0xaaaa, even, odd);
        let away = _mm512_and_si512(_mm512_srai_epi32(high, 31), self.tie);
        let rounded = _mm512_add_epi32(_mm512_add_epi32(high, self.half), away);
        _mm512_srav_epi32(rounded, self.shift)
    }
}

/// Zero point and range of an operator's outputs.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    zero_point: __m512i,
    min: __m512i,
    max: __m512i,
}

impl Finish {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) fn new(zero_point: i8, min: i8, max: i8) -> Self {
        Self {
            zero_point: _mm512_set1_epi16(zero_point as i16),
            min: _mm512_set1_epi8(min),
            max: _mm512_set1_epi8(max),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) fn of(p: &Prepared) -> Self {
        Self::new(p.zero_point, p.act_min, p.act_max)
    }

    /// As [`Self::pack`], but all lanes of each vector in turn.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) fn pack_in_order(&self, scaled: [__m512i; 4]) -> __m512i {
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_permutexvar_epi32(order, self.pack(scaled))
    }

    /// Outputs of four vectors: each quarter of the result is four lanes of each vector in turn.
    /// Saturation to 16 and to 8 bits changes nothing, since the range is within 8.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(super) fn pack(&self, scaled: [__m512i; 4]) -> __m512i {
        let [a, b, c, d] = scaled;
        let ab = _mm512_adds_epi16(_mm512_packs_epi32(a, b), self.zero_point);
        let cd = _mm512_adds_epi16(_mm512_packs_epi32(c, d), self.zero_point);
        let bytes = _mm512_packs_epi16(ab, cd);
        _mm512_min_epi8(_mm512_max_epi8(bytes, self.min), self.max)
    }
}
