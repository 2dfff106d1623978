//! Debug probes: what is said without one, and without the feature.

use super::support::*;

#[test]
fn without_a_probe_the_error_says_so_and_what_to_do() {
    let dir = quantized("8");
    let wanted: &[&str] = if cfg!(feature = "probe") {
        if std::env::var_os("QMEND_PROBE_IS_THERE").is_some() {
            println!("SKIPPED: no probe: QMEND_PROBE_IS_THERE says that one is attached");
            return;
        }
        &["no debug probe", "plug"]
    } else {
        &["no support for debug probes", "--features probe", "gdb"]
    };
    let at = dir.path();
    let data = images("0..2");
    refused(at, &["flash", "m.qmend", "--chip", "STM32F405RGTx"], wanted);
    let verify = ["verify", "m.qmend", "--data", &data, "--device"];
    refused(
        at,
        &[&verify[..], &["probe:STM32F405RGTx"]].concat(),
        wanted,
    );
    if cfg!(feature = "probe") {
        let named = ["--probe", "0483:3748", "--speed", "100"];
        let args = ["flash", "m.qmend", "--chip", "STM32F405RGTx"];
        refused(at, &[&args[..], &named].concat(), &["0483:3748"]);
        let wrong = ["--probe", "mine"];
        refused(at, &[&args[..], &wrong].concat(), &["VID:PID"]);
        // Of a chip that is not known, those with names near it.
        let chip = |name: &'static str| ["flash", "m.qmend", "--chip", name];
        refused(at, &chip("STM32F45RGTx"), &["no chip", "STM32F405RGTx"]);
        refused(at, &chip("nrf52480_xxAA"), &["no chip", "nRF52840_xxAA"]);
        refused(at, &chip("STM32F405"), &["several", "STM32F405RGTx"]);
        let file = ["--chip-description-path", "nowhere.yaml"];
        refused(at, &[&args[..], &file].concat(), &["nowhere.yaml"]);
    }
    let wrong = ["flash", "m.qmend", "--chip", "x", "--protocol", "can"];
    refused(at, &wrong, &["swd", "jtag"]);
}

#[test]
fn options_of_probes_and_ports_do_not_mix() {
    let dir = quantized("8");
    let at = dir.path();
    for (args, wanted) in [
        (
            vec!["--chip", "x", "--gdb", "localhost:1"],
            "cannot be used",
        ),
        (vec!["--speed", "100"], "--chip"),
        (
            vec!["--gdb", "localhost:1", "--with-firmware", "a.elf"],
            "cannot be used",
        ),
        (vec!["--gdb", "127.0.0.1:1"], "cannot open gdb:127.0.0.1:1"),
    ] {
        refused(at, &[&["flash", "m.qmend"][..], &args].concat(), &[wanted]);
    }
}
