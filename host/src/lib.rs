//! qmend: takes a trained network to a microcontroller's integers, mends what quantization broke,
//! and proves that the chip computes the same bits.
//!
//! One folder a stage, in the order in which data flows.

pub mod calibrate;
pub mod classes;
pub mod cli;
pub mod compare;
pub mod data;
pub mod device;
pub mod engine;
pub mod export;
pub mod float;
pub mod graph;
pub mod import;
pub mod localize;
pub mod model;
pub mod quantize;
pub mod repair;
pub mod report;
