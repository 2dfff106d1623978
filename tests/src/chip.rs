//! The real agents of boards that no emulator has: their machine code in Unicorn, with models of the chips'
//! flash controllers and UARTs in Python (`tests/python/chips`).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use qmend::device::port::BAUD;
use qmend::device::{LinkDevice, Port, PortName};
use serde_json::Value;

use crate::emulator::device_is_required;
use crate::litert::python_with;

/// The models' folder.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("python/chips")
}

/// A Python with Unicorn, or `None` after printing that `test` is skipped.
///
/// # Panics
/// Where it is required and not there.
pub fn python_or_skip(test: &str) -> Option<PathBuf> {
    let python = python_with("unicorn");
    if python.is_none() {
        let lacks = "no Python with unicorn; run tests/python/setup.sh";
        assert!(
            !device_is_required(),
            "{test} must not be skipped here: {lacks}"
        );
        println!("SKIPPED {test}: {lacks}");
    }
    python
}

/// The agent of a board (`stm32f405`, or `stm32f405-signed`), as `firmware/build.sh` puts it there with
/// what `built_by` says; `None` after printing that `test` is skipped.
///
/// # Panics
/// Where it is required and not there.
pub fn agent_or_skip(test: &str, board: &str, built_by: &str) -> Option<PathBuf> {
    let firmware =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target-firmware/agent-{board}.elf"));
    if firmware.is_file() {
        return Some(firmware);
    }
    let lacks = format!("{} is not there; {built_by} builds it", firmware.display());
    assert!(
        !device_is_required(),
        "{test} must not be skipped here: {lacks}"
    );
    println!("SKIPPED {test}: {lacks}");
    None
}

/// A chip that runs an agent. Its process ends when this value is dropped.
pub struct Chip {
    child: Child,
    buttons: ChildStdin,
    answers: BufReader<ChildStdout>,
    address: String,
}

impl Chip {
    /// Starts the chip of a board with this firmware.
    ///
    /// # Panics
    /// Where Python does not start it.
    pub fn start(python: &Path, board: &str, firmware: &Path) -> Self {
        let mut child = Command::new(python)
            .arg(folder().join("serve.py"))
            .arg(board)
            .arg(firmware)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let buttons = child.stdin.take().expect("asked for");
        let mut answers = BufReader::new(child.stdout.take().expect("asked for"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("a line");
        let port = line.trim().strip_prefix("listening ").expect("a port");
        let address = format!("127.0.0.1:{port}");
        Self {
            child,
            buttons,
            answers,
            address,
        }
    }

    /// Greets the agent.
    ///
    /// # Panics
    /// Where it does not answer.
    pub fn connect(&self) -> LinkDevice<Port> {
        let name = PortName::Tcp(self.address.clone());
        Port::connect(&name, BAUD, Duration::from_secs(60)).expect("the agent answers")
    }

    /// Presses a button (`report`, `reset`, `cut N`, `cyccnt off`) and returns what was counted until then.
    /// It is pressed when the agent waits for bytes.
    ///
    /// # Panics
    /// Where the process has ended.
    pub fn press(&mut self, button: &str) -> Value {
        writeln!(self.buttons, "{button}").expect("the machine runs");
        self.buttons.flush().expect("the machine runs");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("an answer");
        let answer: Value = serde_json::from_str(&line)
            .unwrap_or_else(|e| panic!("the machine ended ({e}); its error is above: {line}"));
        assert!(answer.get("error").is_none(), "{answer}");
        answer
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
