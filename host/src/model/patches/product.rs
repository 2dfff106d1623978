//! Matrix products, by the library that burn-flex multiplies with.

use gemm::{Parallelism, gemm};

/// A matrix inside a slice: element `(row, column)` is at `row * steps[0] + column * steps[1]`.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub data: &'a [f32],
    pub steps: [usize; 2],
}

/// Elements of a slice that a matrix of that form needs.
fn extent(rows: usize, columns: usize, steps: [usize; 2]) -> usize {
    (rows - 1) * steps[0] + (columns - 1) * steps[1] + 1
}

/// `to = left * right`, or with `add` `to += left * right`; `left` is `m` x `k`, `right` `k` x `n`, and the
/// rows of `to` lie one after the other. On the calling thread.
pub(super) fn multiply(
    to: &mut [f32],
    left: View<'_>,
    right: View<'_>,
    [m, n, k]: [usize; 3],
    add: bool,
) {
    assert_eq!(to.len(), m * n);
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        if !add {
            to.fill(0.0);
        }
        return;
    }
    assert!(left.data.len() >= extent(m, k, left.steps));
    assert!(right.data.len() >= extent(k, n, right.steps));
    let s = |step: usize| step as isize;
    // SAFETY: the three matrices lie inside their slices (asserted above), and `to`, borrowed
    // mutably, overlaps neither of the others.
    unsafe {
        gemm(
            m,
            n,
            k,
            to.as_mut_ptr(),
            1,
            s(n),
            add,
            left.data.as_ptr(),
            s(left.steps[1]),
            s(left.steps[0]),
            right.data.as_ptr(),
            s(right.steps[1]),
            s(right.steps[0]),
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn products_equal_their_definition_however_the_factors_lie() {
        let mut rng = StdRng::seed_from_u64(0);
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (16, 33, 20), (2, 64, 0), (65, 1, 40)] {
            for turned in [false, true] {
                for add in [false, true] {
                    let mut random =
                        |n| -> Vec<f32> { (0..n).map(|_| rng.random_range(-1.0..1.0)).collect() };
                    let (a, b, mut c) = (random(m * k), random(k * n), random(m * n));
                    let steps = |rows, columns| match turned {
                        false => [columns, 1],
                        true => [1, rows],
                    };
                    let (sa, sb) = (steps(m, k), steps(k, n));
                    let want: Vec<f32> = (0..m * n)
                        .map(|i| {
                            let (r, q) = (i / n, i % n);
                            let sum: f32 = (0..k)
                                .map(|j| a[r * sa[0] + j * sa[1]] * b[j * sb[0] + q * sb[1]])
                                .sum();
                            sum + if add { c[i] } else { 0.0 }
                        })
                        .collect();
                    let view = |data, steps| View { data, steps };
                    multiply(&mut c, view(&a, sa), view(&b, sb), [m, n, k], add);
                    for (got, want) in c.iter().zip(want) {
                        assert!((got - want).abs() < 1e-4, "{got} instead of {want}");
                    }
                }
            }
        }
    }
}
