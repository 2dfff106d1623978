//! What a board gives the agent, besides its flash ([`qmend_shared::slot::Storage`]).

use qmend_shared::link::ClockKind;
use qmend_shared::slot::Layout;

/// Bytes to and from the host.
pub trait Link {
    /// Why no byte can come any more.
    type Error;

    /// The next byte; waits for it.
    fn read(&mut self) -> Result<u8, Self::Error>;

    /// Sends all bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
}

/// Clock and stack gauge.
pub trait Meter {
    /// Clock frequency in Hz.
    fn ticks_per_second(&self) -> u32;

    /// What a tick is.
    fn kind(&self) -> ClockKind {
        ClockKind::Other
    }

    /// Starts counting from zero.
    fn start(&mut self);

    /// Stops counting; the ticks since [`Meter::start`].
    fn stop(&mut self) -> u64;

    /// Forgets how deep the stack has been.
    fn reset_stack(&mut self) {}

    /// Deepest stack since [`Meter::reset_stack`], and the size of the stack that is watched, in
    /// bytes; zeros where unknown.
    fn stack(&self) -> (u32, u32) {
        (0, 0)
    }
}

/// Facts about the board that [`crate::agent`] hands on.
#[derive(Clone, Copy, Debug)]
pub struct BoardInfo {
    /// As in the board's file name.
    pub board: &'static str,
    /// For people.
    pub core: &'static str,
    /// Code and constants in bytes; 0 where unknown.
    pub code_bytes: u32,
    /// Where images and records lie in the board's storage.
    pub layout: Layout,
    /// Address of the storage's first byte.
    pub flash_address: u32,
}

/// The number nearest to `about` whose lower 32 bits are `low`.
pub fn nearest_with_low_bits(about: u64, low: u32) -> u64 {
    let off = low.wrapping_sub(about as u32) as i32;
    about.saturating_add_signed(off.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_went_round_is_found_by_one_that_is_nearly_right() {
        for exact in [
            0_u64,
            1000,
            0xFFFF_FFFF,
            0x1_0000_0000,
            0x7_8000_0001,
            1 << 55,
        ] {
            for off in [0, 1, -1, 40, -40] {
                if let Some(about) = exact.checked_add_signed(off) {
                    assert_eq!(nearest_with_low_bits(about, exact as u32), exact);
                }
            }
        }
    }
}
