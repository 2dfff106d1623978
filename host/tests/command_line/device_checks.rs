//! `verify --layers` and `--self-test`, and flash contents as ELF.

use qmend::device::{Device, HostDevice, QemuOptions};
use qmend::export::elf::read_elf;
use qmend_shared::image::Model;

use super::support::*;

#[test]
fn every_layer_is_compared_and_counted() {
    let dir = quantized("4");
    let data = images("0..3");
    let mut devices = vec!["host"];
    match QemuOptions::default().find() {
        Ok(_) => devices.push("qemu"),
        Err(e) => println!("SKIPPED: layers on an emulated device: {e}"),
    }
    for device in devices {
        let args = ["verify", "m.qmend", "--data", &data, "--layers"];
        let v = json(dir.path(), &[&args[..], &["--device", device]].concat());
        let l = &v["layers"];
        assert_eq!(l["identical"], true, "{v}");
        assert_eq!(l["first_difference"], serde_json::Value::Null, "{v}");
        let m = json(dir.path(), &["inspect", "m.qmend"]);
        let layers = m["layers"].as_array().expect("a list");
        assert_eq!(l["operators"], layers.len(), "{v}");
        let product = |l: &serde_json::Value| -> f64 {
            let axes = l["output"].as_array().expect("a shape");
            axes.iter().map(number).product()
        };
        let elements: f64 = layers.iter().map(product).sum();
        assert_eq!(number(&l["elements"]), 3.0 * elements, "{v}");
        assert_eq!(l["inputs"], 3, "{v}");
    }
}

#[test]
fn self_tests_travel_in_the_model_and_run_on_the_device() {
    let dir = quantized("4");
    let at = dir.path();
    let data = images("0..3");
    let export = ["export", "m.qmend", "--self-test", &data, "-o"];
    let v = json(at, &[&export[..], &["t.qmend"]].concat());
    let plain = json(at, &["inspect", "m.qmend"]);
    assert_eq!(plain["self_tests"], 0, "{plain}");
    let v2 = json(at, &["inspect", "t.qmend"]);
    assert_eq!(v2["self_tests"], 3, "{v2}");
    let more = number(&v["bytes"]) - number(&plain["image_bytes"]);
    assert!((3.0 * 794.0..3.0 * 794.0 + 40.0).contains(&more), "{more}");
    refused(
        at,
        &[&export[..], &["t.tflite"]].concat(),
        &["no self-tests"],
    );
    let verify = |model: &'static str, device: &'static str| {
        ["verify", model, "--self-test", "--device", device]
    };
    refused(at, &verify("m.qmend", "host"), &["no self-tests", "export"]);
    refused(at, &["verify", "m.qmend"], &["--data"]);
    let mut devices = vec!["host"];
    match QemuOptions::default().find() {
        Ok(_) => devices.push("qemu"),
        Err(e) => println!("SKIPPED: self-tests on an emulated device: {e}"),
    }
    // An expected output that is wrong, in the last vector: the last byte before the footer.
    let mut wrong = std::fs::read(at.join("t.qmend")).expect("written");
    let place = wrong.len() - 17;
    wrong[place] ^= 0x40;
    let crc = {
        let crc = qmend_shared_crc(&wrong);
        crc.to_le_bytes()
    };
    wrong[12..16].copy_from_slice(&crc);
    put(at, "wrong.qmend", &wrong);
    for device in devices {
        let v = json(at, &verify("t.qmend", device));
        let s = &v["self_test"];
        assert_eq!((&s["vectors"], &s["passed"]), (&3.into(), &3.into()), "{v}");
        assert_eq!(s["first_failure"], serde_json::Value::Null, "{v}");
        let out = qmend(
            at,
            &[&verify("wrong.qmend", device)[..], &["--json"]].concat(),
        );
        assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
        let v: serde_json::Value = serde_json::from_slice(&out.stdout).expect("one object");
        let s = &v["self_test"];
        assert_eq!((&s["passed"], &s["failed"]), (&2.into(), &1.into()), "{v}");
        let f = &s["first_failure"];
        assert_eq!((&f["vector"], &f["element"]), (&2.into(), &9.into()), "{v}");
        assert_eq!(
            number(&f["expected"]) as i8 ^ 0x40,
            number(&f["got"]) as i8,
            "{v}"
        );
    }
    // With data, both.
    let args = [&verify("t.qmend", "host")[..], &["--data", &data]].concat();
    let v = json(at, &args);
    assert_eq!(
        (&v["identical"], &v["self_test"]["passed"]),
        (&true.into(), &3.into()),
        "{v}"
    );
}

/// What a device gives for an input.
fn outputs(image: &[u8], input: &[u8]) -> Vec<u8> {
    let mut host = HostDevice::new();
    host.load(image).expect("a sound image");
    let input: Vec<i8> = input.iter().map(|&b| b as i8).collect();
    let output = host.infer(&input).expect("it runs").output;
    output.iter().map(|&q| q as u8).collect()
}

fn class(output: &[u8]) -> usize {
    let best = output.iter().map(|&b| b as i8).max().expect("elements");
    let at = output.iter().position(|&b| b as i8 == best);
    at.expect("the best is there")
}

#[test]
fn repaired_tests_travel_in_the_repaired_model_and_hold_on_the_device() {
    let dir = quantized("3");
    let at = dir.path();
    let (tests, holdout) = (images("0..400"), images("400..600"));
    let v = json(
        at,
        &[
            &["repair", MODEL, "m.qmend", "--data", &tests][..],
            &["--holdout", &holdout, "--time-budget", "5"],
            &["--self-test", "4", "-o", "r.qmend"],
        ]
        .concat(),
    );
    let n = v["self_tests"].as_u64().expect("a count") as usize;
    assert!((1..=4).contains(&n), "{v}");
    let inspected = json(at, &["inspect", "r.qmend"]);
    assert_eq!(inspected["self_tests"], n, "{inspected}");

    // Each is one that the model gave another class for before, with the repaired model's output.
    let [before, after] = ["m.qmend", "r.qmend"].map(|f| std::fs::read(at.join(f)).expect("there"));
    let model = Model::from_bytes(&after).expect("sound");
    let vectors = model.self_tests().expect("they are in it");
    assert_eq!(vectors.count(), n);
    for i in 0..n {
        let (input, expected) = vectors.vector(i).expect("a vector");
        assert_eq!(outputs(&after, input), expected, "test {i}");
        assert_ne!(class(&outputs(&before, input)), class(expected), "test {i}");
    }

    let mut devices = vec!["host"];
    match QemuOptions::default().find() {
        Ok(_) => devices.push("qemu"),
        Err(e) => println!("SKIPPED: repaired tests on an emulated device: {e}"),
    }
    for device in devices {
        let args = ["verify", "r.qmend", "--self-test", "--device", device];
        let v = json(at, &args);
        let s = &v["self_test"];
        assert_eq!((&s["vectors"], &s["passed"]), (&n.into(), &n.into()), "{v}");
        assert_eq!(s["failed"], 0, "{v}");
    }
}

/// CRC of an image: of its bytes 0 to 11 and of what follows byte 15.
fn qmend_shared_crc(image: &[u8]) -> u32 {
    let bytes = [&image[..12], &image[16..]].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&bytes);
    crc.sum()
}

#[test]
fn flash_contents_and_firmware_go_into_one_elf_file() {
    let dir = quantized("4");
    let at = dir.path();
    let args = ["flash", "m.qmend", "--board", "stm32f405", "--out"];
    let v = json(at, &[&args[..], &["f.elf"]].concat());
    let image = std::fs::read(at.join("m.qmend")).expect("the model");
    let elf = std::fs::read(at.join("f.elf")).expect("written");
    let (parts, _) = read_elf(&elf).expect("an ELF file");
    assert_eq!(parts.len(), 2);
    assert_eq!(
        parts[0].0, 0x0800_4000,
        "the record, in the first 16 KiB sector for records"
    );
    assert_eq!(&parts[0].1[..4], b"QREC");
    assert_eq!(parts[1], (0x0804_0000, image.clone()), "{v}");
    // The whole programme at once, with a firmware made of two segments.
    let firmware = qmend::export::elf::write_elf(
        &[(0x0800_0000, vec![7; 100]), (0x0801_0000, vec![8; 50])],
        0x0801_0001,
    );
    put(at, "agent.elf", &firmware);
    let with = ["--with-firmware", "agent.elf"];
    json(at, &[&args[..], &["all.elf"], &with].concat());
    let (parts, entry) =
        read_elf(&std::fs::read(at.join("all.elf")).expect("written")).expect("an ELF file");
    let at_of: Vec<u32> = parts.iter().map(|p| p.0).collect();
    assert_eq!(at_of, [0x0800_0000, 0x0800_4000, 0x0801_0000, 0x0804_0000]);
    assert_eq!(entry, 0x0801_0001);
    json(at, &[&args[..], &["all.hex"], &with].concat());
    let hex = std::fs::read_to_string(at.join("all.hex")).expect("written");
    assert_eq!(hex.matches(":00000001FF").count(), 1);
    assert!(hex.contains(":10000000070707"));
    // Firmware that lies where the model belongs.
    let wrong = qmend::export::elf::write_elf(&[(0x0804_0010, vec![7; 100])], 0);
    put(at, "wrong.elf", &wrong);
    let with = ["--with-firmware", "wrong.elf"];
    refused(
        at,
        &[&args[..], &["x.hex"], &with].concat(),
        &["wrong.elf", "0x08040010", "--board"],
    );
    put(at, "text.elf", "no ELF");
    let with = ["--with-firmware", "text.elf"];
    refused(
        at,
        &[&args[..], &["x.hex"], &with].concat(),
        &["text.elf", "ELF"],
    );
    assert!(!at.join("x.hex").exists());
}

#[test]
fn readelf_and_objcopy_read_the_elf_file() {
    let dir = quantized("8");
    let at = dir.path();
    let run = |program: &str, args: &[&str]| {
        std::process::Command::new(program)
            .args(args)
            .current_dir(at)
            .output()
    };
    if run("readelf", &["--version"]).is_err() {
        println!("SKIPPED: ELF files read by binutils: it is not installed");
        return;
    }
    let args = ["flash", "m.qmend", "--board", "microbit", "--out", "f.elf"];
    json(at, &args);
    let out = run("readelf", &["-W", "-h", "-l", "-S", "f.elf"]).expect("it runs");
    let (said, complaints) = (text(&out.stdout), text(&out.stderr));
    assert!(
        out.status.success() && complaints.is_empty(),
        "{complaints}"
    );
    for wanted in ["ARM", "LOAD", ".flash0", ".flash1", "0x00018000"] {
        assert!(said.contains(wanted), "{wanted} in {said}");
    }
}
