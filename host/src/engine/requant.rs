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
    exponents: Vec<i8>,
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
            r.exponents[at] = linear.multipliers[c].exponent;
        }
        r
    }

    /// Outputs of a tile of accumulators, `[TILE][LANES]`, whose first lane is lane `at` of the
    /// constants: `count` positions of `width` channels, `stride` apart in `out`.
    pub(super) fn store<const LANES: usize>(
        &self,
        isa: Isa,
        at: usize,
        acc: &[[i32; LANES]],
        out: &mut [i8],
        (stride, width): (usize, usize),
    ) {
        match isa {
            Isa::Portable => self.store_inline(at, acc, out, stride, width),
            // SAFETY: an `Isa` other than `Portable` comes from detection on this machine.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { self.store_avx2(at, acc, out, stride, width) },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => unsafe { self.store_avx512(at, acc, out, stride, width) },
            #[cfg(not(target_arch = "x86_64"))]
            _ => self.store_inline(at, acc, out, stride, width),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn store_avx2<const LANES: usize>(
        &self,
        at: usize,
        acc: &[[i32; LANES]],
        out: &mut [i8],
        stride: usize,
        width: usize,
    ) {
        self.store_inline(at, acc, out, stride, width)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn store_avx512<const LANES: usize>(
        &self,
        at: usize,
        acc: &[[i32; LANES]],
        out: &mut [i8],
        stride: usize,
        width: usize,
    ) {
        self.store_inline(at, acc, out, stride, width)
    }

    #[inline(always)]
    fn store_inline<const LANES: usize>(
        &self,
        at: usize,
        acc: &[[i32; LANES]],
        out: &mut [i8],
        stride: usize,
        width: usize,
    ) {
        let multipliers = (lanes(&self.mantissas, at), lanes(&self.exponents, at));
        for (acc, out) in acc.iter().zip(out.chunks_mut(stride)) {
            let full = if self.single_rounding {
                self.finish_all(acc, multipliers, Multiplier::apply_single_rounding)
            } else {
                self.finish_all(acc, multipliers, Multiplier::apply)
            };
            out[..width].copy_from_slice(&full[..width]);
        }
    }

    /// All lanes, whether or not they are channels, so that the loop has a fixed length.
    #[inline(always)]
    fn finish_all<const LANES: usize>(
        &self,
        acc: &[i32; LANES],
        (mantissas, exponents): (&[i32; LANES], &[i8; LANES]),
        apply: impl Fn(Multiplier, i32) -> i32,
    ) -> [i8; LANES] {
        let mut out = [0; LANES];
        for lane in 0..LANES {
            let multiplier = Multiplier {
                mantissa: mantissas[lane],
                exponent: exponents[lane],
            };
            out[lane] = finish(
                apply(multiplier, acc[lane]),
                self.zero_point,
                self.act_min,
                self.act_max,
            );
        }
        out
    }
}

/// A block of constants, which are padded to whole blocks.
#[inline(always)]
fn lanes<T, const LANES: usize>(constants: &[T], at: usize) -> &[T; LANES] {
    constants[at..]
        .first_chunk()
        .expect("constants come in whole blocks of lanes")
}
