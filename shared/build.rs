//! Names the instruction set that the kernels are written for: `qmend_kernels = "dsp"` (Cortex-M4,
//! M7, and M33 and later with the DSP extension), `"helium"` (M55, M85: Armv8.1-M with the vector
//! extension), `"thumb2"` (Cortex-M3, and M33 without), `"thumb1"` (Cortex-M0, M0+, M23) or `"portable"`.
//!
//! The compiler knows the extensions but does not tell stable code (`target_feature = "dsp"` is not
//! visible there), so they are derived from the target's name and the flags.

use std::env;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!(
        "cargo::rustc-check-cfg=cfg(qmend_kernels, values(\"helium\", \"dsp\", \"thumb2\", \"thumb1\", \"portable\"))"
    );
    let target = env::var("TARGET").unwrap_or_default();
    // The arguments are separated by the byte 0x1f.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let dsp_cpu = [
        "cortex-m33",
        "cortex-m35p",
        "cortex-m52",
        "cortex-m55",
        "cortex-m85",
    ];
    let has_dsp = flags.contains("+dsp")
        || dsp_cpu
            .iter()
            .any(|c| flags.contains(&format!("target-cpu={c}")));
    // Vector registers are those of the floating-point unit: only the target that has one gives them.
    let helium_cpu = ["cortex-m52", "cortex-m55", "cortex-m85"];
    let has_helium = target.ends_with("eabihf")
        && !flags.contains("-mve")
        && (flags.contains("+mve")
            || helium_cpu
                .iter()
                .any(|c| flags.contains(&format!("target-cpu={c}"))));
    let kernels = match target.split('-').next().unwrap_or_default() {
        "thumbv7em" => "dsp",
        "thumbv8m.main" if has_helium => "helium",
        "thumbv8m.main" if has_dsp && !flags.contains("-dsp") => "dsp",
        "thumbv7m" | "thumbv8m.main" => "thumb2",
        "thumbv6m" | "thumbv8m.base" => "thumb1",
        _ => "portable",
    };
    println!("cargo::rustc-check-cfg=cfg(qmend_armv8m)");
    if target.starts_with("thumbv8m") {
        println!("cargo::rustc-cfg=qmend_armv8m");
    }
    println!("cargo::rustc-cfg=qmend_kernels=\"{kernels}\"");
}
