//! Devices: what runs an image, and the proof that it computes the host's bits.
//!
//! - [`Device`]: load an image, run inputs, look at single operators.
//! - [`simulation`]: the shared engine on this machine.
//! - [`link`]: any device behind a byte stream, by the messages of [`qmend_shared::link`]; how they are
//!   framed and repeated is in `conversation`, running a model in `runs`.
//! - [`qemu`]: emulated boards running the real firmware.
//! - [`port`]: a board at a serial port or a socket.
//! - [`rtt`]: a board through its debug port; [`gdb`]: by a GDB server, `probe` (feature
//!   of that name): by a debug probe.
//! - [`flash`]: images, patches and rollback on any device behind a byte stream.
//! - [`verify_layers`]: every tensor.
//! - [`self_test`](self_test()): the self-tests that an image carries.
//! - [`verify`](verify()): host against device, bit for bit, down to the first differing element.

mod authorize;
mod conversation;
mod error;
pub mod flash;
pub mod gdb;
mod layers;
pub mod link;
pub mod port;
#[cfg(feature = "probe")]
pub mod probe;
pub mod qemu;
pub mod rtt;
mod runs;
mod self_test;
pub mod simulation;
mod verify;

pub use error::DeviceError;
pub use flash::{FlashReport, check_fits, operator_feature};
pub use gdb::Gdb;
pub use layers::{LayersReport, verify_layers};
pub use link::{LinkDevice, Transport};
pub use port::{Port, PortName};
pub use qemu::{Machine, Qemu, QemuOptions};
pub use self_test::{SelfTestFailure, SelfTestReport, SelfTestRun, self_test};
pub use simulation::HostDevice;
pub use verify::{Difference, Instructions, Time, VerifyReport, verify};

/// Who a device is and what it can hold.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeviceIdentity {
    /// `host`, or the board's name.
    pub name: String,
    /// The core, for people.
    pub core: String,
    /// Version of the firmware, or of this library on the host.
    pub firmware: String,
    /// Largest image in bytes.
    pub slot_bytes: u64,
    /// Bytes for arena, input and output together.
    pub memory_bytes: u64,
    /// Code and constants of the firmware in bytes; 0 where that means nothing.
    pub code_bytes: u64,
}

/// What a device reads from an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedModel {
    /// Elements of one input.
    pub input_len: usize,
    /// Elements of one output.
    pub output_len: usize,
    /// Number of operators.
    pub operators: usize,
    /// Arena in bytes.
    pub arena_bytes: usize,
}

/// One run's result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inference {
    /// Output in HWC order.
    pub output: Vec<i8>,
    /// Instructions that the device spent in the engine, where it counts them. Instructions are not
    /// cycles.
    pub instructions: Option<u64>,
    /// Ticks of the device's clock, where it has one that says something: not on emulators, whose
    /// clock is their host's.
    pub ticks: Option<u64>,
}

/// Memory in use, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct DeviceStats {
    /// The loaded image's arena.
    pub arena_bytes: u64,
    /// Arena, input and output.
    pub tensor_bytes: u64,
    /// Deepest stack since the image was loaded, the firmware's own frames included; none where it
    /// is not watched.
    pub stack_high_water: Option<u64>,
    /// What [`Inference::ticks`] are, where there are any.
    #[serde(skip)]
    pub clock: Option<Clock>,
}

/// The clock that times inferences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Clock {
    /// Ticks a second.
    pub hz: u64,
    /// Whether a tick is a cycle of the processor.
    pub cycles: bool,
    /// What counts: `DWT CYCCNT`, the processor's cycle counter; `timer`, one at its frequency (SysTick, or the
    /// micro:bit's); `clock`, another one.
    pub counter: &'static str,
}

/// Something that runs images.
///
/// Inputs and outputs are int8 in HWC order, one sample at a time.
pub trait Device {
    /// Who it is.
    fn identity(&self) -> &DeviceIdentity;

    /// Takes an image, which replaces the one before.
    ///
    /// # Errors
    /// Where the image is not sound or does not fit, and where the device does not answer.
    fn load(&mut self, image: &[u8]) -> Result<LoadedModel, DeviceError>;

    /// Runs one input.
    ///
    /// # Errors
    /// Without an image, for an input of another length, and where the device does not answer.
    fn infer(&mut self, input: &[i8]) -> Result<Inference, DeviceError>;

    /// Runs one input and gives the CRC-32 of every operator's output, in execution order.
    ///
    /// # Errors
    /// As [`Device::infer`].
    fn operator_digests(&mut self, input: &[i8]) -> Result<Vec<u32>, DeviceError>;

    /// Runs one input and gives the output of one operator.
    ///
    /// # Errors
    /// As [`Device::infer`], and for an operator that is not there.
    fn operator_output(&mut self, input: &[i8], operator: usize) -> Result<Vec<i8>, DeviceError>;

    /// Runs one of the self-tests that the loaded image carries, from 0; where it has none, only says
    /// so.
    ///
    /// # Errors
    /// As [`Device::infer`]; [`DeviceError::Unsupported`] where the device cannot.
    fn self_test_vector(&mut self, vector: usize) -> Result<SelfTestRun, DeviceError> {
        let _ = vector;
        Err(DeviceError::Unsupported {
            request: "self-test",
        })
    }

    /// Memory in use.
    ///
    /// # Errors
    /// As [`Device::infer`].
    fn stats(&mut self) -> Result<DeviceStats, DeviceError>;
}

/// Bytes of int8 elements.
pub(crate) fn to_bytes(elements: &[i8]) -> Vec<u8> {
    elements.iter().map(|&x| x as u8).collect()
}

/// Elements of bytes.
pub(crate) fn to_elements(bytes: &[u8]) -> impl Iterator<Item = i8> + '_ {
    bytes.iter().map(|&x| x as i8)
}
