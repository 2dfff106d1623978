//! Mean of each window.
//!
//! `y[oy][ox][c] = clamp(round(sum x[iy][ix][c] / n))` over the `n` positions of the window inside
//! the input, rounded half away from zero. The mean is taken of the integers themselves: input and
//! output share scale and zero point. The sum is at most 255 * 255 * 128 in magnitude.
//! Source: TFLite's int8 AVERAGE_POOL_2D.

use super::window::PoolParams;

impl PoolParams {
    /// The output for a window of `count` positions inside the input whose inputs' sum is `sum`.
    #[inline(always)]
    pub fn mean(&self, sum: i32, count: usize) -> i8 {
        let count = count.max(1) as i32;
        let half = if sum > 0 { count / 2 } else { -(count / 2) };
        let mean = (sum + half) / count;
        mean.max(self.act_min as i32).min(self.act_max as i32) as i8
    }
}

/// Average pooling: see the module's head.
pub fn average_pool(p: &PoolParams, input: &[i8], output: &mut [i8]) {
    p.positions(|ys, xs, at| {
        // The check refuses windows without input.
        let count = ys.count() * xs.count();
        for c in 0..p.input[2] {
            let mut sum = 0i32;
            p.inside(ys, xs, |from| sum += input[from + c] as i32);
            output[at + c] = p.mean(sum, count);
        }
    });
}
