//! Element-wise sums.

use std::arch::x86_64::*;

use qmend_shared::arith::{Multiplier, PreparedMultiplier};
use qmend_shared::kernels::AddParams;

use super::scale::{Finish, Lanes};
use super::{BLOCK, LANES};

/// A sum whose three multipliers could be made ready.
pub(in super::super) struct Sum<'a> {
    params: &'a AddParams,
    inputs: [PreparedMultiplier; 2],
    output: PreparedMultiplier,
}

impl<'a> Sum<'a> {
    /// Nothing where a multiplier shifts left.
    pub(in super::super) fn new(params: &'a AddParams) -> Option<Self> {
        // The largest difference of two bytes, shifted as the definition does.
        let most = 255i64 << AddParams::LEFT_SHIFT;
        let input = |m: Multiplier| PreparedMultiplier::new(m, most);
        let [a, b] = params.input_multipliers;
        Some(Self {
            params,
            inputs: [input(a)?, input(b)?],
            output: PreparedMultiplier::new(params.output_multiplier, 2 * most)?,
        })
    }

    /// Sums of as many pairs as `out` has places.
    ///
    /// # Safety
    /// The machine has AVX-512 with VNNI.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    pub(in super::super) unsafe fn run(&self, a: &[i8], b: &[i8], out: &mut [i8]) {
        assert!(a.len() >= out.len() && b.len() >= out.len());
        let p = self.params;
        let multipliers = [Lanes::all(self.inputs[0]), Lanes::all(self.inputs[1])];
        let output = Lanes::all(self.output);
        let finish = Finish::new(p.output_zero_point, p.act_min, p.act_max);
        let zero = [
            _mm512_set1_epi32(p.input_zero_points[0] as i32),
            _mm512_set1_epi32(p.input_zero_points[1] as i32),
        ];
        for at in (0..out.len()).step_by(BLOCK) {
            let left = out.len() - at;
            let mask = if left < BLOCK {
                (1u64 << left) - 1
            } else {
                u64::MAX
            };
            let mut sums = [_mm512_setzero_si512(); 4];
            // SAFETY: masked parts, as long as `out` at most, are not touched.
            unsafe {
                for (i, x) in [a, b].into_iter().enumerate() {
                    let x = x.as_ptr().add(at);
                    for (q, sum) in sums.iter_mut().enumerate() {
                        let mask = (mask >> (q * LANES)) as __mmask16;
                        let x = _mm_maskz_loadu_epi8(mask, x.wrapping_add(q * LANES));
                        let difference = _mm512_sub_epi32(_mm512_cvtepi8_epi32(x), zero[i]);
                        let shifted = _mm512_slli_epi32(difference, AddParams::LEFT_SHIFT);
                        *sum = _mm512_add_epi32(*sum, multipliers[i].scale(shifted));
                    }
                }
                for sum in &mut sums {
                    *sum = output.scale(*sum);
                }
                let bytes = finish.pack_in_order(sums);
                _mm512_mask_storeu_epi8(out.as_mut_ptr().add(at), mask, bytes);
            }
        }
    }
}
