//! Emulated boards: QEMU running the real firmware.
//!
//! The link is semihosting's console or the board's UART; QEMU connects either to its own standard
//! input and output. With semihosting, `-icount shift=0` makes one instruction one virtual
//! nanosecond, so that counts are exact to one tick of the board's clock and repeatable. With a UART
//! it would let the emulator look for bytes only ten times a second, so nothing is counted there.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{DeviceError, LinkDevice, Transport};

/// How bytes get in and out of an emulated board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Semihosting's console.
    Semihosting,
    /// The board's first UART.
    Uart,
}

/// A board that QEMU emulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// As QEMU calls it.
    pub name: &'static str,
    /// The firmware's file name.
    pub firmware: &'static str,
    /// The link.
    pub wire: Wire,
}

/// Arm's MPS2 board with a Cortex-M4: much memory, no flash.
pub const MPS2_AN386: Machine = Machine {
    name: "mps2-an386",
    firmware: "agent-mps2-an386.elf",
    wire: Wire::Semihosting,
};
/// Arm's MPS2 board with a Cortex-M3.
pub const MPS2_AN385: Machine = Machine {
    name: "mps2-an385",
    firmware: "agent-mps2-an385.elf",
    wire: Wire::Semihosting,
};
/// Arm's MPS2 board with a Cortex-M7.
pub const MPS2_AN500: Machine = Machine {
    name: "mps2-an500",
    firmware: "agent-mps2-an500.elf",
    wire: Wire::Semihosting,
};
/// Arm's MPS2 board with a Cortex-M33.
pub const MPS2_AN505: Machine = Machine {
    name: "mps2-an505",
    firmware: "agent-mps2-an505.elf",
    wire: Wire::Semihosting,
};
/// Arm's MPS3 board with a Cortex-M55, whose kernels use its vector extension (Helium).
pub const MPS3_AN547: Machine = Machine {
    name: "mps3-an547",
    firmware: "agent-mps3-an547.elf",
    wire: Wire::Semihosting,
};
/// BBC micro:bit: nRF51822, Cortex-M0, 256 KiB of flash with its controller, 16 KiB of RAM.
pub const MICROBIT: Machine = Machine {
    name: "microbit",
    firmware: "agent-microbit.elf",
    wire: Wire::Uart,
};
/// Netduino Plus 2: STM32F405, Cortex-M4. QEMU models its USART and not its flash controller.
pub const NETDUINOPLUS2: Machine = Machine {
    name: "netduinoplus2",
    firmware: "agent-netduinoplus2.elf",
    wire: Wire::Uart,
};
/// All of them, the default first.
pub const MACHINES: [Machine; 7] = [
    MPS2_AN386,
    MICROBIT,
    NETDUINOPLUS2,
    MPS2_AN385,
    MPS2_AN500,
    MPS2_AN505,
    MPS3_AN547,
];
const SEMIHOSTING: &[&str] = &[
    "-serial",
    "none",
    "-semihosting-config",
    "enable=on,target=native",
    "-icount",
    "shift=0",
];
const UART: &[&str] = &[
    "-chardev",
    "stdio,id=link,signal=off",
    "-serial",
    "chardev:link",
];
/// A virtual nanosecond an instruction.
const INSTRUCTIONS_PER_SECOND: u64 = 1_000_000_000;

/// Where things are, where they are not in the usual places.
#[derive(Clone, Debug)]
pub struct QemuOptions {
    /// QEMU's program; else `QMEND_QEMU`, else `qemu-system-arm` from the path.
    pub program: Option<PathBuf>,
    /// The board; by default [`MPS2_AN386`].
    pub machine: Machine,
    /// The firmware's ELF file; else `QMEND_FIRMWARE`, else `target-firmware/` of the sources.
    pub firmware: Option<PathBuf>,
    /// Longest wait for an answer, an inference included.
    pub limit: Duration,
    /// Further arguments of QEMU.
    pub arguments: Vec<String>,
}

impl Default for QemuOptions {
    fn default() -> Self {
        Self {
            program: None,
            machine: MPS2_AN386,
            firmware: None,
            limit: Duration::from_secs(120),
            arguments: Vec::new(),
        }
    }
}

impl QemuOptions {
    /// Finds emulator and firmware.
    ///
    /// # Errors
    /// [`DeviceError::EmulatorMissing`] and [`DeviceError::FirmwareMissing`], whose texts say in one
    /// line how to get them.
    pub fn find(&self) -> Result<(PathBuf, PathBuf), DeviceError> {
        Ok((self.find_program()?, self.find_firmware()?))
    }

    fn find_program(&self) -> Result<PathBuf, DeviceError> {
        let named = self
            .program
            .clone()
            .or_else(|| std::env::var_os("QMEND_QEMU").map(PathBuf::from));
        let program = named.unwrap_or_else(|| PathBuf::from("qemu-system-arm"));
        let runs = Command::new(&program)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if runs {
            Ok(program)
        } else {
            Err(DeviceError::EmulatorMissing {
                program: program.display().to_string(),
            })
        }
    }

    fn find_firmware(&self) -> Result<PathBuf, DeviceError> {
        if let Some(named) = self
            .firmware
            .clone()
            .or_else(|| std::env::var_os("QMEND_FIRMWARE").map(PathBuf::from))
        {
            return if named.is_file() {
                Ok(named)
            } else {
                Err(DeviceError::FirmwareMissing {
                    searched: vec![named],
                })
            };
        }
        let mut searched = Vec::new();
        let mut roots = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR"))];
        roots.extend(std::env::current_exe());
        roots.extend(std::env::current_dir());
        for root in &roots {
            for folder in root.ancestors().skip(1).chain([root.as_path()]) {
                let candidate = folder.join("target-firmware").join(self.machine.firmware);
                if candidate.is_file() {
                    return Ok(candidate);
                }
            }
            searched.push(root.join("target-firmware").join(self.machine.firmware));
        }
        // The folder of the sources is the one to name: it is where build.sh puts the file.
        searched.truncate(1);
        let sources = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap_or(Path::new("."));
        searched[0] = sources.join("target-firmware").join(self.machine.firmware);
        Err(DeviceError::FirmwareMissing { searched })
    }
}

/// The emulator's process. It ends when this value is dropped.
#[derive(Debug)]
pub struct Qemu {
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<Vec<u8>>,
    /// The end of what it wrote to standard error.
    said: Arc<Mutex<String>>,
}

impl Qemu {
    /// Starts the emulator with the firmware, and greets the agent.
    ///
    /// # Errors
    /// Where emulator or firmware is missing, or does not answer.
    pub fn start(options: &QemuOptions) -> Result<LinkDevice<Self>, DeviceError> {
        let (program, firmware) = options.find()?;
        let start_error = |source| DeviceError::Start {
            program: program.display().to_string(),
            source,
        };
        let mut child = Command::new(&program)
            .args(["-M", options.machine.name, "-nodefaults"])
            .args(["-display", "none", "-monitor", "none"])
            .args(match options.machine.wire {
                Wire::Semihosting => SEMIHOSTING,
                Wire::Uart => UART,
            })
            .args(&options.arguments)
            .arg("-kernel")
            .arg(&firmware)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(start_error)?;
        let input = child.stdin.take();
        let mut stdout = child.stdout.take().expect("it was asked for");
        let mut stderr = child.stderr.take().expect("it was asked for");
        let (to_us, output) = channel();
        // Both threads end with the process, whose pipes then close.
        std::thread::spawn(move || {
            let mut buffer = [0; 16 * 1024];
            while let Ok(n @ 1..) = stdout.read(&mut buffer) {
                if to_us.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let said = Arc::new(Mutex::new(String::new()));
        let keep = Arc::clone(&said);
        std::thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(n @ 1..) = stderr.read(&mut buffer) {
                let Ok(mut said) = keep.lock() else { break };
                if said.len() < 4096 {
                    said.push_str(&String::from_utf8_lossy(&buffer[..n]));
                }
            }
        });
        let mut qemu = Self {
            child,
            input,
            output,
            said,
        };
        // The agent sends a byte when it starts. What an emulated UART is sent before its program
        // has started it would be stuck.
        let deadline = Instant::now() + options.limit;
        if options.machine.wire == Wire::Uart && qemu.receive(deadline)?.is_none() {
            return Err(DeviceError::Timeout {
                request: "start",
                seconds: options.limit.as_secs(),
            });
        }
        LinkDevice::connect(
            qemu,
            options.limit,
            (options.machine.wire == Wire::Semihosting).then_some(INSTRUCTIONS_PER_SECOND),
        )
        .map(LinkDevice::untimed)
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the emulator now.
    pub fn kill(&mut self) {
        self.input = None;
        // Killing a process that has ended is an error that does not matter; waiting frees it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn gone(&mut self) -> DeviceError {
        // It closes its pipes a moment before it has ended.
        let mut status = None;
        for _ in 0..50 {
            status = self.child.try_wait().ok().flatten();
            if status.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let status = status.map_or("no exit status".into(), |s| s.to_string());
        let said = self
            .said
            .lock()
            .map(|s| s.trim().to_owned())
            .unwrap_or_default();
        DeviceError::Gone {
            detail: format!("the emulator ended ({status}) {said}"),
        }
    }
}

impl Transport for Qemu {
    fn send(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        let sent = match self.input.as_mut() {
            Some(input) => input.write_all(bytes).and_then(|()| input.flush()).is_ok(),
            None => false,
        };
        if sent { Ok(()) } else { Err(self.gone()) }
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, DeviceError> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.output.recv_timeout(left) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(self.gone()),
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        self.kill();
    }
}
