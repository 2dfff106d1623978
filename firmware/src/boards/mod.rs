//! One file a board: its link, its slot, its clock. Its memory is in the `.x` file beside it.

pub mod microbit;
pub mod mps2_an386;
pub mod stm32f405;
