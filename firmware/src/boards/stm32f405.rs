//! STM32F405 (Cortex-M4, 1 MiB of flash, 128 KiB of RAM), as on the Netduino Plus 2.
//!
//! Link: USART1 (PA9, PA10; 115,200 baud, 8 bits, no parity). Slots: flash sectors 6 to 11, records in sectors 1
//! and 2 ([`STM32F405`]). Clock: SysTick at the internal oscillator's 16 MHz, from which the chip
//! starts and on which it stays. Registers: STMicroelectronics RM0090, sections 7.3, 8.4, 30.6.
//!
//! QEMU's `netduinoplus2` models the USART and neither the flash controller nor the clock tree: there
//! [`emulated`] stands in, with slots in RAM.

use core::convert::Infallible;

use qmend_shared::slot::boards::STM32F405;

use crate::cortex_m_port::{Register, code_bytes};
use crate::port::{BoardInfo, Link};
use crate::stm32f4_flash::Stm32f4Flash;

/// Frequency of the processor, SysTick and the peripherals.
pub const CLOCK_HZ: u32 = 16_000_000;

/// Bytes for arena, input, output and a kept tensor.
pub const POOL_BYTES: usize = 100 * 1024;

/// What the agent says about this board.
pub fn info() -> BoardInfo {
    BoardInfo {
        board: STM32F405.name,
        core: "Cortex-M4",
        code_bytes: code_bytes(),
        layout: STM32F405.layout,
        flash_address: STM32F405.address,
    }
}

const fn register(address: usize) -> Register {
    // SAFETY: only peripheral registers of this chip are named below; none moves memory.
    unsafe { Register::at(address) }
}

/// USART1.
pub struct Uart(());

const STATUS: Register = register(0x4001_1000);
const DATA: Register = register(0x4001_1004);
const RECEIVED: u32 = 1 << 5;
const ROOM_TO_SEND: u32 = 1 << 7;

impl Uart {
    /// Gives the USART its clock and pins and starts it.
    pub fn start() -> Self {
        const AHB1_ENABLE: Register = register(0x4002_3830);
        const APB2_ENABLE: Register = register(0x4002_3844);
        const PINS_MODE: Register = register(0x4002_0000);
        const PINS_FUNCTION: Register = register(0x4002_0024);
        const BAUD: Register = register(0x4001_1008);
        const CONTROL: Register = register(0x4001_100C);
        AHB1_ENABLE.set(AHB1_ENABLE.get() | 1);
        APB2_ENABLE.set(APB2_ENABLE.get() | 1 << 4);
        // Pins 9 and 10 of port A: alternate function 7.
        PINS_MODE.set(PINS_MODE.get() & !(0b1111 << 18) | 0b1010 << 18);
        PINS_FUNCTION.set(PINS_FUNCTION.get() & !(0xff << 4) | 0x77 << 4);
        BAUD.set((CLOCK_HZ + 57_600) / 115_200);
        CONTROL.set(1 << 13 | 1 << 3 | 1 << 2);
        Self(())
    }
}

impl Link for Uart {
    type Error = Infallible;

    fn read(&mut self) -> Result<u8, Infallible> {
        // Reading status and data also clears an overrun, whose frame the CRC gives away.
        STATUS.wait_for(RECEIVED);
        Ok(DATA.get() as u8)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        for &byte in bytes {
            STATUS.wait_for(ROOM_TO_SEND);
            DATA.set(byte.into());
        }
        Ok(())
    }
}

/// All of flash, and its controller.
pub type Flash = Stm32f4Flash<{ 1 << 20 }>;

/// What differs where QEMU's `netduinoplus2` stands in for the chip.
pub mod emulated {
    use qmend_shared::slot::{Layout, Region, SlotLayout};

    use super::{BoardInfo, code_bytes};
    use crate::ram_flash::RamFlash;

    /// Frequency at which the emulator's SysTick counts.
    pub const CLOCK_HZ: u32 = 168_000_000;
    /// Bytes for arena, input, output and a kept tensor.
    pub const POOL_BYTES: usize = 48 * 1024;
    const SLOTS_BYTES: usize = 2 * (IMAGE + SECTOR) as usize;

    const SECTOR: u32 = 1024;
    const IMAGE: u32 = 24 * 1024;

    const fn slot(start: u32) -> SlotLayout {
        SlotLayout {
            image: Region { start, len: IMAGE },
            records: Region {
                start: start + IMAGE,
                len: SECTOR,
            },
        }
    }

    /// What the agent says about this board, and memory that behaves as flash.
    ///
    /// # Safety
    /// Called once.
    pub unsafe fn info_and_flash() -> (BoardInfo, RamFlash<'static>) {
        static mut SLOTS: [u8; SLOTS_BYTES] = [0; SLOTS_BYTES];
        // SAFETY: by contract this is the only reference to it.
        let slots =
            unsafe { core::slice::from_raw_parts_mut((&raw mut SLOTS).cast(), SLOTS_BYTES) };
        let info = BoardInfo {
            board: "netduinoplus2",
            core: "Cortex-M4",
            code_bytes: code_bytes(),
            layout: Layout {
                slots: [slot(0), slot(IMAGE + SECTOR)],
            },
            flash_address: slots.as_ptr() as u32,
        };
        (info, RamFlash::new(slots, SECTOR))
    }
}
