//! The agent on the Raspberry Pi Pico.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use qmend_firmware::agent::report_panic;
    use qmend_firmware::agent_program::never;
    use qmend_firmware::boards::pico::{CLOCK_HZ, Flash, POOL_BYTES, Uart, info};
    use qmend_firmware::cortex_m_port::{SysTickMeter, trace};
    use rp2040_hal::pac::Peripherals;

    qmend_firmware::agent_program! {
        // Not cortex-m-rt's: this one also lets go of the chip's hardware locks, which survive a reset.
        entry: rp2040_hal::entry,
        pool: POOL_BYTES,
        chunk: 1024,
        parts: {
            let core = cortex_m::Peripherals::take().expect("main runs once");
            let chip = Peripherals::take().expect("main runs once");
            let link = Uart::start(chip).expect("the crystal starts");
            // SAFETY: main runs once, on the one core that runs, and nothing else writes flash.
            let flash = unsafe { Flash::new() };
            (info(), link, flash, SysTickMeter::new(core.SYST, CLOCK_HZ))
        },
        ended: never,
        panic: |info| {
            // SAFETY: the agent has come to its end.
            if let Some(mut link) = Uart::start(unsafe { Peripherals::steal() }) {
                report_panic(&mut link, info, &trace());
            }
        },
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
