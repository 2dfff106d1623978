//! The agent on the emulated boards of Arm's MPS2 and MPS3.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use qmend_firmware::agent::report_panic;
    use qmend_firmware::boards::mps2::{CLOCK_HZ, POOL_BYTES, flash, info};
    use qmend_firmware::cortex_m_port::{SysTickMeter, trace};
    use qmend_firmware::semihosting::{Console, exit};

    qmend_firmware::agent_program! {
        entry: cortex_m_rt::entry,
        pool: POOL_BYTES,
        chunk: 4096,
        parts: {
            let core = cortex_m::Peripherals::take().expect("main runs once");
            let console = Console::open().expect("started with semihosting");
            // SAFETY: main runs once, and nothing else touches the slots.
            let slots = unsafe { flash() };
            (info(), console, slots, SysTickMeter::new(core.SYST, CLOCK_HZ))
        },
        // The host has closed the link.
        ended: |_| exit(true),
        panic: |info| {
            if let Ok(mut console) = Console::open() {
                report_panic(&mut console, info, &trace());
            }
            exit(false)
        },
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
