//! The range of least squared error.

use super::collect::Range;
use super::histogram::Histogram;

/// Searches the ends of the range, largest first, on a grid that is then refined.
///
/// Every pair of ends is judged by the error that its 256 levels, zero among them, leave on the
/// histogram: rounding inside, clipping outside.
pub(super) fn range(h: &Histogram) -> Range {
    let bins: Vec<(f64, f64)> = h.bins().map(|(centre, n)| (centre, n as f64)).collect();
    let (full_lo, full_hi) = ((h.lo() as f64).min(0.0), (h.hi() as f64).max(0.0));
    if full_hi - full_lo == 0.0 {
        return Range {
            lo: h.lo(),
            hi: h.hi(),
        };
    }
    let mut best = (error(&bins, full_lo, full_hi), 1.0, 1.0);
    let mut step = 0.05;
    let mut centre = (0.55, 0.55);
    let mut reach = 9;
    for _ in 0..3 {
        let grid = |around: f64| {
            (-reach..=reach).map(move |i| (around + step * i as f64).clamp(0.01, 1.0))
        };
        // An end at zero does not move.
        for a in if full_lo == 0.0 {
            vec![1.0]
        } else {
            grid(centre.0).collect()
        } {
            for b in if full_hi == 0.0 {
                vec![1.0]
            } else {
                grid(centre.1).collect()
            } {
                let e = error(&bins, full_lo * a, full_hi * b);
                // Clipping has to earn its place.
                if e < best.0 * (1.0 - 1e-6) {
                    best = (e, a, b);
                }
            }
        }
        centre = (best.1, best.2);
        step /= 4.0;
        reach = 3;
    }
    Range {
        lo: (full_lo * best.1) as f32,
        hi: (full_hi * best.2) as f32,
    }
}

/// Sum over the histogram of the squared distance to the nearest level.
fn error(bins: &[(f64, f64)], lo: f64, hi: f64) -> f64 {
    let scale = (hi - lo) / 255.0;
    if scale <= 0.0 {
        return f64::INFINITY;
    }
    let zero = (-128.0 - lo / scale).round().clamp(-128.0, 127.0);
    let (first, last) = ((-128.0 - zero) * scale, (127.0 - zero) * scale);
    let per_unit = 1.0 / scale;
    bins.iter()
        .map(|&(v, n)| {
            let level = ((v * per_unit).round() * scale).clamp(first, last);
            n * (v - level) * (v - level)
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_their_full_range() {
        let values: Vec<f32> = (0..=255).map(|i| i as f32).collect();
        let mut h = Histogram::new(0.0, 255.0);
        h.add(&values);
        assert_eq!(range(&h), Range { lo: 0.0, hi: 255.0 });
    }

    #[test]
    fn a_rare_far_outlier_is_clipped_and_the_error_is_less_than_of_the_full_range() {
        let mut h = Histogram::new(-1.0, 100.0);
        h.add(&[0.0; 10]);
        let bulk: Vec<f32> = (0..1_000_000)
            .map(|i| ((i * 7919) % 1000) as f32 / 500.0 - 1.0)
            .collect();
        h.add(&bulk);
        h.add(&[100.0]);
        let r = range(&h);
        assert!(r.hi < 90.0 && r.hi >= 1.0, "{r:?}");
        let bins: Vec<(f64, f64)> = h.bins().map(|(c, n)| (c, n as f64)).collect();
        assert!(error(&bins, r.lo as f64, r.hi as f64) < error(&bins, -1.0, 100.0));
    }
}
