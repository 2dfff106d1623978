//! This processor's kernels against the portable ones on an emulated MPS2 or MPS3 board; see
//! `tests/tests/device_kernels.rs`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use core::ffi::CStr;
    use core::fmt::Write;

    use cortex_m_rt::entry;
    use heapless::String;
    use qmend_firmware::kernel_check::{Memory, check};
    use qmend_firmware::semihosting::{exit, print};
    use qmend_shared::kernels::{Kernels, Native};

    const LAYERS: u32 = 3000;

    fn say(line: core::fmt::Arguments) {
        let mut text = String::<200>::new();
        let _ = text.write_fmt(line);
        let _ = text.write_str("\n\0");
        if let Ok(text) = CStr::from_bytes_until_nul(text.as_bytes()) {
            print(text);
        }
    }

    #[entry]
    fn main() -> ! {
        // `entry` hands statics of main out as `&'static mut`, once.
        static mut MEMORY: Memory = Memory::new();
        let (mut elements, mut differing) = (0, 0);
        for seed in 1..=LAYERS {
            let outcome = check(seed, MEMORY);
            elements += outcome.elements;
            differing += outcome.differing;
            if outcome.differing > 0 {
                say(format_args!("seed {seed}: {outcome:?}"));
            }
        }
        say(format_args!(
            "{}: {LAYERS} layers, {elements} elements, {differing} differing",
            Native::NAME
        ));
        exit(differing == 0)
    }

    #[panic_handler]
    fn panic(info: &core::panic::PanicInfo) -> ! {
        let place = info.location().map_or(("", 0), |l| (l.file(), l.line()));
        say(format_args!("panic at {}:{}", place.0, place.1));
        exit(false)
    }
}

/// On a host there is nothing to run.
#[cfg(not(target_os = "none"))]
fn main() {}
