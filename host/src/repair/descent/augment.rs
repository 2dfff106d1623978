//! More inputs than were given: the teacher labels any input, so shifted, mirrored and noisy copies
//! of the repair samples are free tests.

use rand::Rng;
use rand::rngs::StdRng;
use std::fmt;
use std::str::FromStr;

/// How copies of a sample are varied.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// Largest shift along height and width, in positions; edges are repeated.
    pub shift: [usize; 2],
    /// Mirror left and right, every other copy.
    pub flip: bool,
    /// Standard deviation of noise, as a share of the range of the model's input.
    pub noise: f32,
    /// Share of the copies that are blended with another sample (Zhang et al., "mixup", ICLR 2018; the
    /// teacher labels the blend).
    pub blend: f32,
}

/// Which variations the user names: their extents follow from the input's shape.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Variations {
    /// Shifts along height and width.
    pub shift: bool,
    /// Mirror left and right.
    pub flip: bool,
    /// Noise.
    pub noise: bool,
    /// Blends of two samples.
    pub blend: bool,
}

/// Share of noise.
const NOISE: f32 = 0.01;
/// Share of blended copies.
const BLEND: f32 = 0.5;

impl Augment {
    /// No variation.
    pub const NONE: Augment = Augment {
        shift: [0, 0],
        flip: false,
        noise: 0.0,
        blend: 0.0,
    };

    /// What suits inputs of shape `[h, w, c]`: shifts by a twenty-fourth and mirroring for squares (images),
    /// shifts along the height (time) and noise for other planes (spectrograms), noise for vectors.
    pub fn for_shape([h, w, _]: [usize; 3]) -> Self {
        if h == w && h >= 8 {
            Augment {
                shift: [(h / 24).max(1); 2],
                flip: true,
                noise: 0.0,
                blend: BLEND,
            }
        } else if h >= 8 && w > 1 {
            Augment {
                shift: [(h / 24).max(1), 0],
                flip: false,
                noise: NOISE,
                blend: BLEND,
            }
        } else {
            Augment {
                noise: NOISE,
                blend: BLEND,
                ..Self::NONE
            }
        }
    }

    /// The named variations on inputs of shape `[h, w, c]`.
    pub fn of(wanted: Variations, shape: [usize; 3]) -> Self {
        let [h, w, _] = shape;
        let usual = Self::for_shape(shape);
        Augment {
            shift: match (wanted.shift, usual.shift) {
                (false, _) => [0, 0],
                (true, [0, 0]) => [h, w].map(|n| if n > 1 { (n / 24).max(1) } else { 0 }),
                (true, s) => s,
            },
            flip: wanted.flip,
            noise: if wanted.noise { NOISE } else { 0.0 },
            blend: if wanted.blend { BLEND } else { 0.0 },
        }
    }

    /// Appends one varied copy of `sample`, `[h][w][c]`, to `out`. `range` is the extent of the
    /// model's input in real units.
    pub fn vary(
        &self,
        sample: &[f32],
        [h, w, c]: [usize; 3],
        range: f32,
        rng: &mut StdRng,
        out: &mut Vec<f32>,
    ) {
        let mut shift = |most: usize| match most {
            0 => 0,
            most => rng.random_range(0..=2 * most) as isize - most as isize,
        };
        let (dy, dx) = (shift(self.shift[0]), shift(self.shift[1]));
        let flip = self.flip && rng.random::<bool>();
        let from = out.len();
        for y in 0..h {
            let y = (y as isize + dy).clamp(0, h as isize - 1) as usize;
            for x in 0..w {
                let x = if flip { w - 1 - x } else { x };
                let x = (x as isize + dx).clamp(0, w as isize - 1) as usize;
                let start = (y * w + x) * c;
                out.extend_from_slice(&sample[start..start + c]);
            }
        }
        if self.noise > 0.0 {
            let scale = self.noise * range;
            for v in &mut out[from..] {
                // Twelve thirds make the variance of four uniform numbers 1.
                let sum: f32 = (0..4).map(|_| rng.random::<f32>() - 0.5).sum();
                *v += scale * 3f32.sqrt() * sum;
            }
        }
    }
}

impl fmt::Display for Augment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Variations {
            shift: self.shift != [0, 0],
            flip: self.flip,
            noise: self.noise > 0.0,
            blend: self.blend > 0.0,
        };
        match named == Variations::default() {
            true => f.write_str("samples as they are"),
            false => write!(f, "{named}"),
        }
    }
}

impl FromStr for Variations {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let mut v = Variations::default();
        if s == "none" {
            return Ok(v);
        }
        for word in s.split([',', '+']) {
            match word {
                "shift" => v.shift = true,
                "flip" => v.flip = true,
                "noise" => v.noise = true,
                "blend" => v.blend = true,
                _ => {
                    return Err(format!(
                        "unknown variation `{word}`; known: none, or any of shift,flip,noise,blend"
                    ));
                }
            }
        }
        Ok(v)
    }
}

impl fmt::Display for Variations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = [
            (self.shift, "shift"),
            (self.flip, "flip"),
            (self.noise, "noise"),
            (self.blend, "blend"),
        ]
        .into_iter()
        .filter_map(|(on, word)| on.then_some(word))
        .collect();
        f.write_str(if words.is_empty() { "none" } else { "" })?;
        f.write_str(&words.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn copies(a: Augment, sample: &[f32], shape: [usize; 3], n: usize) -> Vec<Vec<f32>> {
        let mut rng = StdRng::seed_from_u64(3);
        (0..n)
            .map(|_| {
                let mut out = vec![];
                a.vary(sample, shape, 1.0, &mut rng, &mut out);
                out
            })
            .collect()
    }

    #[test]
    fn nothing_wanted_gives_the_sample_itself() {
        let sample: Vec<f32> = (0..24).map(|v| v as f32).collect();
        assert_eq!(copies(Augment::NONE, &sample, [2, 4, 3], 1)[0], sample);
    }

    #[test]
    fn a_shifted_copy_repeats_the_edge_and_keeps_channels_together() {
        // One row of three positions with two channels.
        let sample = [1.0, 10.0, 2.0, 20.0, 3.0, 30.0];
        let a = Augment {
            shift: [0, 1],
            ..Augment::NONE
        };
        let mut seen = copies(a, &sample, [1, 3, 2], 50);
        seen.sort_by(|a, b| a[2].total_cmp(&b[2]));
        seen.dedup();
        assert_eq!(
            seen,
            [
                vec![1.0, 10.0, 1.0, 10.0, 2.0, 20.0],
                sample.to_vec(),
                vec![2.0, 20.0, 3.0, 30.0, 3.0, 30.0]
            ]
        );
    }

    #[test]
    fn a_mirrored_copy_is_the_sample_from_right_to_left() {
        let a = Augment {
            flip: true,
            ..Augment::NONE
        };
        let mut seen = copies(a, &[1.0, 2.0, 3.0], [1, 3, 1], 50);
        seen.sort_by(|a, b| a[0].total_cmp(&b[0]));
        seen.dedup();
        assert_eq!(seen, [vec![1.0, 2.0, 3.0], vec![3.0, 2.0, 1.0]]);
    }

    #[test]
    fn noise_has_the_deviation_that_was_asked_for() {
        let a = Augment {
            noise: 0.1,
            ..Augment::NONE
        };
        let all: Vec<f32> = copies(a, &[0.0; 100], [1, 100, 1], 100).concat();
        let deviation = (all.iter().map(|v| v * v).sum::<f32>() / all.len() as f32).sqrt();
        assert!((deviation - 0.1).abs() < 0.005, "{deviation}");
    }

    #[test]
    fn variations_are_read_as_they_are_written() {
        for s in [
            "none",
            "shift",
            "shift,flip",
            "shift,flip,noise,blend",
            "noise",
        ] {
            assert_eq!(s.parse::<Variations>().unwrap().to_string(), s);
        }
        assert!("turn".parse::<Variations>().unwrap_err().contains("turn"));
    }
}
