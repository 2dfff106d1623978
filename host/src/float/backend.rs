//! Which of Burn's CPU backends computes.

use super::FloatError;
use burn_tensor::Device;
use std::fmt;
use std::str::FromStr;

/// A CPU backend of Burn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// burn-flex, always there.
    #[default]
    Flex,
    /// burn-ndarray, built with the feature `ndarray`.
    #[cfg(feature = "ndarray")]
    NdArray,
}

impl Backend {
    /// Every backend of this build.
    pub const ALL: &[Backend] = &[
        Backend::Flex,
        #[cfg(feature = "ndarray")]
        Backend::NdArray,
    ];

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Flex => "flex",
            #[cfg(feature = "ndarray")]
            Backend::NdArray => "ndarray",
        }
    }

    // Deprecated upstream in favour of flex, and kept here to check flex against.
    #[cfg_attr(feature = "ndarray", expect(deprecated))]
    pub(crate) fn device(self) -> Device {
        match self {
            Backend::Flex => Device::flex(),
            #[cfg(feature = "ndarray")]
            Backend::NdArray => Device::ndarray(),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Backend {
    type Err = FloatError;

    fn from_str(name: &str) -> Result<Self, FloatError> {
        if let Some(found) = Backend::ALL.iter().find(|b| b.name() == name) {
            return Ok(*found);
        }
        match name {
            "ndarray" => Err(FloatError::BackendNotBuilt { name: "ndarray" }),
            _ => Err(FloatError::UnknownBackend {
                name: name.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_found_by_its_printed_name() {
        for &b in Backend::ALL {
            assert_eq!(b.to_string().parse::<Backend>().unwrap(), b);
        }
    }

    #[test]
    fn an_unknown_backend_is_refused_with_the_known_ones() {
        let e = "cuda".parse::<Backend>().unwrap_err().to_string();
        assert!(e.contains("`cuda`") && e.contains("flex"), "{e}");
    }

    #[cfg(not(feature = "ndarray"))]
    #[test]
    fn a_backend_that_was_not_built_says_how_to_build_it() {
        let e = "ndarray".parse::<Backend>().unwrap_err().to_string();
        assert!(e.contains("--features ndarray"), "{e}");
    }
}
