//! The firmware's agent on a thread of the test: the same code as on a device, with a pipe as its
//! link and a vector as its flash.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use qmend::device::{DeviceError, LinkDevice, Transport};
use qmend_firmware::agent::{Agent, Buffers, MESSAGE_OVERHEAD, Trust};
use qmend_firmware::port::{BoardInfo, Link, Meter};
use qmend_firmware::ram_flash::RamFlash;
use qmend_shared::slot::{Layout, Region, Sector, SlotLayout, Storage, StorageError};

use crate::committed::Committed;

/// What every byte passes through, in both directions.
pub type Noise = Box<dyn FnMut(u8) -> u8 + Send>;

/// The host's end of the pipe.
pub struct Pipe {
    to_agent: Sender<u8>,
    from_agent: Receiver<u8>,
    noise: Noise,
    operations: Arc<AtomicU64>,
}

impl Pipe {
    /// How often the agent has erased or written flash.
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }
}

impl Transport for Pipe {
    fn send(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        for &byte in bytes {
            let gone = |_| DeviceError::Gone {
                detail: "the thread ended".into(),
            };
            self.to_agent.send((self.noise)(byte)).map_err(gone)?;
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, DeviceError> {
        match self
            .from_agent
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            Ok(byte) => Ok(Some(vec![byte])),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(DeviceError::Gone {
                detail: "the thread ended".into(),
            }),
        }
    }
}

struct AgentEnd {
    from_host: Receiver<u8>,
    to_host: Sender<u8>,
    noise: Noise,
}

struct Ended;

impl Link for AgentEnd {
    type Error = Ended;

    fn read(&mut self) -> Result<u8, Ended> {
        self.from_host.recv().map_err(|_| Ended)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        bytes
            .iter()
            .try_for_each(|&b| self.to_host.send((self.noise)(b)).map_err(|_| Ended))
    }
}

struct NoMeter;

impl Meter for NoMeter {
    fn ticks_per_second(&self) -> u32 {
        1
    }

    fn start(&mut self) {}

    fn stop(&mut self) -> u64 {
        7
    }
}

/// Flash that counts what is done to it.
struct Counted<S> {
    flash: S,
    operations: Arc<AtomicU64>,
}

impl<S: Storage> Storage for Counted<S> {
    fn bytes(&self) -> &[u8] {
        self.flash.bytes()
    }

    fn write_unit(&self) -> usize {
        self.flash.write_unit()
    }

    fn sector(&self, offset: u32) -> Option<Sector> {
        self.flash.sector(offset)
    }

    fn erase(&mut self, sector: Sector) -> Result<(), StorageError> {
        self.operations.fetch_add(1, Ordering::SeqCst);
        self.flash.erase(sector)
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), StorageError> {
        self.operations.fetch_add(1, Ordering::SeqCst);
        self.flash.write(offset, data)
    }
}

/// Sector of the flash.
const SECTOR: u32 = 1024;

/// Two slots of `len` bytes, whole sectors, with a sector of records each.
fn layout(len: u32) -> Layout {
    let slot = |start| SlotLayout {
        image: Region { start, len },
        records: Region {
            start: start + len,
            len: SECTOR,
        },
    };
    Layout {
        slots: [slot(0), slot(len + SECTOR)],
    }
}

/// Starts an agent with `slot` bytes (whole KiB) for an image and `pool` bytes for tensors. It ends
/// with the returned pipe. `noise` is what bytes pass through to and from the agent.
pub fn start_raw(slot: usize, pool: usize, noise: [Noise; 2]) -> Pipe {
    start_trusting(slot, pool, noise, Trust::built_in())
}

/// As [`start_raw`], an agent that takes images from whom `trust` says.
pub fn start_trusting(slot: usize, pool: usize, noise: [Noise; 2], trust: Trust) -> Pipe {
    start_with(slot, pool, noise, &[], move |agent| agent.trusting(trust))
}

/// As [`start_trusting`] on a quiet line, with these contents in its flash.
pub fn start_holding(slot: usize, pool: usize, contents: &[Committed<'_>], trust: Trust) -> Pipe {
    start_with(slot, pool, quiet(), contents, move |agent| {
        agent.trusting(trust)
    })
}

/// An agent with this image in its flash, that runs the image's self-tests before it serves.
pub fn start_tested_at_boot(slot: usize, pool: usize, image: Option<&[u8]>) -> Pipe {
    let contents = image.map(Committed::unsigned);
    start_with(slot, pool, quiet(), contents.as_slice(), |mut agent| {
        agent.self_test();
        agent
    })
}

type Memory<'a> = Counted<RamFlash<'a>>;
type InProcess<'a> = Agent<'a, AgentEnd, Memory<'a>, NoMeter, { 4096 + MESSAGE_OVERHEAD }>;

fn start_with(
    slot: usize,
    pool: usize,
    noise: [Noise; 2],
    contents: &[Committed<'_>],
    prepare: impl FnOnce(InProcess<'_>) -> InProcess<'_> + Send + 'static,
) -> Pipe {
    let operations = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&operations);
    let (to_agent, from_host) = channel();
    let (to_host, from_agent) = channel();
    let [to, from] = noise;
    let layout = layout(slot as u32);
    let mut bytes = vec![0xff; 2 * (slot + SECTOR as usize)];
    for (at, part) in contents.iter().flat_map(|c| c.parts(&layout)) {
        bytes[at as usize..][..part.len()].copy_from_slice(&part);
    }
    std::thread::spawn(move || {
        let link = AgentEnd {
            from_host,
            to_host,
            noise: from,
        };
        let mut pool = vec![0; pool];
        let mut buffers = Box::new(Buffers::<{ 4096 + MESSAGE_OVERHEAD }>::new());
        let info = BoardInfo {
            board: "in-process",
            core: "none",
            code_bytes: 0,
            layout,
            flash_address: 0,
        };
        let flash = Counted {
            flash: RamFlash::new(&mut bytes, SECTOR),
            operations: counter,
        };
        let agent = Agent::new(info, link, flash, NoMeter, &mut pool, &mut buffers);
        let Err(Ended) = prepare(agent).serve();
    });
    Pipe {
        to_agent,
        from_agent,
        noise: to,
        operations,
    }
}

/// As [`start_raw`], greeted.
///
/// # Errors
/// Where the noise leaves no greeting whole.
pub fn start(slot: usize, pool: usize, noise: [Noise; 2]) -> Result<LinkDevice<Pipe>, DeviceError> {
    let pipe = start_raw(slot, pool, noise);
    LinkDevice::connect(pipe, Duration::from_secs(20), Some(3))
}

/// A link without noise.
pub fn quiet() -> [Noise; 2] {
    [Box::new(|b| b), Box::new(|b| b)]
}
