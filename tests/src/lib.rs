//! Helpers for the tests in `tests/`, which cross crates.

pub mod golden;
