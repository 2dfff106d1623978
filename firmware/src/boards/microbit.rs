//! BBC micro:bit, version 1: nRF51822 (Cortex-M0, 256 KiB of flash, 16 KiB of RAM).
//!
//! Link: the UART that its USB bridge serves (P0.24, P0.25; 115,200 baud, 8 bits, no parity). Slots: the upper
//! 160 KiB of flash, in pages of 1 KiB. Clock: TIMER0 at 16 MHz, the processor's own frequency; the
//! chip has neither SysTick nor a cycle counter. Registers: "nRF51 Series Reference Manual" 3.0.

use core::convert::Infallible;
use core::slice;

use qmend_shared::link::ClockKind;
use qmend_shared::slot::boards::MICROBIT;
use qmend_shared::slot::{Sector, Storage, StorageError};

use crate::cortex_m_port::{Register, code_bytes, paint_stack, painted_stack};
use crate::pages::{sector_at, whole_words};
use crate::port::{BoardInfo, Link, Meter};

/// Bytes for arena, input, output and a kept tensor.
pub const POOL_BYTES: usize = if cfg!(feature = "signed") {
    4 * 1024
} else {
    12 * 1024
};

const CLOCK_HZ: u32 = 16_000_000;
const PAGE: u32 = 1024;
const SLOTS_BYTES: usize = 160 * 1024;

/// What the agent says about this board.
pub fn info() -> BoardInfo {
    BoardInfo {
        board: MICROBIT.name,
        core: "Cortex-M0",
        code_bytes: code_bytes(),
        layout: MICROBIT.layout,
        flash_address: MICROBIT.address,
    }
}

const fn register(address: usize) -> Register {
    // SAFETY: only peripheral registers of this chip are named below; none moves memory.
    unsafe { Register::at(address) }
}

mod uart {
    use super::{Register, register};
    pub const START_RX: Register = register(0x4000_2000);
    pub const START_TX: Register = register(0x4000_2008);
    pub const RX_READY: Register = register(0x4000_2108);
    pub const TX_READY: Register = register(0x4000_211C);
    pub const ERROR: Register = register(0x4000_2124);
    pub const ERROR_SOURCE: Register = register(0x4000_2480);
    pub const ENABLE: Register = register(0x4000_2500);
    pub const PIN_TX: Register = register(0x4000_250C);
    pub const PIN_RX: Register = register(0x4000_2514);
    pub const RX: Register = register(0x4000_2518);
    pub const TX: Register = register(0x4000_251C);
    pub const BAUD: Register = register(0x4000_2524);
}

/// UART0.
pub struct Uart(());

impl Uart {
    /// Starts the crystal oscillator, which the baud rate needs, and the UART.
    pub fn start() -> Self {
        const CLOCK_START: Register = register(0x4000_0000);
        const CLOCK_STARTED: Register = register(0x4000_0100);
        CLOCK_START.set(1);
        CLOCK_STARTED.wait_for(1);
        // P0.24 is an output, high while nothing is sent.
        const OUT_SET: Register = register(0x5000_0508);
        const DIR_SET: Register = register(0x5000_0518);
        OUT_SET.set(1 << 24);
        DIR_SET.set(1 << 24);
        uart::PIN_TX.set(24);
        uart::PIN_RX.set(25);
        uart::BAUD.set(0x01D7_E000);
        uart::ENABLE.set(4);
        uart::RX_READY.set(0);
        uart::START_RX.set(1);
        uart::START_TX.set(1);
        // QEMU 7.2 does not look at its end of the line again when reception starts; the start of a
        // timer makes it look. The chip does not mind.
        timer::START.set(1);
        timer::STOP.set(1);
        Self(())
    }
}

impl Link for Uart {
    type Error = Infallible;

    fn read(&mut self) -> Result<u8, Infallible> {
        while uart::RX_READY.get() == 0 {
            // An overrun or a wrong stop bit spoils a frame, whose CRC tells; reception goes on.
            if uart::ERROR.get() != 0 {
                uart::ERROR.set(0);
                uart::ERROR_SOURCE.set(0xf);
            }
        }
        // Before the byte is taken: the next one in the queue sets it again.
        uart::RX_READY.set(0);
        Ok(uart::RX.get() as u8)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        for &byte in bytes {
            uart::TX_READY.set(0);
            uart::TX.set(byte.into());
            uart::TX_READY.wait_for(1);
        }
        Ok(())
    }
}

/// The upper flash and its controller, NVMC.
pub struct Flash(());

impl Flash {
    /// The slots' flash.
    ///
    /// # Safety
    /// Called once; nothing else writes flash.
    pub unsafe fn new() -> Self {
        Self(())
    }
}

const READY: Register = register(0x4001_E400);
const CONFIG: Register = register(0x4001_E504);
const ERASE_PAGE: Register = register(0x4001_E508);
const READ_ONLY: u32 = 0;
const WRITE: u32 = 1;
const ERASE: u32 = 2;

/// Does `change` with the controller in a mode, in which the processor waits while flash is busy.
fn in_mode(mode: u32, change: impl FnOnce()) {
    READY.wait_for(1);
    CONFIG.set(mode);
    READY.wait_for(1);
    change();
    READY.wait_for(1);
    CONFIG.set(READ_ONLY);
    READY.wait_for(1);
}

impl Storage for Flash {
    fn bytes(&self) -> &[u8] {
        // SAFETY: flash is mapped here and readable. It changes only through `&mut self`, by the
        // contract of `new`.
        unsafe { slice::from_raw_parts(MICROBIT.address as *const u8, SLOTS_BYTES) }
    }

    fn write_unit(&self) -> usize {
        4
    }

    fn sector(&self, offset: u32) -> Option<Sector> {
        sector_at(offset, PAGE, SLOTS_BYTES)
    }

    fn erase(&mut self, sector: Sector) -> Result<(), StorageError> {
        if self.sector(sector.start) != Some(sector) {
            return Err(StorageError);
        }
        in_mode(ERASE, || ERASE_PAGE.set(MICROBIT.address + sector.start));
        Ok(())
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), StorageError> {
        whole_words(offset, data, SLOTS_BYTES)?;
        in_mode(WRITE, || {
            for (i, word) in data.as_chunks::<4>().0.iter().enumerate() {
                let address = MICROBIT.address + offset + 4 * i as u32;
                // SAFETY: inside the slots' flash, which is ours to write.
                unsafe { Register::at(address as usize) }.set(u32::from_le_bytes(*word));
                READY.wait_for(1);
            }
        });
        Ok(())
    }
}

/// TIMER0 and the stack's paint.
pub struct Timer(());

mod timer {
    use super::{Register, register};
    pub const START: Register = register(0x4000_8000);
    pub const STOP: Register = register(0x4000_8004);
    pub const CLEAR: Register = register(0x4000_800C);
    pub const CAPTURE: Register = register(0x4000_8040);
    pub const MODE: Register = register(0x4000_8504);
    pub const BIT_MODE: Register = register(0x4000_8508);
    pub const PRESCALER: Register = register(0x4000_8510);
    pub const CAPTURED: Register = register(0x4000_8540);
}

impl Timer {
    /// Sets it to count 32 bits at 16 MHz: 268 seconds.
    pub fn new() -> Self {
        timer::MODE.set(0);
        timer::BIT_MODE.set(3);
        timer::PRESCALER.set(0);
        Self(())
    }
}

impl Default for Timer {
    fn default() -> Self {
        Self::new()
    }
}

impl Meter for Timer {
    fn ticks_per_second(&self) -> u32 {
        CLOCK_HZ
    }

    fn kind(&self) -> ClockKind {
        // The timer runs at the processor's frequency, of the same oscillator.
        ClockKind::Timer
    }

    fn start(&mut self) {
        timer::CLEAR.set(1);
        timer::START.set(1);
    }

    fn stop(&mut self) -> u64 {
        timer::CAPTURE.set(1);
        timer::STOP.set(1);
        timer::CAPTURED.get().into()
    }

    fn reset_stack(&mut self) {
        paint_stack();
    }

    fn stack(&self) -> (u32, u32) {
        painted_stack()
    }
}
