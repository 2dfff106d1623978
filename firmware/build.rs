//! Gives each program of a board the linker scripts that it needs.

use std::{env, fs, path::PathBuf};

/// Board (its file in `src/boards`) and the arguments' scope: its programs, or `examples`.
const PROGRAMS: [(&str, &str); 10] = [
    ("microbit", "bin=agent-microbit"),
    // For the board of the target's core.
    ("mps2", "bin=agent-mps2"),
    ("mps2", "bin=bench-mps2"),
    ("mps2", "bin=kernels-mps2"),
    ("stm32f405", "bin=agent-netduinoplus2"),
    ("stm32f405", "bin=agent-stm32f405"),
    ("nrf52840_dk", "bin=agent-nrf52840-dk"),
    ("nucleo_f411re", "bin=agent-nucleo-f411re"),
    ("pico", "bin=agent-pico"),
    ("mps2_an386", "examples"),
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!(
        "cargo::rustc-check-cfg=cfg(qmend_mps2, values(\"an385\", \"an385_m0plus\", \"an386\", \"an500\", \"an505\"))"
    );
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
    // The M7 has the M4's target: build.sh says which.
    println!("cargo::rerun-if-env-changed=QMEND_MPS2");
    let an500 = env::var("QMEND_MPS2").as_deref() == Ok("an500");
    let board = match target.split('-').next().unwrap_or_default() {
        "thumbv8m.main" => "an505",
        "thumbv7m" => "an385",
        "thumbv6m" => "an385_m0plus",
        _ if an500 => "an500",
        _ => "an386",
    };
    println!("cargo::rustc-cfg=qmend_mps2=\"{board}\"");
    let mps2 = if an500 {
        "mps2_an500"
    } else if target == "thumbv8m.main-none-eabihf" {
        "mps3_an547"
    } else if target.starts_with("thumbv8m") {
        "mps2_an505"
    } else {
        "mps2_an386"
    };
    for (board, scope) in PROGRAMS {
        // Programs behind a feature are no targets without it, and cargo warns of arguments for those.
        let feature = format!("CARGO_FEATURE_{}", board.to_uppercase());
        let has_hal = ["nrf52840_dk", "nucleo_f411re", "pico"].contains(&board);
        if has_hal && env::var_os(feature).is_none() {
            continue;
        }
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
