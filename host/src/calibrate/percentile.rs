//! The range without a small share at either end.

use super::collect::Range;
use super::histogram::Histogram;

/// Cuts off at most a share `1 - percentile/100` of the values at each end, to a bin's width.
pub(super) fn range(h: &Histogram, percentile: f64) -> Range {
    let allowed = ((1.0 - percentile / 100.0) * h.total() as f64).floor() as u64;
    let half = h.bin_width() / 2.0;
    let lo = edge(h.bins(), allowed).map_or(h.lo(), |centre| (centre - half) as f32);
    let hi = edge(h.bins().rev(), allowed).map_or(h.hi(), |centre| (centre + half) as f32);
    Range {
        lo: lo.max(h.lo()),
        hi: hi.min(h.hi()),
    }
}

/// Centre of the first bin whose values cannot all be cut.
fn edge(mut bins: impl Iterator<Item = (f64, u64)>, allowed: u64) -> Option<f64> {
    let mut seen = 0;
    let first = bins.find(|(_, n)| {
        seen += n;
        seen > allowed
    });
    first.map(|(centre, _)| centre)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_outlier_in_a_thousand_is_cut_and_the_bulk_is_kept() {
        let mut values: Vec<f32> = (0..1000).map(|i| i as f32 / 1000.0).collect();
        values.push(50.0);
        let mut h = Histogram::new(0.0, 50.0);
        h.add(&values);
        let r = range(&h, 99.9);
        assert!(r.lo == 0.0 && r.hi > 0.99 && r.hi < 1.05, "{r:?}");
        assert_eq!(range(&h, 100.0), Range { lo: 0.0, hi: 50.0 });
    }
}
