//! The scale of a channel's weights.

use super::Scales;

/// Smallest and largest level that weights of a width are rounded to.
pub(super) fn lattice(bits: u8, scales: Scales) -> (i8, i8) {
    let half = 1i16 << (bits - 1);
    let narrow = bits == 8 || scales == Scales::Max;
    (
        (if narrow { 1 - half } else { -half }) as i8,
        (half - 1) as i8,
    )
}

/// The scale of one channel's weights (or of a whole layer's), zero where all weights are zero.
pub(super) fn choose(weights: &[f32], bits: u8, scales: Scales) -> f32 {
    let largest = weights.iter().fold(0f32, |m, w| m.max(w.abs()));
    let (_, top) = lattice(bits, scales);
    let full = (largest as f64 / top as f64) as f32;
    match scales {
        Scales::Max => full,
        Scales::Mse => least_squares(weights, lattice(bits, scales), full),
    }
}

/// Searches scales from the full range down to a twentieth of it: 96 on a grid, then twice finer
/// around the best.
fn least_squares(weights: &[f32], lattice: (i8, i8), full: f32) -> f32 {
    if full == 0.0 || !full.is_finite() {
        return full;
    }
    let mut best = (squared_error(weights, lattice, full), 1.0);
    let mut search = |centre: f64, step: f64, reach: i32| {
        for i in -reach..=reach {
            let factor = centre + step * i as f64;
            if (0.02..=1.0).contains(&factor) {
                let e = squared_error(weights, lattice, (full as f64 * factor) as f32);
                if e < best.0 {
                    best = (e, factor);
                }
            }
        }
        best.1
    };
    let coarse = search(0.525, 0.01, 48);
    let fine = search(coarse, 0.002, 4);
    let best = search(fine, 0.0004, 4);
    (full as f64 * best) as f32
}

fn squared_error(weights: &[f32], (lo, hi): (i8, i8), scale: f32) -> f64 {
    let per_unit = 1.0 / scale;
    let error = |w: f32| {
        let level = (w * per_unit).round().clamp(lo as f32, hi as f32) * scale;
        ((w - level) * (w - level)) as f64
    };
    weights.iter().map(|&w| error(w)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Deterministic numbers that look normal enough.
    fn bell(n: usize) -> Vec<f32> {
        let mut state = 12345u64;
        let mut uniform = || {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..n).map(|_| (0..6).map(|_| uniform()).sum()).collect()
    }

    #[test]
    fn max_scales_put_the_largest_weight_on_the_last_level() {
        let w = [0.3, -1.27, 0.5];
        assert!((choose(&w, 8, Scales::Max) - 0.01).abs() < 1e-9);
        assert!((choose(&w, 4, Scales::Max) - 1.27 / 7.0).abs() < 1e-7);
        assert_eq!(lattice(4, Scales::Max), (-7, 7));
        assert_eq!(lattice(2, Scales::Mse), (-2, 1));
        assert_eq!(lattice(8, Scales::Mse), (-127, 127));
        assert_eq!(choose(&[0.0; 4], 3, Scales::Mse), 0.0);
    }

    #[test]
    fn the_searched_scale_has_less_error_than_the_full_range_and_than_its_neighbours() {
        let w = bell(500);
        for bits in [2, 3, 4, 8] {
            let l = lattice(bits, Scales::Mse);
            let s = choose(&w, bits, Scales::Mse);
            let full = choose(&w, bits, Scales::Max);
            let e = squared_error(&w, l, s);
            assert!(e <= squared_error(&w, l, full), "{bits} bits");
            for factor in [0.7, 0.85, 1.15, 1.3] {
                assert!(
                    e <= squared_error(&w, l, s * factor),
                    "{bits} bits, {factor}"
                );
            }
        }
    }

    #[test]
    fn a_channel_on_the_lattice_is_met_exactly() {
        let w: Vec<f32> = [-2.0, -1.0, 0.0, 1.0, 1.0, -2.0]
            .iter()
            .map(|v| v * 0.25)
            .collect();
        let s = choose(&w, 2, Scales::Mse);
        assert!(squared_error(&w, (-2, 1), s) < 1e-6, "{s}");
    }
}
