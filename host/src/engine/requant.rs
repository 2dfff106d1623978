//! From accumulators to int8, with the arithmetic of `qmend_shared::arith`.

use qmend_shared::image::finish;

use super::isa::Isa;
use crate::model::{Linear, Multiplier};

/// Per-channel constants in the order of the accumulators' lanes: blocks of `lanes` channels,
/// each group's last block filled up with zeros.
#[derive(Clone, Debug)]
pub(super) struct Requant {
    pub bias: Vec<i32>,
    mantissas: Vec<i32>,
    exponents: Vec<i32>,
    zero_point: i8,
    act_min: i8,
    act_max: i8,
    /// LiteRT's fully connected rounds once.
    single_rounding: bool,
}

impl Requant {
    pub(super) fn new(
        linear: &Linear,
        groups: usize,
        lanes: usize,
        output_zero_point: i8,
        single_rounding: bool,
    ) -> Self {
        let per_group = linear.out_channels() / groups;
        let padded = per_group.next_multiple_of(lanes);
        let mut r = Self {
            bias: vec![0; groups * padded],
            mantissas: vec![0; groups * padded],
            exponents: vec![0; groups * padded],
            zero_point: output_zero_point,
            act_min: linear.act_min,
            act_max: linear.act_max,
            single_rounding,
        };
        for c in 0..linear.out_channels() {
            let at = c / per_group * padded + c % per_group;
            r.bias[at] = linear.bias[c];
            r.mantissas[at] = linear.multipliers[c].mantissa;
            r.exponents[at] = linear.multipliers[c].exponent as i32;
        }
        r
    }

    /// Outputs of accumulators whose first lane is lane `at` of the constants.
    pub(super) fn store(&self, isa: Isa, at: usize, acc: &[i32], out: &mut [i8]) {
        match isa {
            Isa::Portable => self.store_inline(at, acc, out),
            // SAFETY: an `Isa` other than `Portable` comes from detection on this machine.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { self.store_avx2(at, acc, out) },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { self.store_avx512(at, acc, out) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => self.store_inline(at, acc, out),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn store_avx2(&self, at: usize, acc: &[i32], out: &mut [i8]) {
        self.store_inline(at, acc, out)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn store_avx512(&self, at: usize, acc: &[i32], out: &mut [i8]) {
        self.store_inline(at, acc, out)
    }

    #[inline(always)]
    fn store_inline(&self, at: usize, acc: &[i32], out: &mut [i8]) {
        if self.single_rounding {
            self.store_with(at, acc, out, Multiplier::apply_single_rounding)
        } else {
            self.store_with(at, acc, out, Multiplier::apply)
        }
    }

    #[inline(always)]
    fn store_with(&self, at: usize, acc: &[i32], out: &mut [i8], apply: impl Fn(Multiplier, i32) -> i32) {
        let n = out.len();
        let (mantissas, exponents) = (&self.mantissas[at..at + n], &self.exponents[at..at + n]);
        for (((o, &a), &mantissa), &exponent) in out.iter_mut().zip(&acc[..n]).zip(mantissas).zip(exponents) {
            let scaled = apply(Multiplier { mantissa, exponent: exponent as i8 }, a);
            *o = finish(scaled, self.zero_point, self.act_min, self.act_max);
        }
    }
}
