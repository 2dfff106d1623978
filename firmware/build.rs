//! Gives each program of a board the linker scripts that it needs.

use std::{env, fs, path::PathBuf};

/// Board (its file in `src/boards`) and the arguments' scope: its programs, or `examples`.
const PROGRAMS: [(&str, &str); 7] = [
    ("microbit", "bin=agent-microbit"),
    ("mps2_an386", "bin=agent-mps2-an386"),
    // For the board of the target's core.
    ("mps2", "bin=bench-mps2"),
    ("mps2", "bin=kernels-mps2"),
    ("stm32f405", "bin=agent-netduinoplus2"),
    ("stm32f405", "bin=agent-stm32f405"),
    ("mps2_an386", "examples"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    // The boards for Armv6-M and v7-M have the same memory map.
    let target = env::var("TARGET").unwrap_or_default();
    if target.starts_with("riscv32") {
        let script = "src/boards/riscv_virt.x";
        println!("cargo::rerun-if-changed={script}");
        let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
        for bin in ["bench-mps2", "kernels-mps2"] {
            println!("cargo::rustc-link-arg-bin={bin}=-T{folder}/{script}");
        }
        return;
    }
    let mps2 = if target == "thumbv8m.main-none-eabihf" {
        "mps3_an547"
    } else if target.starts_with("thumbv8m") {
        "mps2_an505"
    } else {
        "mps2_an386"
    };
    for (board, scope) in PROGRAMS {
        let board = if board == "mps2" { mps2 } else { board };
        let script = format!("src/boards/{board}.x");
        println!("cargo::rerun-if-changed={script}");
        // cortex-m-rt's link.x includes `memory.x`, whatever the board: each has its own folder.
        let folder = out.join(board);
        fs::create_dir_all(&folder).expect("OUT_DIR can be written");
        fs::copy(&script, folder.join("memory.x")).unwrap_or_else(|e| panic!("{script}: {e}"));
        let argument = |a: String| match scope {
            "examples" => println!("cargo::rustc-link-arg-examples={a}"),
            _ => println!("cargo::rustc-link-arg-{}={a}", scope),
        };
        argument(format!("-L{}", folder.display()));
        argument("-Tlink.x".into());
        argument("--nmagic".into());
    }
}
