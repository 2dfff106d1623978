//! Means over windows and over whole pictures, many channels at a time. The sums are this file's;
//! what an output is of a sum is the shared kernel's.

use qmend_shared::kernels::{Axis, MeanParams, PoolParams};

/// As [`qmend_shared::kernels::average_pool`] for one sample; `sums` is working memory.
#[inline(always)]
pub(super) fn average_pool(p: &PoolParams, x: &[i8], sums: &mut Vec<i32>, out: &mut [i8]) {
    let [_, w, c] = p.input;
    let [y_axis, x_axis] = Axis::of(&p.window, p.input);
    let [dy, dx] = p.window.dilation.map(usize::from);
    let windows = (0..p.output[0]).flat_map(|oy| (0..p.output[1]).map(move |ox| (oy, ox)));
    for ((oy, ox), out) in windows.zip(out.chunks_exact_mut(c)) {
        let (ys, xs) = (y_axis.taps(oy), x_axis.taps(ox));
        sums.clear();
        sums.resize(c, 0);
        for ky in 0..ys.count() {
            let row = (ys.first + ky * dy) * w;
            for kx in 0..xs.count() {
                add_up(sums, &x[(row + xs.first + kx * dx) * c..][..c]);
            }
        }
        let count = ys.count() * xs.count();
        for (out, &sum) in out.iter_mut().zip(sums.iter()) {
            *out = p.mean(sum, count);
        }
    }
}

/// As [`qmend_shared::kernels::mean`] for one sample; `sums` is working memory.
#[inline(always)]
pub(super) fn mean(p: &MeanParams, x: &[i8], sums: &mut Vec<i32>, out: &mut [i8]) {
    sums.clear();
    sums.resize(out.len(), 0);
    for x in x.chunks_exact(out.len()) {
        add_up(sums, x);
    }
    let zero = (x.len() / out.len()) as i32;
    let zero = zero.wrapping_mul(p.input_zero_point as i32);
    for (out, &sum) in out.iter_mut().zip(sums.iter()) {
        *out = p.output(sum.wrapping_sub(zero));
    }
}

#[inline(always)]
fn add_up(sums: &mut [i32], x: &[i8]) {
    for (sum, &x) in sums.iter_mut().zip(x) {
        *sum = sum.wrapping_add(x as i32);
    }
}
