//! The agent on an STM32F411 Nucleo board.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use cortex_m_rt::entry;
    use qmend_firmware::agent::{Agent, Buffers, MESSAGE_OVERHEAD, Pool, report_panic};
    use qmend_firmware::boards::nucleo_f411re::{CLOCK_HZ, Flash, POOL_BYTES, Uart, info};
    use qmend_firmware::cortex_m_port::trace;
    use qmend_firmware::cycle_counter::CycleMeter;
    use stm32f4xx_hal::pac::Peripherals;

    #[entry]
    fn main() -> ! {
        // `entry` hands statics of main out as `&'static mut`, once.
        static mut POOL: Pool<POOL_BYTES> = Pool::new();
        static mut BUFFERS: Buffers<{ 1024 + MESSAGE_OVERHEAD }> = Buffers::new();
        let core = cortex_m::Peripherals::take().expect("main runs once");
        let chip = Peripherals::take().expect("main runs once");
        let link = Uart::start(chip.RCC, chip.GPIOA, chip.USART2);
        // SAFETY: main runs once, and nothing else writes flash.
        let flash = unsafe { Flash::new() };
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
