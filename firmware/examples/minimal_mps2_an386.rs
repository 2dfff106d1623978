//! to come
#![cfg_attr(target_os = "none", no_std, no_main)]
#[cfg(target_os = "none")]
mod device {
    use cortex_m_rt::entry;
    #[entry]
    fn main() -> ! {
        qmend_firmware::semihosting::print(c"hello\n");
        qmend_firmware::semihosting::exit(true)
    }
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        loop {}
    }
}
#[cfg(not(target_os = "none"))]
fn main() {}
