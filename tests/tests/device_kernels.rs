//! The kernels of each emulated core against the portable ones, on the core itself.

use std::path::Path;
use std::process::{Command, Stdio};

use qmend_firmware::bench::DIGEST;
use qmend_firmware::kernel_check::{Memory, check};
use qmend_tests::emulator::device_is_required;

/// The check's layers.
const LAYERS: u32 = 3000;

/// Core and QEMU's machine of each program of `firmware/build.sh --kernels`.
const CORES: [(&str, &str); 6] = [
    ("cortex-m0plus", "mps2-an385"),
    ("cortex-m3", "mps2-an385"),
    ("cortex-m4", "mps2-an386"),
    ("cortex-m33", "mps2-an505"),
    ("cortex-m55", "mps3-an547"),
    ("rv32imac", "virt"),
];

/// QEMU for a core, and its arguments.
fn emulator(core: &str) -> (String, &'static [&'static str]) {
    let program = |variable, name: &str| std::env::var(variable).unwrap_or_else(|_| name.into());
    match core {
        "rv32imac" => (
            program("QMEND_QEMU_RISCV32", "qemu-system-riscv32"),
            &["-bios", "none"],
        ),
        _ => (program("QMEND_QEMU", "qemu-system-arm"), &[]),
    }
}

/// What the check comes to here.
fn digest_on_the_host() -> u32 {
    let mut memory = Box::new(Memory::new());
    let mut digest = DIGEST;
    for seed in 1..=LAYERS {
        assert_eq!(check(seed, &mut memory, &mut digest).differing, 0);
    }
    digest
}

#[test]
fn random_and_extreme_layers_give_the_portable_kernels_bits_on_every_core() {
    let test = "random_and_extreme_layers_give_the_portable_kernels_bits_on_every_core";
    let digest = format!("digest {:08x},", digest_on_the_host());
    for (core, machine) in CORES {
        let elf = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join(format!("../target-firmware/kernels-{core}.elf"));
        let (qemu, arguments) = emulator(core);
        let there = Command::new(&qemu)
            .arg("--version")
            .stdout(Stdio::null())
            .status();
        let lacks = if !elf.is_file() {
            Some("no program, build it with firmware/build.sh --kernels".into())
        } else if !there.is_ok_and(|s| s.success()) {
            Some(format!("no {qemu}"))
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
            .args(arguments)
            .args(["-semihosting-config", "enable=on,target=native", "-kernel"])
            .arg(&elf)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout).into_owned()
            + &String::from_utf8_lossy(&run.stderr);
        let last = said
            .lines()
            .rfind(|l| l.contains(" layers, "))
            .unwrap_or_default();
        println!("{core}: {last}");
        assert!(run.status.success(), "{core}: {said}");
        assert!(last.ends_with(", 0 differing"), "{core}: {said}");
        assert!(last.contains(&format!("{LAYERS} layers")), "{core}: {said}");
        // Not only are both kernels of a core the same: all cores' are, and this computer's.
        assert!(last.contains(&digest), "{core}: {said}; here {digest}");
    }
}
