//! Settings.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::QuantizeError;
use crate::model::Rounding;

/// How a channel's weight scale is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scales {
    /// The largest magnitude becomes the largest level, `max|w| / (2^(bits-1) - 1)`; the lattice is
    /// symmetric. Nothing is clipped.
    Max,
    /// The scale of least squared error when rounded to nearest, found by search. Below 8 bits the
    /// lattice is the whole two's complement range, one level further below zero than above (at 2
    /// bits: -2, -1, 0, 1); which weights profit from that level is part of what is searched.
    Mse,
}

/// How a real weight becomes a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WeightRounding {
    /// The nearest level.
    #[default]
    Nearest,
    /// So that errors cancel within a filter and a channel (SQuant, ICLR 2022); needs no samples.
    Squant,
    /// One after the other, each error made up for by the weights not yet rounded, as the inputs'
    /// correlations say (GPTQ, 2022).
    Gptq,
    /// Up or down, learned by gradient descent on the layer's activated outputs (AdaRound, ICML
    /// 2020).
    AdaRound,
    /// Levels that together have the least error on the inputs' second moments, the quadratic
    /// problem behind AdaRound, searched from GPTQ's answer by single and paired steps.
    Coordinate,
}

impl WeightRounding {
    /// All methods.
    pub const ALL: [Self; 5] = [
        Self::Nearest,
        Self::Squant,
        Self::Gptq,
        Self::AdaRound,
        Self::Coordinate,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            WeightRounding::Nearest => "nearest",
            WeightRounding::Squant => "squant",
            WeightRounding::Gptq => "gptq",
            WeightRounding::AdaRound => "adaround",
            WeightRounding::Coordinate => "coordinate",
        }
    }
}

/// How a network is quantized.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizeConfig {
    /// Width of weights: 8, 4, 3 or 2.
    pub bits: u8,
    /// Width by node name, before all else.
    pub layer_bits: BTreeMap<String, u8>,
    /// Whether the first and the last layer have 8-bit weights.
    pub keep_ends_8bit: bool,
    /// Weight scales; `None` is [`Scales::Max`] at 8 bits and [`Scales::Mse`] below.
    pub scales: Option<Scales>,
    /// One weight scale for all channels of a layer.
    pub per_tensor: bool,
    /// How weights are rounded.
    pub weight_rounding: WeightRounding,
    /// Whether biases make up for the mean error of each channel on the calibration samples
    /// (Nagel et al., ICCV 2019, in its empirical form).
    pub bias_correction: bool,
    /// Rounding of scaled accumulators.
    pub rounding: Rounding,
}

impl Default for QuantizeConfig {
    fn default() -> Self {
        Self {
            bits: 8,
            layer_bits: BTreeMap::new(),
            keep_ends_8bit: false,
            scales: None,
            per_tensor: false,
            weight_rounding: WeightRounding::Nearest,
            bias_correction: false,
            rounding: Rounding::Tflm,
        }
    }
}

impl QuantizeConfig {
    /// The width of each of the layers called `names`, in that order.
    ///
    /// # Errors
    /// A width that does not exist, or a layer in [`Self::layer_bits`] that is not among `names`.
    pub fn bits_of(&self, names: &[&str]) -> Result<Vec<u8>, QuantizeError> {
        let known = |bits: u8, for_layer: String| match bits {
            2 | 3 | 4 | 8 => Ok(bits),
            _ => Err(QuantizeError::Bits { bits, for_layer }),
        };
        known(self.bits, String::new())?;
        for (name, &bits) in &self.layer_bits {
            if !names.contains(&name.as_str()) {
                return Err(QuantizeError::UnknownLayer {
                    name: name.clone(),
                    known: names.join(", "),
                });
            }
            known(bits, format!(" for layer '{name}'"))?;
        }
        Ok(names
            .iter()
            .enumerate()
            .map(|(i, name)| match self.layer_bits.get(*name) {
                Some(&bits) => bits,
                None if self.keep_ends_8bit && (i == 0 || i + 1 == names.len()) => 8,
                None => self.bits,
            })
            .collect())
    }

    /// The scale method at a width.
    pub fn scales_at(&self, bits: u8) -> Scales {
        self.scales
            .unwrap_or(if bits == 8 { Scales::Max } else { Scales::Mse })
    }
}

impl fmt::Display for Scales {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Scales::Max => "max",
            Scales::Mse => "mse",
        })
    }
}

impl FromStr for Scales {
    type Err = QuantizeError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        match s {
            "max" => Ok(Scales::Max),
            "mse" => Ok(Scales::Mse),
            _ => Err(QuantizeError::UnknownWord {
                setting: "scales",
                got: s.to_string(),
                known: "max and mse",
            }),
        }
    }
}

impl fmt::Display for WeightRounding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WeightRounding {
    type Err = QuantizeError;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|m| m.name() == s)
            .ok_or_else(|| QuantizeError::UnknownWord {
                setting: "rounding",
                got: s.to_string(),
                known: "nearest, squant, gptq, adaround and coordinate",
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layers_own_width_goes_before_kept_ends_and_the_default() {
        let mut c = QuantizeConfig {
            bits: 3,
            keep_ends_8bit: true,
            ..Default::default()
        };
        c.layer_bits.insert("c".into(), 2);
        c.layer_bits.insert("b".into(), 4);
        assert_eq!(
            c.bits_of(&["a", "b", "d", "c"]).expect("known"),
            [8, 4, 3, 2]
        );
        assert_eq!(c.scales_at(8), Scales::Max);
        assert_eq!(c.scales_at(2), Scales::Mse);
    }

    #[test]
    fn unknown_widths_layers_and_words_are_refused_with_what_there_is() {
        let c = QuantizeConfig {
            bits: 5,
            ..Default::default()
        };
        assert!(
            c.bits_of(&["a"])
                .expect_err("5 bits")
                .to_string()
                .contains("8, 4, 3 and 2")
        );
        let mut c = QuantizeConfig::default();
        c.layer_bits.insert("zz".into(), 4);
        let text = c.bits_of(&["a", "b"]).expect_err("no zz").to_string();
        assert!(text.contains("'zz'") && text.contains("a, b"), "{text}");
        assert!("best".parse::<Scales>().is_err() && "best".parse::<WeightRounding>().is_err());
        for w in WeightRounding::ALL {
            assert_eq!(w.to_string().parse::<WeightRounding>().expect("known"), w);
        }
    }
}
