//! The kernel benchmark on an emulated MPS2 or MPS3 board (Cortex-M0+ and M3: `mps2-an385`, M4:
//! `mps2-an386`, M55: `mps3-an547`): see `tests/bench-device.sh`.
//!
//! Runs the layers of CMSIS-NN's benchmark with random weights, compares every output byte with the
//! portable kernels', and prints one line a layer. Then, where the emulator's folder has a file
//! `bench.qmend`, runs that model once.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod device {
    use core::ffi::CStr;
    use core::fmt::Write;

    use cortex_m_rt::entry;
    use heapless::String;
    use qmend_firmware::bench::{LAYERS, Memory, TICKS_PER_SECOND, instructions, model, run};
    use qmend_firmware::cortex_m_port::{SysTickMeter, code_bytes};
    use qmend_firmware::semihosting::{exit, print, read_file};
    use qmend_shared::kernels::{Kernels, Native};

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
        let core = cortex_m::Peripherals::take().expect("main runs once");
        let mut meter = SysTickMeter::new(core.SYST, TICKS_PER_SECOND);
        say(format_args!("kernels {}", Native::NAME));
        say(format_args!("code {}", code_bytes()));
        let mut same = true;
        for layer in LAYERS {
            let r = run(layer, MEMORY, &mut meter);
            same &= r.same;
            say(format_args!(
                "layer {} macs {} instructions {} portable {} bits {}",
                layer.name,
                r.macs,
                instructions(r.ticks),
                instructions(r.portable_ticks),
                if r.same { "same" } else { "DIFFER" }
            ));
        }
        if let Some(len) = read_file(c"bench.qmend", MEMORY.image()) {
            match model(len, MEMORY, &mut meter) {
                Some(m) => {
                    same &= m.same;
                    say(format_args!(
                        "model instructions {} portable {} arena {} image {} stack {} bits {}",
                        instructions(m.ticks),
                        instructions(m.portable_ticks),
                        m.arena_bytes,
                        len,
                        m.stack,
                        if m.same { "same" } else { "DIFFER" }
                    ));
                }
                None => {
                    say(format_args!("model refused"));
                    same = false;
                }
            }
        }
        exit(same)
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
