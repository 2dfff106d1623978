//! Second moments of what a filter sees.

use rayon::prelude::*;

use super::super::patches::Filter;

/// A layer's integer inputs on the calibration samples.
pub(in super::super) struct Samples<'a> {
    /// `[n][h][w][c]`
    pub q: &'a [i8],
    pub zero_point: i8,
}

/// Patches that are looked at, spread evenly over samples and positions: enough for the second
/// moments of a few hundred taps.
const MAX_PATCHES: usize = 16_384;

/// Rows of patches that are added to the matrix at a time.
const BLOCK: usize = 64;

/// `sum over patches of x[i] * x[j]` for taps `columns` of `group`, a full symmetric matrix in rows.
///
/// `centred` takes the mean patch off first. That is the matrix to use where the bias is chosen
/// after the weights and can take back any mean error: what remains is the variance.
pub(super) fn second_moments(
    filter: &Filter,
    samples: &Samples,
    group: usize,
    columns: std::ops::Range<usize>,
    centred: bool,
) -> Vec<f64> {
    let k = columns.len();
    let elements: usize = filter.input.iter().product();
    let positions = filter.positions();
    let total = samples.q.len() / elements * positions;
    // A step that has no factor in common with the number of positions meets all of them in turn.
    let mut step = total.div_ceil(MAX_PATCHES).max(1);
    while step > 1 && gcd(step, positions) != 1 {
        step += 1;
    }
    let z = samples.zero_point as i32;
    let mut moments = vec![0.0f64; k * k];
    let mut block = vec![0f32; BLOCK * k];
    let mut sums = vec![0.0f64; k];
    let (mut filled, mut index, mut patches) = (0, 0, 0.0);
    while index < total {
        let sample = &samples.q[index / positions * elements..][..elements];
        let patch = &mut block[filled * k..(filled + 1) * k];
        patch.fill(0.0);
        filter.visit(group, index % positions, |tap, at| {
            if columns.contains(&tap) {
                patch[tap - columns.start] = (sample[at] as i32 - z) as f32;
            }
        });
        sums.iter_mut()
            .zip(&*patch)
            .for_each(|(s, &x)| *s += x as f64);
        patches += 1.0;
        filled += 1;
        index += step;
        if filled == BLOCK || index >= total {
            add_products(&mut moments, &block[..filled * k], k);
            filled = 0;
        }
    }
    for i in 0..k {
        for j in i..k {
            if centred {
                moments[i * k + j] -= sums[i] * sums[j] / patches;
            }
            moments[j * k + i] = moments[i * k + j];
        }
    }
    moments
}

/// Adds `x[i] * x[j]` of all rows `x` of `block` to the upper triangle.
///
/// A block's sums are exact in f32: 64 products of two numbers of at most 255 are below 2^24.
fn add_products(moments: &mut [f64], block: &[f32], k: usize) {
    moments
        .par_chunks_exact_mut(k)
        .enumerate()
        .with_min_len(16)
        .for_each_init(
            || vec![0f32; k],
            |sums, (i, to)| {
                let sums = &mut sums[i..];
                sums.fill(0.0);
                for x in block.chunks_exact(k) {
                    let xi = x[i];
                    if xi != 0.0 {
                        sums.iter_mut()
                            .zip(&x[i..])
                            .for_each(|(s, &xj)| *s += xi * xj);
                    }
                }
                to[i..]
                    .iter_mut()
                    .zip(sums)
                    .for_each(|(t, s)| *t += *s as f64);
            },
        );
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
