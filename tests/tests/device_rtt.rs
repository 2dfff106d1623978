//! The agent behind a debugger: RTT in the emulated STM32F405's RAM, through QEMU's GDB server.
//! `firmware/build.sh --rtt` builds the agent.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qmend::device::{Device, DeviceError, Gdb, QemuOptions, verify, verify_layers};
use qmend::export::patch::write_patch;
use qmend::export::write_image;
use qmend_tests::emulator::device_is_required;
use qmend_tests::random_model::{mended, random_inputs, random_network};

struct Emulator {
    child: Child,
    address: String,
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(test: &str, program: &str) -> Option<Emulator> {
    let options = QemuOptions {
        firmware: Some(Path::new(program).into()),
        ..QemuOptions::default()
    };
    let (qemu, firmware) = match options.find() {
        Ok(found) => found,
        Err(e) => {
            assert!(
                !device_is_required(),
                "{test} must not be skipped here: {e}"
            );
            println!("SKIPPED {test}: {e} (firmware/build.sh --rtt)");
            return None;
        }
    };
    // A port that was free a moment ago.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let child = Command::new(qemu)
        .args(["-M", "netduinoplus2", "-nodefaults", "-display", "none"])
        .args(["-monitor", "none", "-serial", "none", "-gdb"])
        .arg(format!("tcp:{address}"))
        .arg("-kernel")
        .arg(firmware)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    // Not a connection to see whether it is there: the server has one client in its life.
    while Instant::now() < deadline && TcpListener::bind(&address).is_ok() {
        std::thread::sleep(Duration::from_millis(20));
    }
    Some(Emulator { child, address })
}

#[test]
fn a_model_and_a_patch_go_through_the_debug_port_and_run_with_the_host_s_bits() {
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target-firmware/agent-netduinoplus2-rtt.elf"
    );
    let Some(emulator) = start("RTT through QEMU's GDB server", program) else {
        return;
    };
    let begin = Instant::now();
    let mut device = Gdb::device(&emulator.address, Duration::from_secs(60)).unwrap();
    assert_eq!(device.identity().name, "netduinoplus2");
    let model = random_network(8, 4, 4);
    let new = mended(&model, 1);
    let images = [&model, &new].map(|m| write_image(m).unwrap());
    let inputs = random_inputs(&model, 5, 1);
    let report = verify(&model, &images[0], &inputs, &mut device, |_| ()).unwrap();
    assert!(report.identical(), "{report:?}");
    let patch = write_patch(&images[0], &images[1]).unwrap();
    device.flash_patch(&patch, &mut |_, _| ()).unwrap();
    let report = verify(&new, &images[1], &inputs, &mut device, |_| ()).unwrap();
    assert!(report.identical(), "{report:?}");
    let layers = verify_layers(&new, &inputs, &mut device, |_| ()).unwrap();
    assert!(layers.identical(), "{layers:?}");
    println!(
        "{} and {} bytes flashed, 15 inferences, in {:.1} s; {:?}",
        images[0].len(),
        patch.len(),
        begin.elapsed().as_secs_f64(),
        report.time
    );
    // Over this port it is not known that the clock is an emulator's.
    let time = report.time.unwrap();
    assert_eq!(time.clock.counter, "timer", "there is no cycle counter");
    assert!(time.clock.cycles && time.min <= time.median && time.median <= time.max);
}

#[test]
fn an_agent_that_does_not_speak_rtt_is_told_from_no_server() {
    let program = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../target-firmware/agent-netduinoplus2.elf"
    );
    let error = Gdb::device("127.0.0.1:1", Duration::from_secs(1)).map(|_| ());
    assert!(matches!(error, Err(DeviceError::Port { .. })));
    let Some(emulator) = start("no RTT behind QEMU's GDB server", program) else {
        return;
    };
    let error = Gdb::device(&emulator.address, Duration::from_secs(1)).map(|_| ());
    let error = error.unwrap_err();
    assert!(
        matches!(error, DeviceError::NoControlBlock { .. }) && error.to_string().contains("--rtt"),
        "{error}"
    );
}
