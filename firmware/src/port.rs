//! What a board gives the agent, besides its flash ([`qmend_shared::slot::Storage`]).

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

    /// Whether a tick is a cycle of the processor.
    fn counts_cycles(&self) -> bool {
        false
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
