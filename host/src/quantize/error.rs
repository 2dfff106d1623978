//! What can stand against quantization.

use crate::engine::EngineError;

/// Why a network could not be quantized.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantizeError {
    /// A width that no kernel knows.
    #[error("{bits}-bit weights{for_layer}; there are 8, 4, 3 and 2")]
    Bits {
        /// What was asked for.
        bits: u8,
        /// " for layer 'name'", or nothing.
        for_layer: String,
    },
    /// A setting names a layer that is not there.
    #[error("no layer with weights is called '{name}'; there are {known}")]
    UnknownLayer {
        /// What was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// A setting's word is not known.
    #[error("unknown {setting} '{got}'; there are {known}")]
    UnknownWord {
        /// Which setting.
        setting: &'static str,
        /// What was asked for.
        got: String,
        /// What there is.
        known: &'static str,
    },
    /// A value has no range.
    #[error("value '{value}' was not calibrated; calibrate the same network that is quantized")]
    NotCalibrated {
        /// Its name.
        value: String,
    },
    /// Bias correction without what it needs.
    #[error(
        "node '{node}': bias correction needs the float means and the calibration samples behind them; \
         take both from calibrate(), or leave bias correction out"
    )]
    NoMeans {
        /// The linear node.
        node: String,
    },
    /// A method that looks at samples, without any.
    #[error("{method} needs calibration samples, and there are none")]
    NoSamples {
        /// The method.
        method: &'static str,
    },
    /// The samples do not fill a whole number of inputs.
    #[error("{got} calibration values are not a whole number of inputs of shape {shape:?}")]
    Length {
        /// Number of values.
        got: usize,
        /// The network's input.
        shape: [usize; 3],
    },
    /// A parameter is infinite or not a number.
    #[error("node '{node}': a {what} is {found}; the model file is damaged or training diverged")]
    NotFinite {
        /// Node name.
        node: String,
        /// Weight, bias, scale.
        what: &'static str,
        /// What was found.
        found: f32,
    },
    /// Sizes within a node do not fit together.
    #[error("node '{node}' ({kind}): {what}")]
    Shape {
        /// Node name.
        node: String,
        /// Operator.
        kind: &'static str,
        /// What does not fit.
        what: String,
    },
    /// A channel that no weight scale can hold in 32 bits.
    #[error(
        "node '{node}', output channel {channel}: no weight scale keeps the accumulator in 32 bits (real bias {bias}, \
         input scale {input_scale}); look for a wrong bias, or give the layer 8-bit weights"
    )]
    Channel {
        /// Node name.
        node: String,
        /// Output channel.
        channel: usize,
        /// Its bias.
        bias: f32,
        /// Scale of the input tensor.
        input_scale: f32,
    },
    /// A ratio of scales is out of what a multiplier holds.
    #[error(
        "node '{node}': the multiplier {ratio:e} does not fit (below 2^30); the output's range is far too narrow for \
         its inputs: calibrate with samples like the real ones"
    )]
    Multiplier {
        /// Node name.
        node: String,
        /// The real multiplier.
        ratio: f64,
    },
    /// The integer network is not sound.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
