//! The agent on the Raspberry Pi Pico.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use qmend_firmware::agent::{Agent, Buffers, MESSAGE_OVERHEAD, Pool, report_panic};
    use qmend_firmware::boards::pico::{CLOCK_HZ, Flash, POOL_BYTES, Uart, info};
    use qmend_firmware::cortex_m_port::{SysTickMeter, trace};
    use rp2040_hal::pac::Peripherals;

    // Not cortex-m-rt's: this one also lets go of the chip's hardware locks, which survive a reset.
    #[rp2040_hal::entry]
    fn main() -> ! {
        // `entry` hands statics of main out as `&'static mut`, once.
        static mut POOL: Pool<POOL_BYTES> = Pool::new();
        static mut BUFFERS: Buffers<{ 1024 + MESSAGE_OVERHEAD }> = Buffers::new();
        let core = cortex_m::Peripherals::take().expect("main runs once");
        let chip = Peripherals::take().expect("main runs once");
        let link = Uart::start(chip).expect("the crystal starts");
        // SAFETY: main runs once, on the one core that runs, and nothing else writes flash.
        let flash = unsafe { Flash::new() };
        let meter = SysTickMeter::new(core.SYST, CLOCK_HZ);
        let Err(never) = Agent::new(info(), link, flash, meter, POOL.bytes_mut(), BUFFERS).serve();
        match never {}
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        // SAFETY: the agent has come to its end.
        if let Some(mut link) = Uart::start(unsafe { Peripherals::steal() }) {
            report_panic(&mut link, info, &trace());
        }
        loop {
            cortex_m::asm::wfi();
        }
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
