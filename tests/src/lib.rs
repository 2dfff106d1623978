//! Helpers for the tests in `tests/`, which cross crates.
//!
//! - [`random_model`]: integer networks that cover every operator and its edges.
//! - [`float_networks`]: float networks around every operator, to be quantized.
//! - [`golden`]: recorded outputs of other people's kernels.
//! - [`recorded`]: the networks that they belong to.
//! - [`in_process`]: the agent's own code on a thread, behind a pipe that may be noisy.
//! - [`litert`]: LiteRT and TFLM, through Python, or a printed reason why it is not there.
//! - [`chip`]: agents on models of chips that no emulator has, or a printed reason why they are not there.
//! - [`committed`]: flash contents as a programmer may write them.
//! - [`emulator`]: the emulated device, or a printed reason why it is not there.

pub mod chip;
pub mod committed;
pub mod emulator;
pub mod float_networks;
pub mod golden;
pub mod in_process;
pub mod litert;
pub mod random_model;
pub mod recorded;
