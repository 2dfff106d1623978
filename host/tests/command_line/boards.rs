//! The whole loop on emulated boards, over their UARTs: flash a model, measure on the device, repair
//! on the host, send the patch, measure again.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use qmend::device::QemuOptions;
use qmend::device::qemu::{MICROBIT, Machine, NETDUINOPLUS2};

use super::support::*;

/// A running emulator whose UART is a socket.
struct Board {
    child: Child,
    port: String,
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(machine: Machine) -> Option<Board> {
    let options = QemuOptions {
        machine,
        ..QemuOptions::default()
    };
    let (program, firmware) = match options.find() {
        Ok(found) => found,
        Err(e) => {
            println!("SKIPPED: the loop on {}: {e}", machine.name);
            return None;
        }
    };
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let child = Command::new(program)
        .args(["-M", machine.name, "-nodefaults", "-display", "none"])
        .args(["-monitor", "none", "-serial"])
        .arg(format!("tcp:{address},server=on,wait=off"))
        .arg("-kernel")
        .arg(firmware)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    // The agent sends a byte when it starts, which was lost if it came before this. What is sent to
    // an emulated UART before its program has started it would be stuck.
    for _ in 0..100 {
        if let Ok(mut stream) = TcpStream::connect(address) {
            let limit = Some(Duration::from_secs(2));
            stream.set_read_timeout(limit).expect("a time limit");
            let _ = stream.read(&mut [0]);
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Some(Board {
        child,
        port: format!("tcp:{address}"),
    })
}

fn the_loop_on(machine: Machine) {
    let Some(board) = start(machine) else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let at = dir.path();
    let args = ["quantize", MODEL, "--scale", "1/255", "-o", "m.qmend"];
    let (widths, cal) = (["--weights", "4", "--keep-ends-8bit"], images("2000..2200"));
    json(at, &[&args[..], &widths, &["--data", &cal]].concat());
    let port = &*board.port;
    let device = format!("serial:{port}");
    // Nothing is there yet.
    refused(at, &["flash", "--rollback", "--port", port], &["no image"]);
    let v = json(at, &["flash", "m.qmend", "--port", port]);
    assert_eq!(v["device"]["name"], machine.name, "{v}");
    assert_eq!(v["before"]["selected"], serde_json::Value::Null, "{v}");
    let image = v["flashed"]["image_bytes"].as_u64().expect("a length");
    assert_eq!(v["flashed"]["bytes_sent"], image, "{v}");

    let test = images("9000..9200");
    let measure = |model: &str, test: &str, inputs: u64| {
        let v = json(at, &["eval", model, "--data", test, "--device", &device]);
        assert_eq!(v["identical"], true, "{v}");
        assert_eq!(v["device"]["inputs"], inputs, "{v}");
        assert_eq!(v["device"]["name"], machine.name, "{v}");
        (number(&v["accuracy"]), v["device"].clone())
    };
    let (before, said) = measure("m.qmend", &test, 200);

    let args = ["repair", MODEL, "m.qmend", "-o", "mended.qmend"];
    let (repair, hold) = (images("0..1000"), images("1000..2000"));
    let data = ["--data", &repair, "--holdout", &hold, "--rounds", "2"];
    // Biases and multipliers: few numbers, so a small patch.
    let how = ["--strategy", "margin", "--no-weight-steps"];
    json(at, &[&args[..], &data, &how].concat());
    let v = json(at, &["diff", "m.qmend", "mended.qmend", "-o", "p.qpatch"]);
    let share = number(&v["share"]);
    assert!(share < 0.05, "the patch is {share} of the image: {v}");
    let changed = number(&v["changed_bytes"]);
    assert!(changed > 0.0, "the repair changed nothing");

    let v = json(at, &["flash", "--patch", "p.qpatch", "--port", port]);
    assert_eq!(v["flashed"]["slot"], 1, "{v}");
    let sent = number(&v["flashed"]["bytes_sent"]);
    let (after, _) = measure("mended.qmend", &test, 200);
    println!(
        "{}: image {image} bytes, patch {sent} ({:.1} %); accuracy of 200 on the device {before} -> {after}; firmware {} bytes, stack {}",
        machine.name,
        100.0 * share,
        said["code_bytes"],
        said["memory"]["stack_high_water"]
    );
    // Evaluating did not flash anything: the patch had made exactly this image.
    let v = json(at, &["flash", "mended.qmend", "--port", port]);
    assert_eq!(v["flashed"]["already_there"], true, "{v}");
    assert_eq!(v["flashed"]["sequence"], 2, "{v}");

    let v = json(at, &["flash", "--rollback", "--port", port]);
    assert_eq!(v["after"]["selected"]["bytes"], image, "{v}");
    measure("m.qmend", &images("9000..9005"), 5);
}

#[test]
fn flash_measure_repair_patch_and_measure_on_the_microbit() {
    the_loop_on(MICROBIT);
}

#[test]
fn flash_measure_repair_patch_and_measure_on_the_stm32f405() {
    the_loop_on(NETDUINOPLUS2);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_erased() {
    let Some(board) = start(MICROBIT) else {
        return;
    };
    let dir = quantized("4");
    json(dir.path(), &["flash", "m.qmend", "--port", &board.port]);
    // A layer of 100,000 weights.
    let big = "big.qmend";
    put(dir.path(), big, big_image());
    refused(
        dir.path(),
        &["flash", big, "--port", &board.port],
        &["bytes of image slot and the device has"],
    );
    let v = json(dir.path(), &["flash", "m.qmend", "--port", &board.port]);
    assert_eq!(v["flashed"]["already_there"], true, "{v}");
}

fn big_image() -> Vec<u8> {
    use qmend::model::*;
    let tensor = |name: &str, n| Tensor {
        name: name.into(),
        shape: [1, 1, n],
        scale: 1.0,
        zero_point: 0,
    };
    let one = Multiplier {
        mantissa: 1 << 30,
        exponent: 1,
    };
    let model = QuantizedModel {
        name: "big".into(),
        rounding: Rounding::Tflm,
        tensors: vec![tensor("in", 1000), tensor("out", 100)],
        nodes: vec![Node {
            name: "fc".into(),
            op: Op::FullyConnected(FullyConnected {
                linear: Linear {
                    weights: vec![1; 100_000],
                    bits: 8,
                    bias: vec![0; 100],
                    multipliers: vec![one; 100],
                    act_min: -128,
                    act_max: 127,
                },
            }),
            inputs: vec![TensorId(0)],
            output: TensorId(1),
        }],
        input: TensorId(0),
        output: TensorId(1),
        preprocess: Preprocess::default(),
        labels: Vec::new(),
    };
    qmend::export::write_image(&model).expect("a sound model")
}

#[test]
fn flash_contents_go_to_files_for_a_programmer() {
    let dir = quantized("4");
    let args = ["flash", "m.qmend", "--out", "f.hex", "--board", "microbit"];
    let v = json(dir.path(), &args);
    let image = std::fs::read(dir.path().join("m.qmend")).expect("the model");
    assert_eq!(v["image_bytes"], image.len(), "{v}");
    let text = std::fs::read_to_string(dir.path().join("f.hex")).expect("written");
    assert!(text.ends_with(":00000001FF\n"));
    refused(dir.path(), &args, &["--force"]);
    let args = ["flash", "m.qmend", "--out", "f.uf2", "--board", "stm32f405"];
    let v = json(dir.path(), &args);
    assert_eq!(v["image_address"], 0x0804_0000, "{v}");
    let uf2 = std::fs::read(dir.path().join("f.uf2")).expect("written");
    assert_eq!(uf2.len(), 512 * (image.len().div_ceil(256) + 1));
    for (args, wanted) in [
        (
            vec!["flash", "m.qmend", "--out", "g.uf2", "--board", "microbit"],
            "UF2",
        ),
        (
            vec!["flash", "m.qmend", "--out", "f.txt", "--board", "microbit"],
            "known forms",
        ),
        (vec!["flash", "m.qmend", "--out", "f.hex"], "--board"),
        (vec!["flash", "m.qmend"], "--port"),
        (vec!["flash", "--port", "tcp:127.0.0.1:1"], "required"),
        (
            vec!["flash", "m.qmend", "--port", "tcp:127.0.0.1:1"],
            "cannot open",
        ),
        (
            vec!["flash", "m.qmend", "--port", "/nowhere/at-all"],
            "cannot open",
        ),
    ] {
        refused(dir.path(), &args, &[wanted]);
    }
}

#[test]
fn a_patch_is_written_for_two_models_and_says_what_changed() {
    let dir = quantized("4");
    let at = dir.path();
    std::fs::copy(at.join("m.qmend"), at.join("same.qmend")).expect("a copy");
    let v = json(at, &["diff", "m.qmend", "same.qmend", "-o", "none.qpatch"]);
    assert_eq!(
        (&v["changed_bytes"], &v["ranges"]),
        (&0.into(), &serde_json::json!([]))
    );
    let other = quantized("3");
    std::fs::copy(other.path().join("m.qmend"), at.join("o.qmend")).expect("a copy");
    let v = json(at, &["diff", "m.qmend", "o.qmend", "-o", "p.qpatch"]);
    let patch = std::fs::read(at.join("p.qpatch")).expect("written");
    assert_eq!(v["patch_bytes"], patch.len(), "{v}");
    let read = |name: &str| std::fs::read(at.join(name)).expect("a model");
    let applied = qmend::export::patch::apply_patch(&read("m.qmend"), &patch);
    assert!(applied.expect("it applies") == read("o.qmend"));
    refused(
        at,
        &["diff", "m.qmend", "o.qmend", "-o", "p.qpatch"],
        &["--force"],
    );
    refused(
        at,
        &["diff", MODEL, "o.qmend", "-o", "q.qpatch"],
        &["integer"],
    );
}
