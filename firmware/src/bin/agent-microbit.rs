//! The agent on the BBC micro:bit.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use qmend_firmware::agent::report_trace;
    use qmend_firmware::agent_program::never;
    use qmend_firmware::boards::microbit::{Flash, POOL_BYTES, Timer, Uart, info};
    use qmend_firmware::cortex_m_port::trace;

    qmend_firmware::agent_program! {
        entry: cortex_m_rt::entry,
        pool: POOL_BYTES,
        chunk: 256,
        // SAFETY: main runs once, and nothing else writes flash.
        parts: (info(), Uart::start(), unsafe { Flash::new() }, Timer::new()),
        ended: never,
        panic: |_| report_trace(&mut Uart::start(), &trace()),
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
