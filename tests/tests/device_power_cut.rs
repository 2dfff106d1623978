//! The power of an emulated micro:bit is cut in the middle of updates, at random times: the machine
//! is stopped, its flash saved, the emulator killed, and another one started with that flash.
//!
//! QEMU keeps the flash of this machine in memory of its own, so that of a killed process is lost:
//! its monitor stops the processor between two instructions and writes all of it, firmware included, to
//! a file first, which the next emulator starts from.
#![cfg(unix)]

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use qmend::device::port::BAUD;
use qmend::device::qemu::MICROBIT;
use qmend::device::{Device, DeviceError, HostDevice, LinkDevice, Port, PortName, QemuOptions};
use qmend::export::image::write_image;
use qmend::export::patch::write_patch;
use qmend::model::QuantizedModel;
use qmend_shared::link::frame::crc32;
use qmend_tests::emulator::device_is_required;
use qmend_tests::random_model::{mended, random_inputs, random_network};
use rand::prelude::*;

const FLASH_BYTES: u64 = 256 << 10;

struct Board {
    child: Child,
    link: String,
    monitor: TcpStream,
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two ports that were free a moment ago.
fn free_ports() -> [String; 2] {
    let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    free.map(|f| f.local_addr().unwrap().to_string())
}

/// A connection to a socket that the emulator is about to open.
fn connected(address: &str) -> TcpStream {
    (0..200)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(20));
            TcpStream::connect(address).ok()
        })
        .expect("the emulator listens")
}

/// Waits for the byte that the agent sends when it starts, which was lost if it came before this.
/// What is sent to this machine's UART before its program has started it would be stuck.
fn await_start(link: &str) {
    use std::io::Read;
    let mut stream = connected(link);
    let limit = Some(Duration::from_secs(2));
    stream.set_read_timeout(limit).expect("a time limit");
    let _ = stream.read(&mut [0]);
}

impl Board {
    fn start(flash: &Path) -> Result<Self, DeviceError> {
        let options = QemuOptions {
            machine: MICROBIT,
            ..QemuOptions::default()
        };
        let (program, firmware) = options.find()?;
        let [link, monitor] = free_ports();
        let mut command = Command::new(program);
        command
            .args(["-M", "microbit", "-nodefaults", "-display", "none"])
            .args(["-serial", &format!("tcp:{link},server=on,wait=off")])
            .args(["-monitor", &format!("tcp:{monitor},server=on,wait=off")])
            .arg("-kernel")
            .arg(if flash.is_file() { flash } else { &firmware });
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let monitor = connected(&monitor);
        await_start(&link);
        Ok(Self {
            child,
            link,
            monitor,
        })
    }

    fn connect(&self) -> LinkDevice<Port> {
        let name = PortName::Tcp(self.link.clone());
        Port::connect(&name, BAUD, Duration::from_secs(60)).expect("the agent answers")
    }

    /// Stops the processor, saves its flash, and kills the emulator.
    fn cut(mut self, flash: &Path) {
        let file = flash.display();
        writeln!(
            self.monitor,
            "stop\nmemsave 0 {FLASH_BYTES} \"{file}\"\ninfo status"
        )
        .unwrap();
        let mut seen = String::new();
        let mut lines = BufReader::new(self.monitor.try_clone().unwrap());
        while !seen.contains("VM status: paused") {
            assert!(lines.read_line(&mut seen).unwrap() > 0, "{seen}");
        }
        assert_eq!(
            std::fs::metadata(flash).unwrap().len(),
            FLASH_BYTES,
            "{seen}"
        );
    }
}

fn mended_image(model: &QuantizedModel, n: i32) -> Vec<u8> {
    write_image(&mended(model, n)).unwrap()
}

/// The slot that is written next may hold the target already: other bytes make it work to do.
fn occupy_other_slot(device: &mut LinkDevice<Port>, model: &QuantizedModel, n: i32) {
    let other = mended_image(model, n);
    device.flash(&other, &mut |_, _| ()).expect("another image");
    device.roll_back().expect("and back");
}

/// The CRC of what runs, after its outputs were compared with the host's.
fn runs(device: &mut LinkDevice<Port>, model: &QuantizedModel, images: &[Vec<u8>]) -> u32 {
    let (_, _, crc) = device.open().expect("an image runs");
    let image = images
        .iter()
        .find(|i| crc32(i) == crc)
        .expect("one of ours");
    let mut host = HostDevice::new();
    let size = host.load(image).unwrap().input_len;
    for input in random_inputs(model, 2, 6).chunks(size) {
        let ours = host.infer(input).unwrap().output;
        assert_eq!(device.infer(input).unwrap().output, ours);
    }
    crc
}

#[test]
fn whenever_the_emulated_microbit_is_killed_the_old_or_the_new_model_runs() {
    const NAME: &str = "whenever_the_emulated_microbit_is_killed_the_old_or_the_new_model_runs";
    let folder = tempfile::tempdir().unwrap();
    let flash = folder.path().join("flash.bin");
    let mut board = match Board::start(&flash) {
        Ok(board) => board,
        Err(e) => {
            assert!(
                !device_is_required(),
                "{NAME} must not be skipped here: {e}"
            );
            println!("SKIPPED {NAME}: {e}");
            return;
        }
    };
    let model = (0..)
        .map(|seed| random_network(30, 8, seed))
        .find(|m| {
            let mut host = HostDevice::new();
            let Ok(image) = write_image(m) else {
                return false;
            };
            let l = host.load(&image).unwrap();
            let pool = l.arena_bytes + l.input_len + l.output_len;
            (8_000..40_000).contains(&image.len()) && pool < 10_000
        })
        .unwrap();
    let images: Vec<Vec<u8>> = (0..2).map(|n| mended_image(&model, n)).collect();
    let patches = [0, 1].map(|i: usize| write_patch(&images[i], &images[1 - i]).unwrap());
    let mut device = board.connect();
    device
        .flash(&images[0], &mut |_, _| ())
        .expect("the first image");
    // How long a whole update and a whole patch take, to cut inside.
    let begin = Instant::now();
    device
        .flash(&images[1], &mut |_, _| ())
        .expect("and the second");
    let update_takes = begin.elapsed();
    occupy_other_slot(&mut device, &model, 99);
    let begin = Instant::now();
    device
        .flash_patch(&patches[1], &mut |_, _| ())
        .expect("back by a patch");
    let patch_takes = begin.elapsed();
    let mut current = runs(&mut device, &model, &images);
    drop(device);
    let mut rng = StdRng::seed_from_u64(1);
    let (mut old, mut new, mut finished) = (0, 0, 0);
    for round in 0..24 {
        let from = images.iter().position(|i| crc32(i) == current).unwrap();
        let (target, patch) = (images[1 - from].clone(), patches[from].clone());
        let mut device = board.connect();
        let by_patch = round % 3 == 2;
        occupy_other_slot(&mut device, &model, 100 + round);
        let update = std::thread::spawn(move || {
            if by_patch {
                device.flash_patch(&patch, &mut |_, _| ()).map(|_| ())
            } else {
                device.flash(&target, &mut |_, _| ()).map(|_| ())
            }
        });
        let takes = if by_patch { patch_takes } else { update_takes };
        std::thread::sleep(takes.mul_f64(rng.random_range(0.0..1.2)));
        board.cut(&flash);
        finished += u32::from(update.join().unwrap().is_ok());
        board = Board::start(&flash).unwrap();
        let mut device = board.connect();
        let now = runs(&mut device, &model, &images);
        if now == current {
            old += 1
        } else {
            new += 1
        }
        // Whatever was left, the update can be done to its end.
        let report = device
            .flash(&images[1 - from], &mut |_, _| ())
            .expect("once more");
        assert_eq!(report.crc, runs(&mut device, &model, &images));
        current = report.crc;
    }
    println!(
        "24 cuts: {old} times the old model ran, {new} times the new one; {finished} updates had ended before"
    );
    assert!(old >= 4, "nearly every update had ended before its cut");
}
