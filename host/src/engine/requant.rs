//! From accumulators to int8, with the arithmetic of `qmend_shared::arith`.

use qmend_shared::arith::PreparedMultiplier;
use qmend_shared::image::finish;

use super::bound::accumulator_bound;
use super::isa::Isa;
use crate::model::{Linear, Multiplier};

/// Per-channel constants in the order of the accumulators' lanes: blocks of `lanes` channels,
/// each group's last block filled up with zeros.
#[derive(Clone, Debug)]
pub(super) struct Requant {
    pub bias: Vec<i32>,
    scaling: Scaling,
    zero_point: i8,
    act_min: i8,
    act_max: i8,
}

/// How accumulators are scaled.
#[derive(Clone, Debug)]
enum Scaling {
    /// Every channel's multiplier could be made ready for its accumulators' bound.
    Prepared {
        mantissas: Vec<i32>,
        halves: Vec<i32>,
        ties: Vec<i32>,
        shifts: Vec<i32>,
    },
    /// Any multiplier, by the definition.
    Any {
        mantissas: Vec<i32>,
        exponents: Vec<i8>,
        /// LiteRT's fully connected rounds once.
        single_rounding: bool,
    },
}

/// Which lane of the constants a channel has.
#[derive(Clone, Copy, Debug)]
struct Lanes {
    per_group: usize,
    padded: usize,
}

impl Lanes {
    fn new(linear: &Linear, groups: usize, lanes: usize) -> Self {
        let per_group = linear.out_channels() / groups;
        Self {
            per_group,
            padded: per_group.next_multiple_of(lanes),
        }
    }

    /// Numbers of all channels at their lanes.
    fn spread<T: Copy + Default>(self, channels: impl ExactSizeIterator<Item = T>) -> Vec<T> {
        let mut spread = vec![T::default(); channels.len() / self.per_group * self.padded];
        for (c, v) in channels.enumerate() {
            spread[c / self.per_group * self.padded + c % self.per_group] = v;
        }
        spread
    }
}

impl Requant {
    /// For inputs counted from the zero point `zx`.
    pub(super) fn new(
        linear: &Linear,
        (groups, lanes): (usize, usize),
        (zx, zy): (i8, i8),
        single_rounding: bool,
    ) -> Self {
        let lanes = Lanes::new(linear, groups, lanes);
        let multipliers = &linear.multipliers;
        let prepared: Option<Vec<PreparedMultiplier>> = (0..linear.out_channels())
            .map(|c| {
                let bound = accumulator_bound(linear.row(c), linear.bias[c], zx);
                PreparedMultiplier::new(multipliers[c], bound)
            })
            .collect();
        let scaling = match prepared {
            Some(p) if !single_rounding => Scaling::Prepared {
                mantissas: lanes.spread(p.iter().map(|p| p.mantissa)),
                halves: lanes.spread(p.iter().map(|p| p.half)),
                ties: lanes.spread(p.iter().map(|p| p.tie)),
                shifts: lanes.spread(p.iter().map(|p| p.shift)),
            },
            _ => Scaling::Any {
                mantissas: lanes.spread(multipliers.iter().map(|m| m.mantissa)),
                exponents: lanes.spread(multipliers.iter().map(|m| m.exponent)),
                single_rounding,
            },
        };
        Self {
            bias: lanes.spread(linear.bias.iter().copied()),
            scaling,
            zero_point: zy,
            act_min: linear.act_min,
            act_max: linear.act_max,
        }
    }

    /// As [`Self::new`], but for inputs counted from -128: the zero point goes into the bias.
    pub(super) fn from_minimum(
        linear: &Linear,
        (groups, lanes): (usize, usize),
        (zx, zy): (i8, i8),
        single_rounding: bool,
    ) -> Self {
        let mut r = Self::new(linear, (groups, lanes), (zx, zy), single_rounding);
        r.bias = Lanes::new(linear, groups, lanes).spread((0..linear.out_channels()).map(|c| {
            let sum: i32 = linear.row(c).iter().map(|&w| w as i32).sum();
            // The accumulator ends in range, so it does not matter whether this wraps.
            linear.bias[c].wrapping_sub(sum.wrapping_mul(zx as i32 + 128))
        }));
        r
    }

    /// Outputs of a tile of accumulators, `[position][LANES]`, whose first lane is lane `at` of the
    /// constants: positions of `width` channels, `stride` apart in `out`.
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

    #[inline(always)]
    fn store_inline<const LANES: usize>(
        &self,
        at: usize,
        acc: &[[i32; LANES]],
        out: &mut [i8],
        stride: usize,
        width: usize,
    ) {
        let (zero_point, act_min, act_max) = (self.zero_point, self.act_min, self.act_max);
        // Constants are copied, so that they are known not to change under the loop's writes. All
        // lanes are computed, whether or not they are channels, so that loops have fixed lengths.
        match &self.scaling {
            Scaling::Prepared {
                mantissas,
                halves,
                ties,
                shifts,
            } => {
                let [mantissas, halves, ties, shifts] =
                    [mantissas, halves, ties, shifts].map(|v| *lanes::<_, LANES>(v, at));
                each(acc, out, stride, width, |acc: &[i32; LANES]| {
                    let mut out = [0i8; LANES];
                    for lane in 0..LANES {
                        let multiplier = PreparedMultiplier {
                            mantissa: mantissas[lane],
                            half: halves[lane],
                            tie: ties[lane],
                            shift: shifts[lane],
                        };
                        // Preparing left room for the zero point.
                        let y = multiplier.apply(acc[lane]) + zero_point as i32;
                        out[lane] = y.max(act_min as i32).min(act_max as i32) as i8;
                    }
                    out
                });
            }
            Scaling::Any {
                mantissas,
                exponents,
                single_rounding,
            } => {
                let mantissas = *lanes::<_, LANES>(mantissas, at);
                let exponents = *lanes::<_, LANES>(exponents, at);
                each(acc, out, stride, width, |acc: &[i32; LANES]| {
                    let mut out = [0i8; LANES];
                    for lane in 0..LANES {
                        let multiplier = Multiplier {
                            mantissa: mantissas[lane],
                            exponent: exponents[lane],
                        };
                        let scaled = if *single_rounding {
                            multiplier.apply_single_rounding(acc[lane])
                        } else {
                            multiplier.apply(acc[lane])
                        };
                        out[lane] = finish(scaled, zero_point, act_min, act_max);
                    }
                    out
                });
            }
        }
    }
}

/// Writes the first `width` outputs of each position.
#[inline(always)]
fn each<const LANES: usize>(
    acc: &[[i32; LANES]],
    out: &mut [i8],
    stride: usize,
    width: usize,
    outputs: impl Fn(&[i32; LANES]) -> [i8; LANES],
) {
    if width == LANES {
        // A copy of fixed length is one instruction.
        for (acc, out) in acc.iter().zip(out.chunks_mut(stride)) {
            let (first, _) = out.split_first_chunk_mut::<LANES>().expect("a block");
            *first = outputs(acc);
        }
    } else {
        for (acc, out) in acc.iter().zip(out.chunks_mut(stride)) {
            out[..width].copy_from_slice(&outputs(acc)[..width]);
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
