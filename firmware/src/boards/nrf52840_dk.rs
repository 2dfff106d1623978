//! nRF52840 development kit (PCA10056): Cortex-M4, 1 MiB of flash, 256 KiB of RAM.
//!
//! Link: UART0 on the pins that the kit's debugger serves (P0.06, P0.08; 115,200 baud, 8 bits, no
//! parity). Slots: the upper 768 KiB of flash, in pages of 4 KiB. Clock: SysTick at the processor's
//! 64 MHz. By `nrf52840-hal`. It has run on a model of the chip (`tests/python/chips`) and not on a kit.

use core::convert::Infallible;
use core::slice;

use nrf52840_hal::clocks::Clocks;
use nrf52840_hal::gpio::{Level, p0};
use nrf52840_hal::pac::{CLOCK, NVMC, P0, Peripherals, UART0};
use qmend_shared::slot::boards::NRF52840_DK;
use qmend_shared::slot::{Sector, Storage, StorageError};

use crate::cortex_m_port::{Register, code_bytes};
use crate::pages::{sector_at, whole_words};
use crate::port::{BoardInfo, Link};

/// Frequency of the processor and of SysTick.
pub const CLOCK_HZ: u32 = 64_000_000;

/// Bytes for arena, input, output and a kept tensor.
pub const POOL_BYTES: usize = 200 * 1024;

const PAGE: u32 = 4096;
const SLOTS_BYTES: usize = 768 * 1024;

/// What the agent says about this board.
pub fn info() -> BoardInfo {
    BoardInfo {
        board: NRF52840_DK.name,
        core: "Cortex-M4",
        code_bytes: code_bytes(),
        layout: NRF52840_DK.layout,
        flash_address: NRF52840_DK.address,
    }
}

/// UART0, the one without direct memory access: of the other, whose reception ends with each block,
/// bytes between two blocks would be lost.
pub struct Uart(UART0);

impl Uart {
    /// Starts the crystal oscillator, which the baud rate needs, and the UART.
    pub fn start(clock: CLOCK, pins: P0, uart: UART0) -> Self {
        Clocks::new(clock).enable_ext_hfosc();
        let pins = p0::Parts::new(pins);
        let sends = pins.p0_06.into_push_pull_output(Level::High).degrade();
        let receives = pins.p0_08.into_floating_input().degrade();
        // SAFETY: numbers of pins of port 0, which these registers take.
        unsafe {
            uart.psel.txd.write(|w| w.bits(sends.psel_bits()));
            uart.psel.rxd.write(|w| w.bits(receives.psel_bits()));
        }
        uart.baudrate.write(|w| w.baudrate().baud115200());
        uart.config
            .write(|w| w.hwfc().disabled().parity().excluded());
        uart.enable.write(|w| w.enable().enabled());
        uart.events_rxdrdy.reset();
        // SAFETY: ones start tasks.
        unsafe {
            uart.tasks_startrx.write(|w| w.bits(1));
            uart.tasks_starttx.write(|w| w.bits(1));
        }
        Self(uart)
    }

    /// The UART again, to report a panic.
    ///
    /// # Safety
    /// Nothing else uses it any more.
    pub unsafe fn steal() -> Self {
        // SAFETY: by contract.
        let p = unsafe { Peripherals::steal() };
        Self::start(p.CLOCK, p.P0, p.UART0)
    }
}

impl Link for Uart {
    type Error = Infallible;

    fn read(&mut self) -> Result<u8, Infallible> {
        // Lost bytes and wrong stop bits spoil a frame, whose CRC tells; reception goes on.
        while self.0.events_rxdrdy.read().bits() == 0 {}
        // Before the byte is taken: the next one in the queue sets it again.
        self.0.events_rxdrdy.reset();
        Ok(self.0.rxd.read().rxd().bits())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        for &byte in bytes {
            self.0.events_txdrdy.reset();
            // SAFETY: any byte is sent.
            self.0.txd.write(|w| unsafe { w.txd().bits(byte) });
            while self.0.events_txdrdy.read().bits() == 0 {}
        }
        Ok(())
    }
}

/// The upper flash and its controller.
pub struct Flash(NVMC);

impl Flash {
    /// The slots' flash.
    pub fn new(controller: NVMC) -> Self {
        Self(controller)
    }

    fn wait(&self) {
        while self.0.ready.read().ready().bit_is_clear() {}
    }
}

// Not by the layer's `Nvmc`: it writes through a `&'static mut [u8]` over flash, beside which the view
// that a model is read by could not be.
impl Storage for Flash {
    fn bytes(&self) -> &[u8] {
        // SAFETY: flash is mapped here and readable. It changes only through `&mut self`, which
        // holds the one controller.
        unsafe { slice::from_raw_parts(NRF52840_DK.address as *const u8, SLOTS_BYTES) }
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
        self.wait();
        self.0.config.write(|w| w.wen().een());
        let address = NRF52840_DK.address + sector.start;
        // SAFETY: a page of the slots, which are ours to erase.
        self.0.erasepage().write(|w| unsafe { w.bits(address) });
        self.wait();
        self.0.config.write(|w| w.wen().ren());
        Ok(())
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), StorageError> {
        whole_words(offset, data, SLOTS_BYTES)?;
        self.wait();
        self.0.config.write(|w| w.wen().wen());
        for (i, word) in data.as_chunks::<4>().0.iter().enumerate() {
            let address = NRF52840_DK.address + offset + 4 * i as u32;
            // SAFETY: inside the slots' flash, which is ours to write.
            unsafe { Register::at(address as usize) }.set(u32::from_le_bytes(*word));
            self.wait();
        }
        self.0.config.write(|w| w.wen().ren());
        Ok(())
    }
}
