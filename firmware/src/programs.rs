//! What the kernels' benchmark and check do on every emulated board: the programs in `bin/` only
//! bring the board's memory and clock. They talk by semihosting.

use core::ffi::CStr;
use core::fmt::Write;

use heapless::String;
use qmend_shared::kernels::{Kernels, Native};

use crate::port::Meter;
use crate::semihosting::{exit, print, read_file};
use crate::{bench, kernel_check};

/// Layers of the check.
pub const CHECKED_LAYERS: u32 = 3000;

fn say(line: core::fmt::Arguments) {
    let mut text = String::<200>::new();
    let _ = text.write_fmt(line);
    let _ = text.write_str("\n\0");
    if let Ok(text) = CStr::from_bytes_until_nul(text.as_bytes()) {
        print(text);
    }
}

/// Runs the layers of CMSIS-NN's benchmark with random weights, compares every output byte with the
/// portable kernels', and prints one line a layer. Then, where the emulator's folder has a file
/// `bench.qmend`, runs that model once.
pub fn bench(memory: &mut bench::Memory, meter: &mut impl Meter, code_bytes: u32) -> ! {
    // One takes a virtual nanosecond (`-icount shift=0`).
    let hz = meter.ticks_per_second() as u64;
    let instructions = |ticks: u64| ticks * 1_000_000_000 / hz;
    say(format_args!("kernels {}", Native::NAME));
    say(format_args!("code {code_bytes}"));
    let word = |same: bool| if same { "same" } else { "DIFFER" };
    let mut same = true;
    for layer in bench::LAYERS {
        let r = bench::run(layer, memory, meter);
        same &= r.same;
        say(format_args!(
            "layer {} macs {} instructions {} portable {} bits {}",
            layer.name,
            r.macs,
            instructions(r.ticks),
            instructions(r.portable_ticks),
            word(r.same)
        ));
    }
    if let Some(len) = read_file(c"bench.qmend", memory.image()) {
        let operator = |index: usize, kind: &str, ticks: u64| {
            let count = instructions(ticks);
            say(format_args!(
                "operator {index} kind {kind} instructions {count}"
            ));
        };
        match bench::model(len, memory, meter, operator) {
            Some(m) => {
                same &= m.same;
                say(format_args!(
                    "model instructions {} portable {} arena {} image {} stack {} digest {:08x} bits {}",
                    instructions(m.ticks),
                    instructions(m.portable_ticks),
                    m.arena_bytes,
                    len,
                    m.stack,
                    m.digest,
                    word(m.same)
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

/// Compares this processor's kernels with the portable ones on random and extreme layers.
pub fn kernels(memory: &mut kernel_check::Memory) -> ! {
    let (mut elements, mut differing) = (0, 0);
    let mut digest = bench::DIGEST;
    for seed in 1..=CHECKED_LAYERS {
        let outcome = kernel_check::check(seed, memory, &mut digest);
        elements += outcome.elements;
        differing += outcome.differing;
        if outcome.differing > 0 {
            say(format_args!("seed {seed}: {outcome:?}"));
        }
    }
    say(format_args!(
        "{}: {CHECKED_LAYERS} layers, {elements} elements, digest {digest:08x}, {differing} differing",
        Native::NAME
    ));
    exit(differing == 0)
}

/// Says where the program panicked, and ends it.
pub fn panicked(info: &core::panic::PanicInfo) -> ! {
    let place = info.location().map_or(("", 0), |l| (l.file(), l.line()));
    say(format_args!("panic at {}:{}", place.0, place.1));
    exit(false)
}
