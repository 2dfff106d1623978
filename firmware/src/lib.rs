//! The device agent, and what a board gives it.
//!
//! - [`agent`]: answers the host's requests and runs the model in flash; portable, and the same
//!   code in the tests on a host.
//! - `agent_program`: the program around it, which every board fills in.
//! - [`bench`]: the kernel benchmark's layers; [`kernel_check`]: the kernels against the portable ones.
//!   What the programs that run either do on every emulated board is in `programs`.
//! - [`port`]: the traits that a board implements: bytes in and out, a clock;
//!   its flash implements [`qmend_shared::slot::Storage`].
//! - `cycle_counter`: a clock where the processor counts its own cycles.
//! - [`pages`]: what every flash driver asks before it changes anything.
//! - `rtt`: a link through the debug port.
//! - [`ram_flash`]: RAM in flash's place, where an emulator has none.
//! - `stm32f4_flash`: the flash driver of both boards with such a chip.
//! - `small_division`: division on processors that have none, where flash is scarce.
//! - `boards`: one file a board (only in builds for a microcontroller).
//!
//! To run a model in firmware of your own, none of this is needed: see `examples/`, which uses
//! `qmend_shared` alone.
#![no_std]

pub mod agent;
pub mod bench;
pub mod kernel_check;
pub mod pages;
pub mod port;
pub mod ram_flash;

#[cfg(all(target_arch = "arm", target_os = "none"))]
pub mod agent_program;
#[cfg(all(target_arch = "arm", target_os = "none"))]
pub mod boards;
#[cfg(all(target_arch = "arm", target_os = "none"))]
pub mod cortex_m_port;
#[cfg(all(target_arch = "arm", target_os = "none"))]
pub mod cycle_counter;
#[cfg(target_os = "none")]
pub mod programs;
#[cfg(all(target_arch = "riscv32", target_os = "none"))]
pub mod riscv_port;
#[cfg(all(target_arch = "arm", target_os = "none", feature = "rtt"))]
pub mod rtt;
#[cfg(target_os = "none")]
pub mod semihosting;
#[cfg(all(qmend_mps2 = "an385_m0plus", not(feature = "fast")))]
mod small_division;
#[cfg(all(target_arch = "arm", target_os = "none"))]
pub mod stm32f4_flash;
