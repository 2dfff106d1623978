//! `eval` and `verify` on a device.

use qmend::device::QemuOptions;

use super::support::*;

fn identical_on(device: &str) {
    let dir = quantized("3");
    let data = images("0..3");
    for args in [
        ["eval", "m.qmend", "--data", &data, "--device", device],
        ["verify", "m.qmend", "--data", &data, "--device", device],
    ] {
        let v = json(dir.path(), &args);
        assert_eq!(
            (&v["identical"], &v["device"]["differing"]),
            (&true.into(), &0.into()),
            "{v}"
        );
        assert_eq!(v["device"]["inputs"], 3);
        assert_eq!(
            v["device"]["instructions"].is_null(),
            device == "host",
            "{v}"
        );
    }
}

#[test]
fn the_devices_engine_on_this_machine_gives_the_same_bits() {
    identical_on("host");
}

#[test]
fn an_emulated_device_gives_the_same_bits() {
    match QemuOptions::default().find() {
        Ok(_) => identical_on("qemu"),
        Err(e) => eprintln!("SKIPPED: commands on an emulated device: {e}"),
    }
}

#[test]
fn a_float_network_runs_on_no_device() {
    let dir = tempfile::tempdir().expect("a folder");
    refused(
        dir.path(),
        &["eval", MODEL, "--data", &images("0..2"), "--device", "host"],
        &["devices run integer models", "qmend quantize"],
    );
}

#[test]
fn a_missing_emulator_and_a_missing_firmware_are_named_with_the_way_to_get_them() {
    let dir = quantized("8");
    let data = images("0..1");
    for (variable, wanted) in [
        ("QMEND_QEMU", "qemu"),
        ("QMEND_FIRMWARE", "firmware/build.sh"),
    ] {
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_qmend"))
            .args(["verify", "m.qmend", "--data", &data, "--device", "qemu"])
            .env("QMEND_QEMU", "true")
            .env(variable, "/nowhere/at-all")
            .current_dir(dir.path())
            .output()
            .expect("the program starts");
        let words = text(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{words}");
        assert!(
            words.contains(wanted) && words.contains("/nowhere/at-all"),
            "{words}"
        );
    }
}
