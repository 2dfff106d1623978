//! Helpers for the tests in `tests/`, which cross crates.
<<<<<<< HEAD
//!
//! - [`random_model`]: integer networks that cover every operator and its edges.
//! - [`in_process`]: the agent's own code on a thread, behind a pipe that may be noisy.
//! - [`emulator`]: the emulated device, or a printed reason why it is not there.

pub mod emulator;
pub mod in_process;
pub mod random_model;
=======

pub mod golden;
>>>>>>> h-tflite
