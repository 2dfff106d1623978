//! The nearest level, ties away from zero.

use super::Problem;

pub(super) fn round(p: &Problem) -> Vec<i8> {
    p.weights.iter().map(|&w| p.level(w) as i8).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::patches::Filter;
    use super::*;

    #[test]
    fn no_level_of_the_lattice_is_closer() {
        let weights: Vec<f64> = (-60..60).map(|i| i as f64 / 9.7).collect();
        let filter = Filter {
            input: [1, 1, 120],
            output: [1, 1, 1],
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            pads: Default::default(),
            groups: 1,
        };
        let p = Problem {
            filter: &filter,
            weights: &weights,
            lattice: (-4, 3),
            samples: None,
            free_bias: false,
            units: &[],
            bias: &[],
            clamp: (0.0, 0.0),
        };
        for (w, l) in weights.iter().zip(round(&p)) {
            let best = (-4..=3)
                .map(|k| (w - k as f64).abs())
                .fold(f64::MAX, f64::min);
            assert_eq!((w - l as f64).abs(), best, "{w} became {l}");
        }
    }
}
