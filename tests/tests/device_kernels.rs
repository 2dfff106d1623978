//! The kernels of each emulated core against the portable ones, on the core itself.

use std::path::Path;
use std::process::{Command, Stdio};

use qmend_tests::emulator::device_is_required;

/// Core and QEMU's machine of each program of `firmware/build.sh --kernels`.
const CORES: [(&str, &str); 3] = [
    ("cortex-m0plus", "mps2-an385"),
    ("cortex-m3", "mps2-an385"),
    ("cortex-m4", "mps2-an386"),
];

#[test]
fn random_and_extreme_layers_give_the_portable_kernels_bits_on_every_core() {
    let test = "random_and_extreme_layers_give_the_portable_kernels_bits_on_every_core";
    let qemu = std::env::var("QMEND_QEMU").unwrap_or_else(|_| "qemu-system-arm".into());
    for (core, machine) in CORES {
        let elf = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../target-firmware/kernels-{core}.elf"));
        let emulator = Command::new(&qemu)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        let lacks = if !elf.is_file() {
            Some("no program, build it with firmware/build.sh --kernels")
        } else if !emulator.is_ok_and(|s| s.success()) {
            Some("no qemu-system-arm")
        } else {
            None
        };
        if let Some(lacks) = lacks {
            assert!(!device_is_required(), "{core}: {lacks}");
            println!("SKIPPED {test} on {core}: {lacks}");
            continue;
        }
        let run = Command::new(&qemu)
            .args(["-M", machine, "-nodefaults", "-display", "none"])
            .args(["-monitor", "none", "-serial", "none"])
            .args(["-semihosting-config", "enable=on,target=native", "-kernel"])
            .arg(&elf)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout).into_owned()
            + &String::from_utf8_lossy(&run.stderr);
        let last = said.lines().last().unwrap_or_default();
        println!("{core}: {last}");
        assert!(run.status.success(), "{core}: {said}");
        assert!(last.ends_with(", 0 differing"), "{core}: {said}");
        assert!(last.contains("3000 layers"), "{core}: {said}");
    }
}
