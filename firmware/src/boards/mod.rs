//! One file a board: its link, its slot, its clock. Its memory is in the `.x` file beside it.
//!
//! Those behind a feature of their name use the hardware abstraction layer of their chip.

pub mod microbit;
pub mod mps2;
#[cfg(feature = "nrf52840-dk")]
pub mod nrf52840_dk;
#[cfg(feature = "nucleo-f411re")]
pub mod nucleo_f411re;
#[cfg(feature = "pico")]
pub mod pico;
pub mod stm32f405;
