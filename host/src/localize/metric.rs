//! Suspiciousness formulas of spectrum-based fault localisation.

use std::fmt;
use std::str::FromStr;

/// The spectrum of one neuron: in how many failing (`f`) and passing (`s`) tests it was activated
/// (`a`) or not (`n`). A neuron counts as *activated* in a test where quantization changed its sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Spectrum {
    /// Activated in a failing test.
    pub caf: u32,
    /// Activated in a passing test.
    pub cas: u32,
    /// Not activated in a failing test.
    pub cnf: u32,
    /// Not activated in a passing test.
    pub cns: u32,
}

/// How a [`Spectrum`] becomes a suspiciousness. An empty denominator scores 0, but in
/// [`Metric::DStar`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Jones & Harrold 2005: `(Caf/(Caf+Cnf)) / (Caf/(Caf+Cnf) + Cas/(Cas+Cns))`.
    Tarantula,
    /// Ochiai 1957: `Caf / sqrt((Caf+Cas)(Caf+Cnf))`.
    Ochiai,
    /// Wong et al. 2014, with exponent 2: `Caf^2 / (Cas+Cnf)`; an empty denominator counts as 1/2.
    DStar,
    /// Jaccard 1901: `Caf / (Caf+Cnf+Cas)`.
    Jaccard,
    /// Dallmeier et al. 2005: `|Caf/(Caf+Cnf) - Cas/(Cas+Cns)|`.
    Ample,
    /// `sqrt(Caf+Cns)`.
    Euclid,
    /// Wong et al. 2007: `Caf - h`, with `h = Cas` up to 2, `2 + 0.1(Cas-2)` up to 10, then
    /// `2.8 + 0.01(Cas-10)`.
    Wong3,
    /// The control: a seeded draw that ignores the spectrum.
    Random,
}

impl Metric {
    /// Every metric, the control last.
    pub const ALL: [Metric; 8] = [
        Metric::Tarantula,
        Metric::Ochiai,
        Metric::DStar,
        Metric::Jaccard,
        Metric::Ample,
        Metric::Euclid,
        Metric::Wong3,
        Metric::Random,
    ];

    /// The suspiciousness of a neuron; larger is more suspicious. [`Metric::Random`] has no
    /// formula and gives 0 here: see [`super::Localization::ranking`].
    pub fn score(self, s: Spectrum) -> f64 {
        let [caf, cas, cnf, cns] = [s.caf, s.cas, s.cnf, s.cns].map(f64::from);
        let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let failing = ratio(caf, caf + cnf);
        let passing = ratio(cas, cas + cns);
        match self {
            Metric::Tarantula => ratio(failing, failing + passing),
            Metric::Ochiai => ratio(caf, ((caf + cas) * (caf + cnf)).sqrt()),
            // Activated in every failing and no passing test is as suspicious as can be: 0 would put
            // it last. One half keeps it above every neuron of as many failing tests.
            Metric::DStar => caf * caf / (cas + cnf).max(0.5),
            Metric::Jaccard => ratio(caf, caf + cnf + cas),
            Metric::Ample => (failing - passing).abs(),
            Metric::Euclid => (caf + cns).sqrt(),
            Metric::Wong3 => {
                let h = if cas <= 2.0 {
                    cas
                } else if cas <= 10.0 {
                    2.0 + 0.1 * (cas - 2.0)
                } else {
                    2.8 + 0.01 * (cas - 10.0)
                };
                caf - h
            }
            Metric::Random => 0.0,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Metric::Tarantula => "tarantula",
            Metric::Ochiai => "ochiai",
            Metric::DStar => "dstar",
            Metric::Jaccard => "jaccard",
            Metric::Ample => "ample",
            Metric::Euclid => "euclid",
            Metric::Wong3 => "wong3",
            Metric::Random => "random",
        })
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        Metric::ALL
            .into_iter()
            .find(|m| m.to_string() == s.to_ascii_lowercase())
            .ok_or_else(|| {
                let names: Vec<_> = Metric::ALL.iter().map(ToString::to_string).collect();
                format!("unknown metric `{s}`; known: {}", names.join(", "))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Spectrum = Spectrum {
        caf: 6,
        cas: 20,
        cnf: 4,
        cns: 70,
    };

    #[test]
    fn each_formula_gives_the_value_worked_out_by_hand() {
        let close = |m: Metric, want: f64| {
            let got = m.score(S);
            assert!((got - want).abs() < 1e-12, "{m}: {got} is not {want}");
        };
        close(Metric::Tarantula, 0.6 / (0.6 + 20.0 / 90.0));
        close(Metric::Ochiai, 6.0 / 260f64.sqrt());
        close(Metric::DStar, 36.0 / 24.0);
        close(Metric::Jaccard, 6.0 / 30.0);
        close(Metric::Ample, 0.6 - 20.0 / 90.0);
        close(Metric::Euclid, 76f64.sqrt());
        close(Metric::Wong3, 6.0 - 2.9);
    }

    #[test]
    fn wong3_changes_slope_at_two_and_at_ten() {
        let h = |cas| {
            -Metric::Wong3.score(Spectrum {
                cas,
                ..Spectrum::default()
            })
        };
        assert_eq!(h(2), 2.0);
        assert!((h(10) - 2.8).abs() < 1e-12);
        assert!((h(110) - 3.8).abs() < 1e-12);
    }

    #[test]
    fn dstar_puts_the_perfect_suspect_first() {
        let perfect = Spectrum {
            caf: 5,
            cas: 0,
            cnf: 0,
            cns: 9,
        };
        let next = Spectrum {
            cas: 1,
            cns: 8,
            ..perfect
        };
        assert!(Metric::DStar.score(perfect) > Metric::DStar.score(next));
        assert!(Metric::DStar.score(perfect).is_finite());
    }

    #[test]
    fn an_empty_spectrum_scores_zero_and_never_nan() {
        for m in Metric::ALL {
            assert_eq!(m.score(Spectrum::default()), 0.0, "{m}");
        }
    }

    #[test]
    fn names_parse_back() {
        for m in Metric::ALL {
            assert_eq!(m.to_string().parse::<Metric>(), Ok(m));
        }
        assert!("nonsense".parse::<Metric>().is_err());
    }
}
