//! STM32F411 on a Nucleo-64 board: Cortex-M4, 512 KiB of flash, 128 KiB of RAM.
//!
//! Link: USART2 on the pins that the board's debugger serves (PA2, PA3; 115,200 baud, 8 bits, no
//! parity). Slots: flash sectors 6 and 7, records in sectors 1 and 2 ([`NUCLEO_F411RE`]). Clock:
//! SysTick at the internal oscillator's 16 MHz, from which the chip starts and on which it stays. By
//! `stm32f4xx-hal`. It has run on a model of the chip (`tests/python/chips`) and not on a board.

use core::convert::Infallible;

use qmend_shared::slot::boards::NUCLEO_F411RE;
use stm32f4xx_hal::pac::{GPIOA, Peripherals, RCC, USART2};
use stm32f4xx_hal::prelude::*;
use stm32f4xx_hal::rcc::Config;
use stm32f4xx_hal::serial::Serial;
use stm32f4xx_hal::{block, hal_02::serial::Read, hal_02::serial::Write};

use crate::cortex_m_port::code_bytes;
use crate::port::{BoardInfo, Link};
use crate::stm32f4_flash::Stm32f4Flash;

/// Frequency of the processor, SysTick and the peripherals.
pub const CLOCK_HZ: u32 = 16_000_000;

/// Bytes for arena, input, output and a kept tensor.
pub const POOL_BYTES: usize = 100 * 1024;

/// What the agent says about this board.
pub fn info() -> BoardInfo {
    BoardInfo {
        board: NUCLEO_F411RE.name,
        core: "Cortex-M4",
        code_bytes: code_bytes(),
        layout: NUCLEO_F411RE.layout,
        flash_address: NUCLEO_F411RE.address,
    }
}

/// USART2.
pub struct Uart(Serial<USART2>);

impl Uart {
    /// Gives the USART its clock and pins and starts it.
    ///
    /// # Panics
    /// Not at this baud rate: the clock has a divider for it.
    pub fn start(rcc: RCC, pins: GPIOA, usart: USART2) -> Self {
        let mut rcc = rcc.freeze(Config::hsi().sysclk(CLOCK_HZ.Hz()));
        let pins = pins.split(&mut rcc);
        let driver = usart.serial((pins.pa2, pins.pa3), 115_200.bps(), &mut rcc);
        Self(driver.expect("a baud rate that the clock can be divided to"))
    }

    /// The USART again, to report a panic.
    ///
    /// # Safety
    /// Nothing else uses it any more.
    pub unsafe fn steal() -> Self {
        // SAFETY: by contract.
        let p = unsafe { Peripherals::steal() };
        Self::start(p.RCC, p.GPIOA, p.USART2)
    }
}

impl Link for Uart {
    type Error = Infallible;

    fn read(&mut self) -> Result<u8, Infallible> {
        loop {
            // Overruns and wrong stop bits spoil a frame, whose CRC tells.
            if let Ok(byte) = block!(Read::<u8>::read(&mut self.0)) {
                return Ok(byte);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        for &byte in bytes {
            // What the driver reports of its receiver is seen when reading.
            let _ = block!(Write::<u8>::write(&mut self.0, byte));
        }
        Ok(())
    }
}

/// All of flash, and its controller. Not by the layer's driver: it programs byte by byte, sixteen of them
/// without a look at whether the controller is ready, which takes four times as long.
pub type Flash = Stm32f4Flash<{ 512 << 10 }>;
