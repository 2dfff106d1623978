//! The agent on the nRF52840 development kit.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use cortex_m_rt::entry;
    use nrf52840_hal::pac::Peripherals;
    use qmend_firmware::agent::{Agent, Buffers, MESSAGE_OVERHEAD, Pool, report_panic};
    use qmend_firmware::boards::nrf52840_dk::{CLOCK_HZ, Flash, POOL_BYTES, Uart, info};
    use qmend_firmware::cortex_m_port::trace;
    use qmend_firmware::cycle_counter::CycleMeter;

    #[entry]
    fn main() -> ! {
        // `entry` hands statics of main out as `&'static mut`, once.
        static mut POOL: Pool<POOL_BYTES> = Pool::new();
        static mut BUFFERS: Buffers<{ 1024 + MESSAGE_OVERHEAD }> = Buffers::new();
        let core = cortex_m::Peripherals::take().expect("main runs once");
        let chip = Peripherals::take().expect("main runs once");
        let link = Uart::start(chip.CLOCK, chip.P0, chip.UART0);
        let flash = Flash::new(chip.NVMC);
        let meter = CycleMeter::new(core.SYST, CLOCK_HZ);
        let Err(never) = Agent::new(info(), link, flash, meter, POOL.bytes_mut(), BUFFERS).serve();
        match never {}
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        // SAFETY: the agent has come to its end.
        report_panic(&mut unsafe { Uart::steal() }, info, &trace());
        loop {
            cortex_m::asm::wfi();
        }
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
