//! Largest value of each window.
//!
//! `y[oy][ox][c] = clamp(max x[iy][ix][c])` over the window's positions inside the input: padding
//! never wins. HWC int8, no arithmetic, one scale and zero point. Source: TFLite's MAX_POOL_2D.

use super::window::PoolParams;

/// Max pooling: see the module's head.
pub fn max_pool(p: &PoolParams, input: &[i8], output: &mut [i8]) {
    let channels = p.input[2];
    p.positions(|ys, xs, at| {
        let out = &mut output[at..at + channels];
        out.fill(i8::MIN);
        p.inside(ys, xs, |from| {
            for (out, &x) in out.iter_mut().zip(&input[from..from + channels]) {
                *out = x.max(*out);
            }
        });
        for out in out {
            *out = p.act_min.max(*out).min(p.act_max);
        }
    });
}
