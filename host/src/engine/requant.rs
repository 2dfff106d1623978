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
        isa.vectorized(
            #[inline(always)]
            || self.store_inline(at, acc, out, stride, width),
        );
    }

    /// Makes the bias one for inputs counted from -128 instead of from the zero point.
    pub(super) fn fold(&mut self, linear: &Linear, groups: usize, lanes: usize, zero_point: i8) {
        let per_group = linear.out_channels() / groups;
        let padded = per_group.next_multiple_of(lanes);
        for c in 0..linear.out_channels() {
            let sum: i32 = linear.row(c).iter().map(|&w| w as i32).sum();
            let bias = &mut self.bias[c / per_group * padded + c % per_group];
            // The accumulator ends in range, so it does not matter whether this wraps.
            *bias = bias.wrapping_sub(sum.wrapping_mul(zero_point as i32 + 128));
        }
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
        // Copies, so that they are known not to change under the loop's writes.
        let mantissas = *lanes::<_, LANES>(&self.mantissas, at);
        let exponents = *lanes::<_, LANES>(&self.exponents, at);
        let (zero_point, act_min, act_max) = (self.zero_point, self.act_min, self.act_max);
        let single = self.single_rounding;
        let finish_all = |acc: &[i32; LANES]| {
            // All lanes, whether or not they are channels, so that the loop has a fixed length.
            let mut out = [0i8; LANES];
            for lane in 0..LANES {
                let multiplier = Multiplier {
                    mantissa: mantissas[lane],
                    exponent: exponents[lane],
                };
                let scaled = if single {
                    multiplier.apply_single_rounding(acc[lane])
                } else {
                    multiplier.apply(acc[lane])
                };
                out[lane] = finish(scaled, zero_point, act_min, act_max);
            }
            out
        };
        if width == LANES {
            // A copy of fixed length is one instruction.
            for (acc, out) in acc.iter().zip(out.chunks_mut(stride)) {
                let (first, _) = out.split_first_chunk_mut::<LANES>().expect("a block");
                *first = finish_all(acc);
            }
        } else {
            for (acc, out) in acc.iter().zip(out.chunks_mut(stride)) {
                out[..width].copy_from_slice(&finish_all(acc)[..width]);
            }
        }
    }
}

/// A block of constants, which are padded to whole blocks.
#[inline(always)]
fn lanes<T, const LANES: usize>(constants: &[T], at: usize) -> &[T; LANES] {
    constants[at..]
        .first_chunk()
        .expect("constants come in whole blocks of lanes")
}
