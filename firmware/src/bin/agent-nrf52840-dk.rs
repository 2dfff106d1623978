//! The agent on the nRF52840 development kit.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use nrf52840_hal::pac::Peripherals;
    use qmend_firmware::agent::report_panic;
    use qmend_firmware::agent_program::never;
    use qmend_firmware::boards::nrf52840_dk::{CLOCK_HZ, Flash, POOL_BYTES, Uart, info};
    use qmend_firmware::cortex_m_port::trace;
    use qmend_firmware::cycle_counter::CycleMeter;

    qmend_firmware::agent_program! {
        entry: cortex_m_rt::entry,
        pool: POOL_BYTES,
        chunk: 1024,
        parts: {
            let core = cortex_m::Peripherals::take().expect("main runs once");
            let chip = Peripherals::take().expect("main runs once");
            let link = Uart::start(chip.CLOCK, chip.P0, chip.UART0);
            let meter = CycleMeter::new(core.SYST, CLOCK_HZ);
            (info(), link, Flash::new(chip.NVMC), meter)
        },
        ended: never,
        // SAFETY: the agent has come to its end.
        panic: |info| report_panic(&mut unsafe { Uart::steal() }, info, &trace()),
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
