//! The kernel benchmark on an emulated board, see `tests/bench-device.sh`: Arm's MPS2 and MPS3
//! (Cortex-M0+ and M3: `mps2-an385`, M4: `mps2-an386`, M55: `mps3-an547`) and QEMU's `virt` for RISC-V.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use qmend_firmware::bench::Memory;
    use qmend_firmware::programs;

    #[cfg(target_arch = "arm")]
    #[cortex_m_rt::entry]
    fn main() -> ! {
        // `entry` hands statics of main out as `&'static mut`, once.
        static mut MEMORY: Memory = Memory::new();
        use qmend_firmware::bench::TICKS_PER_SECOND;
        use qmend_firmware::cortex_m_port::{SysTickMeter, code_bytes};
        let core = cortex_m::Peripherals::take().expect("main runs once");
        let mut meter = SysTickMeter::new(core.SYST, TICKS_PER_SECOND);
        programs::bench(MEMORY, &mut meter, code_bytes())
    }

    #[cfg(target_arch = "riscv32")]
    qmend_firmware::riscv_entry!(Memory, |memory| {
        use qmend_firmware::riscv_port::{InstructionMeter, code_bytes};
        programs::bench(memory, &mut InstructionMeter::new(), code_bytes())
    });

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        programs::panicked(info)
    }
}

/// On a host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
