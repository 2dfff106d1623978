//! An output channel's constants as the assembly reads them.

use crate::image::Channels;

/// One output channel.
///
/// The assembly computes `(v + (v >> 31) + round) >> shift` of the doubling high multiply `v`, and
/// saturates to 8 bits. With `round = 2^(shift - 1) + (zero point << shift)` this is
/// `rounding_divide_by_pot(v, shift) + zero point`: adding -1 to negative numbers makes the floor of
/// a shift round ties away from zero. The high multiply is taken of twice the sum (`SMMULR`).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(super) struct Record {
    pub bias: i32,
    pub mantissa: i32,
    pub round: i32,
    /// Bits to shift; [`Self::BY_HAND`] where the formula above does not hold.
    pub shift: i32,
}

impl Record {
    /// Words of a record.
    pub const WORDS: usize = 4;

    /// The mark of a channel that only [`crate::arith::Multiplier::apply`] scales right.
    pub const BY_HAND: i32 = -1;

    /// A channel of which only the sums are wanted.
    pub const UNSCALED: Self = Self {
        bias: 0,
        mantissa: 0,
        round: 0,
        shift: Self::BY_HAND,
    };

    /// Channel `c` of an operator with `taps` weights a channel; `offset` is added to its bias.
    pub fn new(channels: &Channels, c: usize, taps: usize, offset: i32) -> Self {
        let bias = channels.bias(c).wrapping_add(offset);
        let m = channels.multiplier(c);
        // Sums stay below 2^29, so that twice of one and what is added before the shift fit in 32 bits.
        let small = bias.unsigned_abs() < 1 << 28 && taps <= 1 << 13;
        let whole = channels.act_min == i8::MIN && channels.act_max == i8::MAX;
        let by_formula = small && whole && (m.mantissa == 0 || (-20..=-1).contains(&m.exponent));
        // A multiplier of zero gives the zero point at any shift.
        let shift = if m.mantissa == 0 {
            1
        } else {
            -(m.exponent as i32)
        };
        if by_formula {
            Self {
                bias,
                mantissa: m.mantissa,
                round: (1 << (shift - 1)) + ((channels.zero_point as i32) << shift),
                shift,
            }
        } else {
            Self {
                bias,
                mantissa: 0,
                round: 0,
                shift: Self::BY_HAND,
            }
        }
    }

    /// Scales a sum with its bias as the assembly does; `None` for a channel that it leaves.
    #[inline(always)]
    pub fn scale(&self, acc: i32) -> Option<i8> {
        if self.shift < 0 {
            return None;
        }
        let product = (2 * acc) as i64 * self.mantissa as i64;
        let high = ((product + (1 << 31)) >> 32) as i32;
        let y = (high + (high >> 31) + self.round) >> self.shift;
        Some(y.clamp(i8::MIN as i32, i8::MAX as i32) as i8)
    }
}
