//! The firmware's agent on a thread of the test: the same code as on a device, with a pipe as its
//! link and a vector as its slot.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use qmend::device::{DeviceError, LinkDevice, Transport};
use qmend_firmware::agent::{Agent, Buffers};
use qmend_firmware::port::{BoardInfo, Link, Meter, Slot, SlotWriteError};

/// What every byte passes through, in both directions.
pub type Noise = Box<dyn FnMut(u8) -> u8 + Send>;

/// The host's end of the pipe.
pub struct Pipe {
    to_agent: Sender<u8>,
    from_agent: Receiver<u8>,
    noise: Noise,
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

struct VecSlot(Vec<u8>);

impl Slot for VecSlot {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn write(&mut self, offset: usize, data: &[u8]) -> Result<(), SlotWriteError> {
        self.0
            .get_mut(offset..offset + data.len())
            .ok_or(SlotWriteError)?
            .copy_from_slice(data);
        Ok(())
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

/// Starts an agent with `slot` bytes for an image and `pool` bytes for tensors. It ends with the
/// returned device. `noise` is what bytes pass through to and from the agent.
///
/// # Errors
/// Where the noise leaves no greeting whole.
pub fn start(slot: usize, pool: usize, noise: [Noise; 2]) -> Result<LinkDevice<Pipe>, DeviceError> {
    let (to_agent, from_host) = channel();
    let (to_host, from_agent) = channel();
    let [to, from] = noise;
    std::thread::spawn(move || {
        let link = AgentEnd {
            from_host,
            to_host,
            noise: from,
        };
        let mut pool = vec![0; pool];
        let mut buffers = Box::new(Buffers::new());
        let info = BoardInfo {
            board: "in-process",
            core: "none",
            code_bytes: 0,
        };
        let slot = VecSlot(vec![0xff; slot]);
        let Err(Ended) = Agent::new(info, link, slot, NoMeter, &mut pool, &mut buffers).serve();
    });
    LinkDevice::connect(
        Pipe {
            to_agent,
            from_agent,
            noise: to,
        },
        Duration::from_secs(20),
        Some(3),
    )
}

/// A link without noise.
pub fn quiet() -> [Noise; 2] {
    [Box::new(|b| b), Box::new(|b| b)]
}
