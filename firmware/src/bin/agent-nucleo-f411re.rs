//! The agent on an STM32F411 Nucleo board.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use qmend_firmware::agent::report_panic;
    use qmend_firmware::agent_program::never;
    use qmend_firmware::boards::nucleo_f411re::{CLOCK_HZ, Flash, POOL_BYTES, Uart, info};
    use qmend_firmware::cortex_m_port::trace;
    use qmend_firmware::cycle_counter::CycleMeter;
    use stm32f4xx_hal::pac::Peripherals;

    qmend_firmware::agent_program! {
        entry: cortex_m_rt::entry,
        pool: POOL_BYTES,
        chunk: 1024,
        parts: {
            let core = cortex_m::Peripherals::take().expect("main runs once");
            let chip = Peripherals::take().expect("main runs once");
            let link = Uart::start(chip.RCC, chip.GPIOA, chip.USART2);
            // SAFETY: main runs once, and nothing else writes flash.
            let flash = unsafe { Flash::new() };
            (info(), link, flash, CycleMeter::new(core.SYST, CLOCK_HZ))
        },
        ended: never,
        // SAFETY: the agent has come to its end.
        panic: |info| report_panic(&mut unsafe { Uart::steal() }, info, &trace()),
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
