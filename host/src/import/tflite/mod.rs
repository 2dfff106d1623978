//! Reads networks in TFLite's file format: an int8 one into a
//! [`QuantizedModel`](crate::model::QuantizedModel), so that it gives here the bits that it gives
//! under TensorFlow Lite for Microcontrollers (TFLM); a float one into a
//! [`Graph`](crate::graph::Graph) (`float`).
//!
//! - `flatbuffer`: tables and vectors of any flatbuffer, every access checked against the bytes.
//! - `schema`: the part of TFLite's tables that is used here, by field number.
//! - `names`: what operators are called.
//! - `file`: a file opened, its constants and operators; `problem`: what is wrong with an operator.
//! - `importer`: from the file to the integer network, operator after operator.
//! - `network`: the network as it grows; `call`: what an operator asks of it.
//! - `place`: where in the file weights and biases stand, so that they can be replaced.
//! - `types`: networks of a type of numbers that is not supported.
//! - `ops`: one operator a file; [`supported_operators`] lists them.
//! - `fixed_point`: real multipliers, activation ranges and padding as TFLM prepares them.
//!
//! **Numbers.** Multipliers follow TFLM's `Prepare` functions to the letter: products in f64 where
//! it takes them in f64, in f32 where it takes them in f32 (LiteRT's differ in a few operators, see
//! [`import_tflite_int8_as`]). Element-wise functions become tables of
//! 256 entries, filled by the integer algorithm of TFLM's reference kernel.
//!
//! **Layout.** The batch (the first axis, which must be 1) is dropped: `[1, h, w, c]` becomes
//! `[h, w, c]`, `[1, w, c]` becomes `[1, w, c]`, `[1, c]` becomes `[1, 1, c]`. Between reshapes there
//! may be matrices without a batch: `[n, c]` becomes `[1, n, c]`, `[n, w, c]` stays as it is.
//!
//! **Ends.** uint8 inputs and outputs are taken as int8, 128 lower, which is the same real number;
//! QUANTIZE of a float input and DEQUANTIZE into a float output fall away.
//!
//! Nothing in a file is trusted: offsets, counts and shapes are checked before use, no structure is
//! walked recursively, and what is allocated is bounded by the size of the file and fixed limits.
#![forbid(unsafe_code)]

mod call;
mod error;
mod file;
mod fixed_point;
mod flatbuffer;
mod float;
mod importer;
mod names;
mod network;
mod ops;
pub(crate) mod place;
mod problem;
mod schema;
mod types;

pub use error::{TfliteError, UnsupportedOperator};
pub(crate) use fixed_point::fused_activation;
pub use float::{import_tflite_float, supported_float_operators};
pub(crate) use importer::read;
pub use importer::{import_tflite_int8, import_tflite_int8_as};
pub use ops::supported_operators;
pub(crate) use ops::{kernel_table, nearest_positions};
pub(crate) use schema::{code as schema_codes, options as schema_options};

/// Whether bytes start like a TFLite file (identifier `TFL3` behind the root's offset).
pub fn is_tflite(bytes: &[u8]) -> bool {
    bytes.get(4..8) == Some(b"TFL3")
}

#[cfg(test)]
pub(crate) mod builder;
#[cfg(test)]
mod tests;
