//! The agent on an STM32F405 as QEMU emulates it: slots in RAM, which lose their content with a reset.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use cortex_m_rt::entry;
    use qmend_firmware::agent::{Agent, Buffers, MESSAGE_OVERHEAD, Pool, report_panic};
    #[cfg(not(feature = "rtt"))]
    use qmend_firmware::boards::stm32f405::Uart;
    use qmend_firmware::boards::stm32f405::emulated::{
        CLOCK_HZ, POOL_BYTES, SLOTS_BYTES, flash, info,
    };
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

    #[entry]
    fn main() -> ! {
        // `entry` hands statics of main out as `&'static mut`, once.
        static mut POOL: Pool<POOL_BYTES> = Pool::new();
        static mut BUFFERS: Buffers<{ 1024 + MESSAGE_OVERHEAD }> = Buffers::new();
        static mut SLOTS: [u8; SLOTS_BYTES] = [0; SLOTS_BYTES];
        let core = cortex_m::Peripherals::take().expect("main runs once");
        let info = info(SLOTS.as_ptr() as u32);
        let slots = flash(SLOTS);
        let meter = CycleMeter::new(core.SYST, CLOCK_HZ);
        let Err(never) = Agent::new(info, link(), slots, meter, POOL.bytes_mut(), BUFFERS).serve();
        match never {}
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        report_panic(&mut link(), info, &trace());
        loop {
            cortex_m::asm::wfi();
        }
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
