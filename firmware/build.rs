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

/// The key whose owner's images are taken, for `src/agent/trust.rs`.
#[cfg(feature = "signed")]
fn public_key() {
    const KEY: &str = "QMEND_PUBLIC_KEY";
    const OLDER: &str = "QMEND_ALLOW_OLDER";
    println!("cargo::rerun-if-env-changed={KEY}");
    println!("cargo::rerun-if-env-changed={OLDER}");
    let key = env::var_os(KEY).map(|path| {
        let shown = PathBuf::from(&path);
        println!("cargo::rerun-if-changed={}", shown.display());
        let text = fs::read_to_string(&shown)
            .unwrap_or_else(|e| panic!("{KEY}={}: {e}", shown.display()));
        let key = ed25519_compact::PublicKey::from_pem(&text).unwrap_or_else(|_| {
            panic!(
                "{KEY}={}: no Ed25519 public key in PEM, as `qmend keygen` writes beside the private one",
                shown.display()
            )
        });
        *key
    });
    let on_a_device = env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none");
    assert!(
        key.is_some() || !on_a_device,
        "the feature `signed` needs {KEY}=FILE.pub, of `qmend keygen`"
    );
    let protection = env::var_os(OLDER).is_none_or(|v| v != "1");
    let code = format!(
        "const PUBLIC_KEY: Option<[u8; KEY_BYTES]> = {key:?};\nconst ROLLBACK_PROTECTION: bool = {protection};\n"
    );
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("public_key.rs"), code).expect("OUT_DIR can be written");
}

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "signed")]
    public_key();
    println!(
        "cargo::rustc-check-cfg=cfg(qmend_mps2, values(\"an385\", \"an385_m0plus\", \"an386\", \"an500\", \"an505\", \"an547\"))"
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
        "thumbv8m.main" if target.ends_with("eabihf") => "an547",
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
        // Where RAM is scarce, verifying signatures takes it from the tensors.
        let signed = board == "microbit" && env::var_os("CARGO_FEATURE_SIGNED").is_some();
        let script = format!(
            "src/boards/{board}{}.x",
            if signed { "_signed" } else { "" }
        );
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
