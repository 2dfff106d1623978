//! Integer model format, fixed-point arithmetic, kernels and engine.
#![no_std]
#![forbid(unsafe_code)]

pub mod arith;
pub mod image;
pub mod link;
