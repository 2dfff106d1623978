//! Sums to outputs.
//!
//! All multipliers of at most one are scaled by the assembly, four channels at a time, with the same two
//! roundings as [`crate::arith::Multiplier::apply`]; an operator with a larger one by that function.

use super::isa::{COLUMNS, Scale, qmend_scale_1, qmend_scale_3};
use crate::image::Channels;

/// Whether the assembly may scale these channels.
pub(super) fn by_vector(channels: &Channels) -> bool {
    channels.exponents.iter().all(|&e| e as i8 <= 0)
}

/// Scales the sums of `bias.len()` channels, from channel `first` on, with one column (`out.len()` is 1) or
/// with three.
///
/// `sums` are as [`super::isa::Block`] and [`super::isa::Product`] leave them. `bias` is what is to be
/// added to them.
///
/// # Safety
///
/// Each of `out` may be written for as many channels, from there on.
pub(super) unsafe fn scale(
    channels: &Channels,
    vector: bool,
    first: usize,
    bias: &[i32],
    sums: &[i32],
    out: &[*mut i8],
) {
    let count = bias.len();
    let three = out.len() == COLUMNS;
    let index = |c: usize, q: usize| match three {
        true => c / 2 * (2 * COLUMNS) + 2 * q + c % 2,
        false => c,
    };
    assert!(three || out.len() == 1);
    assert!(count > 0 && sums.len() > index(count - 1, out.len() - 1));
    if vector {
        let last = out[out.len() - 1];
        let scale = Scale {
            bias: bias.as_ptr(),
            mantissas: channels.mantissas[first * 4..][..count * 4].as_ptr(),
            exponents: channels.exponents[first..][..count].as_ptr(),
            sums: sums.as_ptr(),
            out: [out[0], out.get(1).copied().unwrap_or(last), last],
            count,
            min: channels.act_min as i32,
            max: channels.act_max as i32,
            zero_point: channels.zero_point as i32,
        };
        // SAFETY: constants and sums are there, as asserted; outputs by contract.
        unsafe {
            match three {
                true => qmend_scale_3(&scale),
                false => qmend_scale_1(&scale),
            }
        }
        return;
    }
    for (c, &bias) in bias.iter().enumerate() {
        let multiplier = channels.multiplier(first + c);
        for (q, out) in out.iter().enumerate() {
            let acc = sums[index(c, q)].wrapping_add(bias);
            let y = channels.finish(multiplier.apply(acc));
            // SAFETY: by contract.
            unsafe { out.add(c).write(y) };
        }
    }
}
