//! Raspberry Pi Pico: RP2040 (Cortex-M0+, used on one core), 2 MiB of flash, 264 KiB of RAM.
//!
//! Link: UART0 on GP0 and GP1 (115,200 baud, 8 bits, no parity). Slots: the upper 1.5 MiB of flash, in
//! sectors of 4 KiB, by the functions in the chip's ROM. Clock: SysTick at the processor's 125 MHz.
//! By `rp2040-hal`. It has run on a model of the chip (`tests/python/chips`) and not on a board.

use core::convert::Infallible;
use core::slice;

use qmend_shared::slot::boards::PICO;
use qmend_shared::slot::{Sector, Storage, StorageError};
use rp2040_hal::clocks::{Clock, init_clocks_and_plls};
use rp2040_hal::fugit::RateExtU32;
use rp2040_hal::gpio::bank0::{Gpio0, Gpio1};
use rp2040_hal::gpio::{FunctionUart, Pin, Pins, PullDown};
use rp2040_hal::pac::{Peripherals, UART0};
use rp2040_hal::uart::{DataBits, Enabled, StopBits, UartConfig, UartPeripheral};
use rp2040_hal::{Sio, Watchdog, rom_data};

use crate::cortex_m_port::code_bytes;
use crate::pages::{sector_at, whole_words};
use crate::port::{BoardInfo, Link};

/// The crystal.
const CRYSTAL_HZ: u32 = 12_000_000;

/// Frequency of the processor and of SysTick.
pub const CLOCK_HZ: u32 = 125_000_000;

/// Bytes for arena, input, output and a kept tensor.
pub const POOL_BYTES: usize = 200 * 1024;

const SECTOR: u32 = 4096;
const SLOTS_BYTES: usize = 1536 * 1024;

/// What the agent says about this board.
pub fn info() -> BoardInfo {
    BoardInfo {
        board: PICO.name,
        core: "Cortex-M0+",
        code_bytes: code_bytes(),
        layout: PICO.layout,
        flash_address: PICO.address,
    }
}

/// The second stage of the boot loader, for the flash chip of the Pico.
#[unsafe(link_section = ".boot2")]
#[used]
static BOOT2: [u8; 256] = rp2040_boot2::BOOT_LOADER_W25Q080;

type Driver = UartPeripheral<
    Enabled,
    UART0,
    (
        Pin<Gpio0, FunctionUart, PullDown>,
        Pin<Gpio1, FunctionUart, PullDown>,
    ),
>;

/// UART0.
pub struct Uart(Driver);

impl Uart {
    /// Starts crystal, clocks and UART; `None` where the crystal does not start.
    pub fn start(chip: Peripherals) -> Option<Self> {
        let mut resets = chip.RESETS;
        let mut watchdog = Watchdog::new(chip.WATCHDOG);
        let clocks = init_clocks_and_plls(
            CRYSTAL_HZ,
            chip.XOSC,
            chip.CLOCKS,
            chip.PLL_SYS,
            chip.PLL_USB,
            &mut resets,
            &mut watchdog,
        )
        .ok()?;
        let sio = Sio::new(chip.SIO);
        let pins = Pins::new(chip.IO_BANK0, chip.PADS_BANK0, sio.gpio_bank0, &mut resets);
        let pins = (pins.gpio0.into_function(), pins.gpio1.into_function());
        let config = UartConfig::new(115_200.Hz(), DataBits::Eight, None, StopBits::One);
        UartPeripheral::new(chip.UART0, pins, &mut resets)
            .enable(config, clocks.peripheral_clock.freq())
            .ok()
            .map(Self)
    }
}

impl Link for Uart {
    type Error = Infallible;

    fn read(&mut self) -> Result<u8, Infallible> {
        let mut byte = [0];
        // Overruns and wrong stop bits spoil a frame, whose CRC tells.
        while self.0.read_full_blocking(&mut byte).is_err() {}
        Ok(byte[0])
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        self.0.write_full_blocking(bytes);
        Ok(())
    }
}

/// The upper flash.
pub struct Flash(());

/// The functions in ROM that change flash, found before: while it is changed, nothing can be read
/// from it, these addresses included.
#[derive(Clone, Copy)]
struct Rom {
    connect: unsafe extern "C" fn(),
    leave_xip: unsafe extern "C" fn(),
    erase: unsafe extern "C" fn(u32, usize, u32, u8),
    program: unsafe extern "C" fn(u32, *const u8, usize),
    flush: unsafe extern "C" fn(),
    enter_xip: unsafe extern "C" fn(),
}

/// Erases the sector at `offset` from flash's first byte where `data` is none, else programs a page.
/// In RAM, since flash cannot be read meanwhile. (RP2040 datasheet, 2.8.3.1.3.)
///
/// # Safety
/// Interrupts are off, `offset` is a sector's or a page's, and `data` is in RAM.
#[inline(never)]
#[unsafe(link_section = ".data.change_flash")]
unsafe fn change_flash(rom: &Rom, offset: u32, data: Option<&[u8; PAGE]>) {
    const SECTOR_ERASE: u8 = 0x20;
    // SAFETY: by contract; the functions are in ROM.
    unsafe {
        (rom.connect)();
        (rom.leave_xip)();
        match data {
            None => (rom.erase)(offset, SECTOR as usize, SECTOR, SECTOR_ERASE),
            Some(data) => (rom.program)(offset, data.as_ptr(), PAGE),
        }
        (rom.flush)();
        (rom.enter_xip)();
    }
}

/// What is programmed at once.
const PAGE: usize = 256;

impl Flash {
    /// The slots' flash.
    ///
    /// # Safety
    /// Called once; nothing else writes flash, and the other core does not run.
    pub unsafe fn new() -> Self {
        Self(())
    }

    fn change(&mut self, offset: u32, data: Option<&[u8; PAGE]>) {
        const FLASH: u32 = 0x1000_0000;
        let rom = Rom {
            connect: rom_data::connect_internal_flash::ptr(),
            leave_xip: rom_data::flash_exit_xip::ptr(),
            erase: rom_data::flash_range_erase::ptr(),
            program: rom_data::flash_range_program::ptr(),
            flush: rom_data::flash_flush_cache::ptr(),
            enter_xip: rom_data::flash_enter_cmd_xip::ptr(),
        };
        let offset = PICO.address - FLASH + offset;
        // SAFETY: interrupts are off; both callers give whole sectors or pages of the slots, and a
        // page on the stack.
        cortex_m::interrupt::free(|_| unsafe { change_flash(&rom, offset, data) });
    }
}

impl Storage for Flash {
    fn bytes(&self) -> &[u8] {
        // SAFETY: flash is mapped here and readable. It changes only through `&mut self`, by the
        // contract of `new`.
        unsafe { slice::from_raw_parts(PICO.address as *const u8, SLOTS_BYTES) }
    }

    fn write_unit(&self) -> usize {
        4
    }

    fn sector(&self, offset: u32) -> Option<Sector> {
        sector_at(offset, SECTOR, SLOTS_BYTES)
    }

    fn erase(&mut self, sector: Sector) -> Result<(), StorageError> {
        if self.sector(sector.start) != Some(sector) {
            return Err(StorageError);
        }
        self.change(sector.start, None);
        Ok(())
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), StorageError> {
        whole_words(offset, data, SLOTS_BYTES)?;
        let (mut at, mut rest) = (offset as usize, data);
        while !rest.is_empty() {
            let within = at % PAGE;
            let (now, later) = rest.split_at(rest.len().min(PAGE - within));
            // Bits that are programmed as ones stay what they are.
            let mut page = [0xff; PAGE];
            page[within..within + now.len()].copy_from_slice(now);
            self.change((at - within) as u32, Some(&page));
            at += now.len();
            rest = later;
        }
        Ok(())
    }
}
