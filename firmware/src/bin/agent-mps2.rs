//! The agent on the emulated MPS2 boards.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use cortex_m_rt::entry;
    use qmend_firmware::agent::{Agent, Buffers, MESSAGE_OVERHEAD, Pool, report_panic};
    use qmend_firmware::boards::mps2::{CLOCK_HZ, POOL_BYTES, flash, info};
    use qmend_firmware::cortex_m_port::{SysTickMeter, trace};
    use qmend_firmware::semihosting::{Console, exit};

    #[entry]
    fn main() -> ! {
        // `entry` hands statics of main out as `&'static mut`, once.
        static mut POOL: Pool<POOL_BYTES> = Pool::new();
        static mut BUFFERS: Buffers<{ 4096 + MESSAGE_OVERHEAD }> = Buffers::new();
        let core = cortex_m::Peripherals::take().expect("main runs once");
        // SAFETY: main runs once, and nothing else touches the slots.
        let slots = unsafe { flash() };
        let meter = SysTickMeter::new(core.SYST, CLOCK_HZ);
        let console = Console::open().expect("started with semihosting");
        let ended = Agent::new(info(), console, slots, meter, POOL.bytes_mut(), BUFFERS).serve();
        // The host has closed the link.
        exit(ended.is_err())
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        if let Ok(mut console) = Console::open() {
            report_panic(&mut console, info, &trace());
        }
        exit(false)
    }
}

/// On a host there is nothing to run: the firmware is built for a microcontroller.
#[cfg(not(target_os = "none"))]
fn main() {}
