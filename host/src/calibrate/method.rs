//! How a range is chosen.

use std::fmt;
use std::str::FromStr;

use super::CalibrateError;

/// How the range of a value follows from what was seen of it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Method {
    /// From the smallest to the largest value seen.
    MinMax,
    /// The values between the `100 - p`th and the `p`th percentile. Clips outliers. The network's
    /// input is exempt: its ends are the sensor's, not outliers.
    Percentile(f64),
    /// The range whose 256 levels give the smallest mean squared error over what was seen.
    Mse,
}

impl Default for Method {
    /// Nothing clipped: with eight bits the safest where nothing is known of a network.
    fn default() -> Self {
        Method::MinMax
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::MinMax => f.write_str("minmax"),
            Method::Percentile(p) => write!(f, "percentile:{p}"),
            Method::Mse => f.write_str("mse"),
        }
    }
}

impl FromStr for Method {
    type Err = CalibrateError;

    /// Reads `minmax`, `mse`, `percentile` (99.99) or `percentile:P` with 50 < P <= 100.
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let unknown = || CalibrateError::UnknownMethod(s.to_string());
        match s {
            "minmax" => Ok(Method::MinMax),
            "mse" => Ok(Method::Mse),
            "percentile" => Ok(Method::Percentile(99.99)),
            _ => {
                let p: f64 = s
                    .strip_prefix("percentile:")
                    .and_then(|p| p.parse().ok())
                    .ok_or_else(unknown)?;
                if p > 50.0 && p <= 100.0 {
                    Ok(Method::Percentile(p))
                } else {
                    Err(unknown())
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for m in [Method::MinMax, Method::Mse, Method::Percentile(99.9)] {
            assert_eq!(m.to_string().parse::<Method>().expect("known"), m);
        }
        for bad in [
            "percentile:50",
            "percentile:nan",
            "percentile:101",
            "max",
            "",
        ] {
            assert!(bad.parse::<Method>().is_err(), "{bad}");
        }
    }
}
