use std::path::PathBuf;

use thiserror::Error;

/// What can go wrong between host and device.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The emulator is not installed.
    #[error(
        "no emulator: `{program}` is not there; install it (Debian: `apt-get install qemu-system-arm`, macOS: `brew install qemu`) or name it in QMEND_QEMU"
    )]
    EmulatorMissing {
        /// What was looked for.
        program: String,
    },
    /// The firmware is not built.
    #[error(
        "no firmware for the emulator: build it with `firmware/build.sh` in qmend's sources, or name the ELF file in QMEND_FIRMWARE (looked at: {})",
        searched.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    )]
    FirmwareMissing {
        /// Where it was looked for.
        searched: Vec<PathBuf>,
    },
    /// The emulator could not be started.
    #[error("cannot start `{program}`: {source}")]
    Start {
        /// The emulator.
        program: String,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The device ended or closed its side.
    #[error("the device has gone: {detail}")]
    Gone {
        /// Exit status and what it last said.
        detail: String,
    },
    /// No answer within the time limit.
    #[error(
        "the device did not answer `{request}` within {seconds} s; is it powered, is its agent flashed, and does no other program have the port open?"
    )]
    Timeout {
        /// The request.
        request: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// Host and firmware speak different versions of the messages.
    #[error(
        "the firmware speaks version {device} of the messages and this program version {host}: build both from the same sources (`firmware/build.sh` builds the firmware)"
    )]
    ProtocolVersion {
        /// Firmware's.
        device: u8,
        /// Ours.
        host: u8,
    },
    /// The device answered something else than what was asked.
    #[error("the device answered `{request}` with something else: {answer}")]
    UnexpectedAnswer {
        /// The request.
        request: &'static str,
        /// The answer.
        answer: String,
    },
    /// The device refused.
    #[error("the device refused `{request}`: {reason}")]
    Refused {
        /// The request.
        request: &'static str,
        /// Its reason.
        reason: String,
    },
    /// The firmware panicked.
    #[error(
        "the firmware panicked{}; {}reset the device, and please report this",
        if file.is_empty() { String::new() } else { format!(" at {file}:{line}: {message}") },
        if trace.is_empty() { String::new() } else {
            format!("what may be return addresses on its stack, for `addr2line -e agent-BOARD.elf`: {}; ", hex(trace))
        }
    )]
    Panicked {
        /// Source file.
        file: String,
        /// Line.
        line: u32,
        /// Message, where there is one.
        message: String,
        /// Words on its stack that may be return addresses, innermost first.
        trace: Vec<u32>,
    },
    /// The image does not fit.
    #[error(
        "the image needs {needed} bytes of {what} and the device has {capacity}; use a board with more, or a smaller model (`qmend inspect` says what it needs; fewer bits of weights save flash)"
    )]
    TooLarge {
        /// Which memory.
        what: &'static str,
        /// Bytes needed.
        needed: u64,
        /// Bytes there are.
        capacity: u64,
    },
    /// The image is not sound.
    #[error("the image is not sound: {reason}")]
    BadImage {
        /// The reason.
        reason: String,
    },
    /// The device holds other bytes than were sent.
    #[error(
        "the image on the device has CRC {device:08x} and the one sent has {host:08x}; flash it again (`qmend flash`), and make sure that nobody else does meanwhile"
    )]
    ImageDiffers {
        /// Device's.
        device: u32,
        /// Ours.
        host: u32,
    },
    /// Writes were refused as out of order, again and again.
    #[error(
        "the device took the parts of `{request}` for out of order, again and again; check the line, or reset the device and try again"
    )]
    OutOfOrder {
        /// The request.
        request: &'static str,
    },
    /// The device ran on another input than was written for this run.
    #[error(
        "the device ran on another input than the one that was sent, again and again: messages come late or twice on its line; check it, or reset the device and try again"
    )]
    OtherInput,
    /// The firmware was built without an operator of the image.
    #[error(
        "operator {operator} of the image is a {kind}, which this firmware was built without; flash firmware with all operators (`firmware/build.sh`), or with those of this model (`firmware/build.sh --operators {feature},...`)"
    )]
    OperatorMissing {
        /// Its place in execution order.
        operator: usize,
        /// Its name.
        kind: &'static str,
        /// The firmware's feature of this name builds it in.
        feature: String,
    },
    /// The image is of a kind that the firmware does not read.
    #[error(
        "the firmware cannot read this image: {reason}; flash newer firmware, or write the model for this one"
    )]
    Unsuitable {
        /// What in it.
        reason: String,
    },
    /// The device runs another image than the patch is for.
    #[error(
        "the patch is for an image of {wanted_bytes} bytes with CRC {wanted:08x}, and the device has {found}; make the patch from the model that is there (`qmend diff`), or flash the whole model"
    )]
    PatchBase {
        /// Length that the patch asks for.
        wanted_bytes: u32,
        /// CRC that the patch asks for.
        wanted: u32,
        /// What the device has.
        found: String,
    },
    /// The patch is not sound.
    #[error("the patch is not sound: {reason}; make it again with `qmend diff`")]
    BadPatch {
        /// The reason.
        reason: String,
    },
    /// A port cannot be opened.
    #[error("cannot open {port}: {reason}")]
    Port {
        /// As it was given.
        port: String,
        /// The system's reason.
        reason: String,
    },
    /// No image was loaded.
    #[error("no image is loaded; flash one with `qmend flash MODEL`")]
    NoImage,
    /// An input of the wrong length.
    #[error("the input has {given} elements and the model takes {expected}")]
    InputLength {
        /// Elements given.
        given: usize,
        /// Elements expected.
        expected: usize,
    },
    /// There is no such operator.
    #[error("the model has {operators} operators, no operator {operator}")]
    NoSuchOperator {
        /// Asked for.
        operator: usize,
        /// There are.
        operators: usize,
    },
    /// The engine refused on the host.
    #[error("the engine refused: {reason}")]
    Run {
        /// The reason.
        reason: String,
    },
    /// The device takes signed images only.
    #[error(
        "the device takes signed models only, and this one is not signed; sign it with `qmend sign MODEL --key KEY` (a patch, by `qmend diff` to a signed model)"
    )]
    Unsigned,
    /// The block was not signed by the device's key.
    #[error(
        "the device does not accept the signature: it was changed, or made with another key than the firmware's; sign the model again with the key that the firmware was built for"
    )]
    BadSignature,
    /// Signed with another key.
    #[error(
        "the model is signed with key {file}, and the device takes key {device} only; sign it with that one (`qmend sign`)"
    )]
    OtherKey {
        /// In the file.
        file: String,
        /// The firmware's.
        device: String,
    },
    /// An older version than the device has had.
    #[error(
        "the model is version {version}, and the device takes none below {lowest} any more; sign it as a newer one (`qmend sign --version {lowest}`), if it is one"
    )]
    OldVersion {
        /// The image's.
        version: u32,
        /// The lowest that is taken.
        lowest: u32,
    },
    /// What was sent is not what was signed.
    #[error(
        "what the device would run is not the model that was signed: the file was changed after it; sign the model again"
    )]
    OtherThanSigned,
    /// The image has no self-tests.
    #[error(
        "the model has no self-tests; put some in with `qmend repair --self-test N` or `qmend export --self-test DATA`"
    )]
    NoSelfTests,
    /// The firmware was built without what was asked for.
    #[error("the firmware was built without what `{request}` needs; build it with all features")]
    Unsupported {
        /// The request.
        request: &'static str,
    },
    /// A debugger finds no RTT control block.
    #[error(
        "no RTT control block between {from:#010x} and {to:#010x}: flash an agent that speaks by RTT (`firmware/build.sh --rtt`) and let it run"
    )]
    NoControlBlock {
        /// First address that was looked at.
        from: u32,
        /// The one behind the last.
        to: u32,
    },
    /// A debugger cannot read or write there.
    #[error("the debugger cannot access memory at {address:#010x}")]
    NoMemory {
        /// The address.
        address: u32,
    },
    /// A debug probe, or the chip behind it, is not there or does not do what it should.
    #[error("{problem}; {help}")]
    Probe {
        /// What is wrong.
        problem: String,
        /// What to do.
        help: String,
    },
}

fn hex(words: &[u32]) -> String {
    let words: Vec<String> = words.iter().map(|w| format!("{w:#x}")).collect();
    words.join(" ")
}
