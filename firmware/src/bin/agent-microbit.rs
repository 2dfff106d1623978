//! The agent on the BBC micro:bit.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use cortex_m_rt::entry;
    use qmend_firmware::agent::{Agent, Buffers, MESSAGE_OVERHEAD, Pool, report_trace};
    use qmend_firmware::boards::microbit::{Flash, POOL_BYTES, Timer, Uart, info};
    use qmend_firmware::cortex_m_port::trace;

    #[entry]
    fn main() -> ! {
        // `entry` hands statics of main out as `&'static mut`, once.
        static mut POOL: Pool<POOL_BYTES> = Pool::new();
        static mut BUFFERS: Buffers<{ 256 + MESSAGE_OVERHEAD }> = Buffers::new();
        // SAFETY: main runs once, and nothing else writes flash.
        let flash = unsafe { Flash::new() };
        let meter = Timer::new();
        let Err(never) = Agent::new(
            info(),
            Uart::start(),
            flash,
            meter,
            POOL.bytes_mut(),
            BUFFERS,
        )
        .serve();
        match never {}
    }

    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        report_trace(&mut Uart::start(), &trace());
        loop {
            cortex_m::asm::wfi();
        }
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
