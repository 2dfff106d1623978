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

/// Fields of each lane's [`PreparedMultiplier`], and what outputs are made of besides.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub mantissas: Vec<i32>,
    pub halves: Vec<i32>,
    pub ties: Vec<i32>,
    pub shifts: Vec<i32>,
    pub zero_point: i8,
    pub act_min: i8,
    pub act_max: i8,
}

impl Prepared {
    fn lane(&self, lane: usize) -> PreparedMultiplier {
        PreparedMultiplier {
            mantissa: self.mantissas[lane],
            half: self.halves[lane],
            tie: self.ties[lane],
            shift: self.shifts[lane],
        }
    }

    /// How many lanes every field has.
    pub(super) fn lanes(&self) -> usize {
        let n = self.mantissas.len();
        n.min(self.halves.len())
            .min(self.ties.len())
            .min(self.shifts.len())
    }
}

/// How accumulators are scaled.
#[derive(Clone, Debug)]
enum Scaling {
    /// Every channel's multiplier could be made ready for its accumulators' bound.
    Prepared(Prepared),
    /// Any multiplier, by the definition.
    Any {
        mantissas: Vec<i32>,
        exponents: Vec<i8>,
        /// LiteRT's fully connected rounds once.
        single_rounding: bool,
    },
}

/// The channel of each lane of the constants: blocks of `lanes` channels, each group's last one
/// filled up.
fn in_blocks(channels: usize, groups: usize, lanes: usize) -> Vec<Option<usize>> {
    let per_group = channels / groups;
    let padded = per_group.next_multiple_of(lanes);
    let lane = |i: usize| {
        let (group, within) = (i / padded, i % padded);
        (within < per_group).then_some(group * per_group + within)
    };
    (0..groups * padded).map(lane).collect()
}

/// Numbers of channels at their lanes.
fn spread<T: Copy + Default>(channel_of: &[Option<usize>], of: impl Fn(usize) -> T) -> Vec<T> {
    let at = |c: &Option<usize>| c.map_or(T::default(), &of);
    channel_of.iter().map(at).collect()
}

impl Requant {
    /// For inputs counted from the zero point `zx`.
    pub(super) fn new(
        linear: &Linear,
        (groups, lanes): (usize, usize),
        zero_points: (i8, i8),
        single_rounding: bool,
    ) -> Self {
        let channel_of = in_blocks(linear.out_channels(), groups, lanes);
        Self::with_lanes(linear, &channel_of, zero_points, single_rounding)
    }

    fn with_lanes(
        linear: &Linear,
        channel_of: &[Option<usize>],
        (zx, zy): (i8, i8),
        single_rounding: bool,
    ) -> Self {
        let multipliers = &linear.multipliers;
        let prepared: Option<Vec<PreparedMultiplier>> = (0..linear.out_channels())
            .map(|c| {
                let bound = accumulator_bound(linear.row(c), linear.bias[c], zx);
                PreparedMultiplier::new(multipliers[c], bound)
            })
            .collect();
        let (act_min, act_max) = (linear.act_min, linear.act_max);
        let scaling = match prepared {
            Some(p) if !single_rounding => Scaling::Prepared(Prepared {
                mantissas: spread(channel_of, |c| p[c].mantissa),
                halves: spread(channel_of, |c| p[c].half),
                ties: spread(channel_of, |c| p[c].tie),
                shifts: spread(channel_of, |c| p[c].shift),
                zero_point: zy,
                act_min,
                act_max,
            }),
            _ => Scaling::Any {
                mantissas: spread(channel_of, |c| multipliers[c].mantissa),
                exponents: spread(channel_of, |c| multipliers[c].exponent),
                single_rounding,
            },
        };
        Self {
            bias: spread(channel_of, |c| linear.bias[c]),
            scaling,
            zero_point: zy,
            act_min,
            act_max,
        }
    }

    /// As [`Self::new`], but for inputs counted from -128: the zero point goes into the bias.
    pub(super) fn from_minimum(
        linear: &Linear,
        (groups, lanes): (usize, usize),
        zero_points: (i8, i8),
        single_rounding: bool,
    ) -> Self {
        let channel_of = in_blocks(linear.out_channels(), groups, lanes);
        Self::from_minimum_with_lanes(linear, &channel_of, zero_points, single_rounding)
    }

    /// As [`Self::from_minimum`], with two roundings, for lanes that belong to any channels.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn at_lanes(
        linear: &Linear,
        channel_of: &[Option<usize>],
        zero_points: (i8, i8),
    ) -> Self {
        Self::from_minimum_with_lanes(linear, channel_of, zero_points, false)
    }

    fn from_minimum_with_lanes(
        linear: &Linear,
        channel_of: &[Option<usize>],
        (zx, zy): (i8, i8),
        single_rounding: bool,
    ) -> Self {
        let mut r = Self::with_lanes(linear, channel_of, (zx, zy), single_rounding);
        let bias: Vec<i32> = (0..linear.out_channels())
            .map(|c| {
                let sum: i32 = linear.row(c).iter().map(|&w| w as i32).sum();
                // The accumulator ends in range, so it does not matter whether this wraps.
                linear.bias[c].wrapping_sub(sum.wrapping_mul(zx as i32 + 128))
            })
            .collect();
        r.bias = spread(channel_of, |c| bias[c]);
        r
    }

    /// Constants for hand-written loops, if all multipliers could be made ready.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn prepared(&self) -> Option<&Prepared> {
        match &self.scaling {
            Scaling::Prepared(p) => Some(p),
            Scaling::Any { .. } => None,
        }
    }

    /// The output of one accumulator of lane `lane`.
    pub(super) fn one(&self, lane: usize, acc: i32) -> i8 {
        let scaled = match &self.scaling {
            Scaling::Prepared(p) => p.lane(lane).apply(acc),
            Scaling::Any {
                mantissas,
                exponents,
                single_rounding,
            } => {
                let multiplier = Multiplier {
                    mantissa: mantissas[lane],
                    exponent: exponents[lane],
                };
                if *single_rounding {
                    multiplier.apply_single_rounding(acc)
                } else {
                    multiplier.apply(acc)
                }
            }
        };
        finish(scaled, self.zero_point, self.act_min, self.act_max)
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
            Scaling::Prepared(p) => {
                let [mantissas, halves, ties, shifts] =
                    [&p.mantissas, &p.halves, &p.ties, &p.shifts]
                        .map(|v| *lanes::<_, LANES>(v, at));
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
