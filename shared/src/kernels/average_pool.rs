//! Mean of each window.
//!
//! `y[oy][ox][c] = clamp(round(sum x[iy][ix][c] / n))` over the `n` positions of the window inside
//! the input, rounded half away from zero. The mean is taken of the integers themselves: input and
//! output share scale and zero point. The sum is at most 255 * 255 * 128 in magnitude.
//! Source: TFLite's int8 AVERAGE_POOL_2D.

use super::window::PoolParams;

/// Average pooling: see the module's head.
pub fn average_pool(p: &PoolParams, input: &[i8], output: &mut [i8]) {
    p.positions(|ys, xs, at| {
        // The check refuses windows without input.
        let count = (ys.count() * xs.count()).max(1) as i32;
        for c in 0..p.input[2] {
            let mut sum = 0i32;
            p.inside(ys, xs, |from| sum += input[from + c] as i32);
            let half = if sum > 0 { count / 2 } else { -(count / 2) };
            let mean = (sum + half) / count;
            output[at + c] = mean.max(p.act_min as i32).min(p.act_max as i32) as i8;
        }
    });
}
