//! Counts of a value's elements over its range.

/// Counts in equal bins over `[lo, hi]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    lo: f32,
    hi: f32,
    counts: Vec<u64>,
}

impl Histogram {
    /// Bins: eight for each of the 256 levels, so that a level's rounding shows.
    pub const BINS: usize = 2048;

    /// An empty histogram over `[lo, hi]`, both finite, `lo <= hi`.
    pub fn new(lo: f32, hi: f32) -> Self {
        Self {
            lo,
            hi,
            counts: vec![0; Self::BINS],
        }
    }

    /// Smallest value.
    pub fn lo(&self) -> f32 {
        self.lo
    }

    /// Largest value.
    pub fn hi(&self) -> f32 {
        self.hi
    }

    /// Width of a bin; zero where all values are one.
    pub fn bin_width(&self) -> f64 {
        (self.hi as f64 - self.lo as f64) / Self::BINS as f64
    }

    /// Counts finite values; those outside the range go to the first or last bin.
    pub fn add(&mut self, values: &[f32]) {
        let width = self.bin_width();
        if width == 0.0 {
            self.counts[0] += values.len() as u64;
            return;
        }
        let (lo, per_unit) = (self.lo as f64, 1.0 / width);
        for &v in values {
            // A float-to-integer cast saturates, so rounding below zero goes to bin 0.
            let bin = ((v as f64 - lo) * per_unit) as usize;
            self.counts[bin.min(Self::BINS - 1)] += 1;
        }
    }

    /// Number of values.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Non-empty bins: centre and count.
    pub fn bins(&self) -> impl DoubleEndedIterator<Item = (f64, u64)> + '_ {
        let width = self.bin_width();
        let lo = self.lo as f64;
        let centre = move |i: usize| lo + (i as f64 + 0.5) * width;
        self.counts
            .iter()
            .enumerate()
            .filter(|(_, n)| **n > 0)
            .map(move |(i, n)| (centre(i), *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_counted_once_in_its_own_bin() {
        let mut h = Histogram::new(-1.0, 3.0);
        h.add(&[-1.0, 3.0, 0.0, 0.001, 1.0]);
        assert_eq!(h.total(), 5);
        for (centre, _) in h.bins() {
            let near = [-1.0, 3.0, 0.0, 0.001, 1.0]
                .iter()
                .any(|v| (v - centre).abs() <= h.bin_width());
            assert!(near, "{centre}");
        }
    }

    #[test]
    fn a_constant_fills_one_bin() {
        let mut h = Histogram::new(2.0, 2.0);
        h.add(&[2.0; 9]);
        assert_eq!(h.bins().collect::<Vec<_>>(), [(2.0, 9)]);
    }
}
