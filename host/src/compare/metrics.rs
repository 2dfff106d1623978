//! How far an integer tensor is from its float original.

use crate::model::Tensor;

/// A ratio of powers, 10 log10(signal / noise).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Decibels {
    /// A finite ratio.
    Finite(f64),
    /// There is no noise.
    Infinite,
    /// There is neither signal nor noise, or a value that is not finite.
    Undefined,
}

impl Decibels {
    /// Of two sums of squares.
    pub fn of_powers(signal: f64, noise: f64) -> Self {
        if !signal.is_finite() || !noise.is_finite() {
            Decibels::Undefined
        } else if noise > 0.0 {
            // Noise without signal is as bad as it gets; the ratio's logarithm has no number then.
            Decibels::Finite(10.0 * (signal / noise).max(1e-30).log10())
        } else if signal > 0.0 {
            Decibels::Infinite
        } else {
            Decibels::Undefined
        }
    }

    /// Whether there is a ratio, and it is below `db`.
    pub fn is_below(self, db: f64) -> bool {
        matches!(self, Decibels::Finite(v) if v < db)
    }

    /// The number, if it is one.
    pub fn finite(self) -> Option<f64> {
        match self {
            Decibels::Finite(v) => Some(v),
            _ => None,
        }
    }
}

impl std::fmt::Display for Decibels {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Decibels::Finite(v) => write!(f, "{v:.1}"),
            Decibels::Infinite => f.write_str("exact"),
            Decibels::Undefined => f.write_str("-"),
        }
    }
}

/// Sums over all elements of a tensor and all samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Elements.
    pub count: u64,
    /// Elements at an end of the integer range whose float value is more than half a step beyond.
    pub saturated: u64,
    /// Elements of which exactly one of the two is above zero.
    pub sign_differs: u64,
    /// Largest |float - integer's real value| in quantization steps (units of the scale).
    pub max_error_steps: f64,
    signal: f64,
    noise: f64,
    integer_power: f64,
    product: f64,
}

impl Metrics {
    /// Takes in a batch: `float` and `int` are the same elements of the same samples. `range` is
    /// what the operator's fused activation lets its output hold.
    pub fn add(&mut self, float: &[f32], int: &[i8], tensor: &Tensor, range: (i8, i8)) {
        let scale = tensor.scale as f64;
        let zero = tensor.zero_point as i32;
        let real = |q: i8| scale * (q as i32 - zero) as f64;
        let (lowest, highest) = (real(range.0) - scale / 2.0, real(range.1) + scale / 2.0);
        for (&f, &q) in float.iter().zip(int) {
            let (f, r) = (f as f64, real(q));
            let error = f - r;
            self.signal += f * f;
            self.noise += error * error;
            self.integer_power += r * r;
            self.product += f * r;
            self.saturated +=
                u64::from((q == range.0 && f < lowest) || (q == range.1 && f > highest));
            self.sign_differs += u64::from((f > 0.0) != (q as i32 > zero));
            // f64::max passes over values that are not numbers; they show as an undefined ratio.
            self.max_error_steps = self.max_error_steps.max(error.abs() / scale);
        }
        self.count += float.len().min(int.len()) as u64;
    }

    /// Signal-to-quantization-noise ratio: the float tensor's power over the error's.
    pub fn sqnr(&self) -> Decibels {
        Decibels::of_powers(self.signal, self.noise)
    }

    /// Cosine of the angle between the two tensors, all samples as one vector; none where either is
    /// all zeros.
    pub fn cosine(&self) -> Option<f64> {
        let length = (self.signal * self.integer_power).sqrt();
        (length > 0.0 && length.is_finite()).then(|| (self.product / length).clamp(-1.0, 1.0))
    }

    /// Share of saturated elements.
    pub fn saturation(&self) -> f64 {
        self.saturated as f64 / self.count.max(1) as f64
    }

    /// Share of elements whose signs differ.
    pub fn sign_disagreement(&self) -> f64 {
        self.sign_differs as f64 / self.count.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(scale: f32, zero_point: i8) -> Tensor {
        Tensor {
            name: "t".into(),
            shape: [1, 1, 4],
            scale,
            zero_point,
        }
    }

    #[test]
    fn sums_are_those_of_the_definitions() {
        let mut m = Metrics::default();
        // Scale 0.5, zero point 1: reals 1, -1, 0, 63.
        m.add(
            &[1.25, -1.0, 0.25, 70.0],
            &[3, -1, 1, 127],
            &tensor(0.5, 1),
            (-128, 127),
        );
        let signal = 1.25f64.powi(2) + 1.0 + 0.0625 + 4900.0;
        let noise = 0.0625 + 0.0625 + 49.0;
        let Decibels::Finite(db) = m.sqnr() else {
            panic!("{:?}", m.sqnr())
        };
        assert!((db - 10.0 * (signal / noise).log10()).abs() < 1e-9);
        assert_eq!((m.count, m.saturated, m.sign_differs), (4, 1, 1));
        assert!((m.max_error_steps - 14.0).abs() < 1e-9);
        assert!(m.cosine().is_some_and(|c| c > 0.999 && c < 1.0));
    }

    #[test]
    fn the_end_of_a_fused_activation_saturates_only_where_the_float_is_beyond() {
        let t = tensor(0.1, -128);
        let mut m = Metrics::default();
        // A ReLU: the lowest integer is real zero, and a float zero is not beyond it.
        m.add(
            &[0.0, 0.0, 6.0, 9.0],
            &[-128, -128, -68, -68],
            &t,
            (-128, -68),
        );
        assert_eq!(m.saturated, 1);
    }

    #[test]
    fn an_exact_tensor_has_no_noise_and_an_empty_signal_no_ratio() {
        let mut m = Metrics::default();
        m.add(&[1.0, -2.0], &[2, -4], &tensor(0.5, 0), (-128, 127));
        assert_eq!(m.sqnr(), Decibels::Infinite);
        assert_eq!(m.cosine(), Some(1.0));
        let mut m = Metrics::default();
        m.add(&[0.0], &[0], &tensor(0.5, 0), (-128, 127));
        assert_eq!((m.sqnr(), m.cosine()), (Decibels::Undefined, None));
        let mut m = Metrics::default();
        m.add(&[f32::NAN], &[0], &tensor(0.5, 0), (-128, 127));
        assert_eq!(m.sqnr(), Decibels::Undefined);
        assert!(Decibels::of_powers(0.0, 1.0).is_below(-100.0));
    }
}
