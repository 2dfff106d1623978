//! The agent on an STM32F405 as QEMU emulates it: slots in RAM, which lose their content with a reset.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use qmend_firmware::agent::report_panic;
    use qmend_firmware::agent_program::never;
    #[cfg(not(feature = "rtt"))]
    use qmend_firmware::boards::stm32f405::Uart;
    use qmend_firmware::boards::stm32f405::emulated::{CLOCK_HZ, POOL_BYTES, info_and_flash};
    use qmend_firmware::cortex_m_port::trace;
    use qmend_firmware::cycle_counter::CycleMeter;
    #[cfg(feature = "rtt")]
    use qmend_firmware::rtt::Rtt;

    #[cfg(not(feature = "rtt"))]
    fn link() -> Uart {
        Uart::start()
    }

    #[cfg(feature = "rtt")]
    fn link() -> Rtt {
        // SAFETY: once at the start, and once more by a panic, which does not return.
        unsafe { Rtt::start() }
    }

    qmend_firmware::agent_program! {
        entry: cortex_m_rt::entry,
        pool: POOL_BYTES,
        chunk: 1024,
        parts: {
            let core = cortex_m::Peripherals::take().expect("main runs once");
            // SAFETY: main runs once.
            let (info, slots) = unsafe { info_and_flash() };
            (info, link(), slots, CycleMeter::new(core.SYST, CLOCK_HZ))
        },
        ended: never,
        panic: |info| report_panic(&mut link(), info, &trace()),
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
