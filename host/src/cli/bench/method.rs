//! The words of a benchmark: widths, roundings and methods.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use crate::quantize::WeightRounding;
use crate::repair::RepairConfig;

/// A word or a number in a suite.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Word {
    /// As 8.
    Int(i64),
    /// As "8-per-tensor".
    Text(String),
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Word::Int(n) => write!(f, "{n}"),
            Word::Text(t) => f.write_str(t),
        }
    }
}

/// A width of weights: `8`, or `8-per-tensor` with one scale a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Word")]
pub struct Width {
    pub bits: u8,
    pub per_tensor: bool,
}

impl FromStr for Width {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let (bits, per_tensor) = match s.strip_suffix("-per-tensor") {
            Some(bits) => (bits, true),
            None => (s, false),
        };
        Ok(Width {
            bits: super::super::quantize::parse_bits(bits)
                .map_err(|e| format!("width {s:?}: {e}, and may end in -per-tensor"))?,
            per_tensor,
        })
    }
}

impl TryFrom<Word> for Width {
    type Error = String;

    fn try_from(w: Word) -> Result<Self, String> {
        w.to_string().parse()
    }
}

impl fmt::Display for Width {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.per_tensor { " per tensor" } else { "" };
        write!(f, "{}-bit{all}", self.bits)
    }
}

/// How weights are rounded before the repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Start {
    /// By one method, with or without bias correction: `gptq`, `gptq+bias`.
    One(WeightRounding, bool),
    /// By all methods with bias correction; the model that agrees best with the float network on
    /// the holdout set is taken: `best`.
    Best,
}

impl Start {
    /// The single roundings that this one stands for.
    pub fn candidates(self) -> Vec<(WeightRounding, bool)> {
        match self {
            Start::One(w, bias) => vec![(w, bias)],
            Start::Best => WeightRounding::ALL.map(|w| (w, true)).to_vec(),
        }
    }
}

impl FromStr for Start {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if s == "best" {
            return Ok(Start::Best);
        }
        let (name, bias) = match s.strip_suffix("+bias") {
            Some(name) => (name, true),
            None => (s, false),
        };
        let rounding = name
            .parse()
            .map_err(|e| format!("{e}; each may end in +bias, and `best` is the best of them"))?;
        Ok(Start::One(rounding, bias))
    }
}

impl TryFrom<String> for Start {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Start::Best => f.write_str("best"),
            Start::One(w, bias) => write!(f, "{w}{}", if *bias { "+bias" } else { "" }),
        }
    }
}

/// One way to repair: `STRATEGY[:METRIC][:top=N|all][:rounds=N][:draws=N][:starts=N][:seed=N][:solver=S][:strict][:no-weights]`,
/// or `none` to measure what the rounding alone gives. Where commas separate methods, a chain of
/// strategies is written with `+` (`layer+margin`).
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Method {
    /// As it was written.
    pub name: String,
    /// Settings, `None` for no repair at all.
    pub config: Option<RepairConfig>,
    /// Seed in place of the row's.
    pub seed: Option<u64>,
}

impl FromStr for Method {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let name = s.to_string();
        if s == "none" {
            return Ok(Method {
                name,
                config: None,
                seed: None,
            });
        }
        let mut parts = s.split(':');
        let strategy = parts.next().unwrap_or_default().replace('+', ",");
        let mut c = RepairConfig {
            strategy: strategy.parse()?,
            ..RepairConfig::default()
        };
        let mut seed = None;
        for part in parts {
            let number = |n: &str| {
                n.parse()
                    .map_err(|_| format!("method {s:?}: {part} is not a whole number"))
            };
            match part.split_once('=') {
                None if part == "strict" => c.strict = true,
                None if part == "no-weights" => c.weight_steps = false,
                None => c.metric = part.parse().map_err(|e| format!("method {s:?}: {e}"))?,
                Some(("top", "all")) => c.top = Some(usize::MAX),
                Some(("top", n)) => c.top = Some(number(n)?),
                Some(("solver", n)) => {
                    c.solver = n.parse().map_err(|e| format!("method {s:?}: {e}"))?
                }
                Some(("rounds", n)) => c.rounds = number(n)?,
                Some(("draws", n)) => c.draws = number(n)?,
                Some(("starts", n)) => c.starts = number(n)?,
                Some(("seed", n)) => seed = Some(number(n)? as u64),
                Some((key, _)) => {
                    return Err(format!(
                        "method {s:?}: no setting {key}=; known: top, rounds, draws, starts, seed, solver, strict, no-weights and metrics"
                    ));
                }
            }
        }
        Ok(Method {
            name,
            config: Some(c),
            seed,
        })
    }
}

impl TryFrom<String> for Method {
    type Error = String;

    fn try_from(s: String) -> Result<Self, String> {
        s.parse()
    }
}

/// A real number, or a fraction in quotes ("1/255").
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Real")]
pub struct Factor(pub f32);

#[derive(Deserialize)]
#[serde(untagged)]
enum Real {
    Number(f64),
    Text(String),
}

impl TryFrom<Real> for Factor {
    type Error = String;

    fn try_from(r: Real) -> Result<Self, String> {
        match r {
            Real::Number(x) if (x as f32).is_finite() => Ok(Factor(x as f32)),
            Real::Number(x) => Err(format!("{x} is not a finite number")),
            Real::Text(t) => super::super::args::parse_factor(&t)
                .map(Factor)
                .map_err(|e| format!("{t:?}: {e}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::localize::Metric;

    #[test]
    fn methods_are_named_by_strategy_and_settings() {
        let m: Method = "neuron:random:top=10:strict".parse().unwrap();
        let c = m.config.unwrap();
        assert_eq!(c.strategy.to_string(), "neuron");
        assert_eq!(
            (c.metric, c.top, c.strict),
            (Metric::Random, Some(10), true)
        );
        let m: Method = "auto:draws=8:starts=2".parse().unwrap();
        let c = m.config.unwrap();
        assert_eq!((c.draws, c.starts), (8, 2));
        let m: Method = "margin:top=all:rounds=3:no-weights".parse().unwrap();
        let c = m.config.unwrap();
        assert_eq!(
            (c.top, c.rounds, c.weight_steps),
            (Some(usize::MAX), 3, false)
        );
        assert!("none".parse::<Method>().unwrap().config.is_none());
        for bad in [
            "nonsense",
            "margin:nonsense",
            "margin:top=x",
            "margin:sto=1",
        ] {
            assert!(bad.parse::<Method>().is_err(), "{bad}");
        }
    }

    #[test]
    fn widths_and_roundings_read_as_they_print() {
        let w: Width = "4-per-tensor".parse().unwrap();
        assert_eq!((w.bits, w.per_tensor), (4, true));
        assert_eq!(w.to_string(), "4-bit per tensor");
        assert!("5".parse::<Width>().is_err() && "8-per".parse::<Width>().is_err());
        for name in ["nearest", "gptq+bias", "best"] {
            assert_eq!(name.parse::<Start>().unwrap().to_string(), name);
        }
        assert!("bias".parse::<Start>().is_err());
        assert!(Start::Best.candidates().len() >= 4);
    }
}
