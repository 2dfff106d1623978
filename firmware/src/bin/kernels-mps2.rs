//! This processor's kernels against the portable ones on an emulated board, the benchmark's; see
//! `tests/tests/device_kernels.rs`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use qmend_firmware::kernel_check::Memory;
    use qmend_firmware::programs;

    #[cfg(target_arch = "arm")]
    #[cortex_m_rt::entry]
    fn main() -> ! {
        // `entry` hands statics of main out as `&'static mut`, once.
        static mut MEMORY: Memory = Memory::new();
        programs::kernels(MEMORY)
    }

    #[cfg(target_arch = "riscv32")]
    qmend_firmware::riscv_entry!(Memory, |memory| programs::kernels(memory));

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        programs::panicked(info)
    }
}

/// On a host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
