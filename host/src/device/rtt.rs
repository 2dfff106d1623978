//! A byte stream through a device's RAM: SEGGER's RTT, over anything that reads and writes memory.
//!
//! The control block's layout is that of SEGGER's "Real Time Transfer" (UM08001, chapter 16).

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{DeviceError, Transport};

/// A debugger's view of a device's memory. The device runs on between two accesses.
pub trait Memory {
    /// Reads bytes.
    ///
    /// # Errors
    /// Where the debugger fails, or there is no memory.
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), DeviceError>;

    /// Writes bytes.
    ///
    /// # Errors
    /// As [`Memory::read`].
    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), DeviceError>;

    /// Several accesses follow each other: a debugger that has to stop the device does so once.
    ///
    /// # Errors
    /// Where the debugger fails.
    fn begin(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }

    /// The accesses are done.
    ///
    /// # Errors
    /// Where the debugger fails.
    fn end(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

const MARK: &[u8; 16] = b"SEGGER RTT\0\0\0\0\0\0";
/// Mark, two counts, and two channels of six words.
const BLOCK: usize = 16 + 8 + 2 * 24;
/// A longer buffer is none that an agent has.
const MAX_BUFFER: u32 = 1 << 20;
/// How long a device is left alone that had nothing to say.
const PAUSE: Duration = Duration::from_millis(2);

/// One direction.
#[derive(Clone, Copy, Debug)]
struct Channel {
    buffer: u32,
    size: u32,
    /// Address of the writer's index; the reader's is behind it.
    indices: u32,
}

/// The stream.
#[derive(Debug)]
pub struct RttTransport<M> {
    memory: M,
    up: Channel,
    down: Channel,
}

impl<M: Memory> RttTransport<M> {
    /// Looks for the control block in a part of RAM, until `limit` is over: a device that was reset
    /// takes a moment to set it up.
    ///
    /// # Errors
    /// [`DeviceError::NoControlBlock`].
    pub fn find(mut memory: M, ram: Range<u32>, limit: Duration) -> Result<Self, DeviceError> {
        let deadline = Instant::now() + limit;
        loop {
            memory.begin()?;
            let found = search(&mut memory, ram.clone());
            memory.end()?;
            if let Some((up, down)) = found? {
                return Ok(Self { memory, up, down });
            }
            if Instant::now() >= deadline {
                return Err(DeviceError::NoControlBlock {
                    from: ram.start,
                    to: ram.end,
                });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn indices(&mut self, channel: Channel) -> Result<(u32, u32), DeviceError> {
        let mut bytes = [0; 8];
        self.memory.read(channel.indices, &mut bytes)?;
        let (write, read) = (word(&bytes, 0), word(&bytes, 4));
        if write >= channel.size || read >= channel.size {
            return Err(DeviceError::UnexpectedAnswer {
                request: "RTT",
                answer: format!("indices {write} and {read} in a buffer of {}", channel.size),
            });
        }
        Ok((write, read))
    }

    /// Sends as many bytes as there is room for.
    fn push(&mut self, bytes: &[u8]) -> Result<usize, DeviceError> {
        let down = self.down;
        let (mut write, read) = self.indices(down)?;
        let room = (read + down.size - write - 1) % down.size;
        let count = bytes.len().min(room as usize);
        let (mut rest, _) = bytes.split_at(count);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min((down.size - write) as usize));
            self.memory.write(down.buffer + write, now)?;
            write = (write + now.len() as u32) % down.size;
            rest = later;
        }
        if count > 0 {
            self.memory.write(down.indices, &write.to_le_bytes())?;
        }
        Ok(count)
    }

    /// All bytes that are there.
    fn pull(&mut self) -> Result<Vec<u8>, DeviceError> {
        let up = self.up;
        let (write, mut read) = self.indices(up)?;
        let mut bytes = Vec::new();
        while read != write {
            let end = if write > read { write } else { up.size };
            let mut part = vec![0; (end - read) as usize];
            self.memory.read(up.buffer + read, &mut part)?;
            bytes.extend(part);
            read = end % up.size;
        }
        if !bytes.is_empty() {
            self.memory.write(up.indices + 4, &read.to_le_bytes())?;
        }
        Ok(bytes)
    }

    /// Accesses memory in one piece.
    fn at_once<R>(
        &mut self,
        access: impl FnOnce(&mut Self) -> Result<R, DeviceError>,
    ) -> Result<R, DeviceError> {
        self.memory.begin()?;
        let done = access(self);
        self.memory.end()?;
        done
    }
}

/// Both channels, where a sound control block lies in the range. Memory that cannot be read ends it.
fn search(
    memory: &mut impl Memory,
    ram: Range<u32>,
) -> Result<Option<(Channel, Channel)>, DeviceError> {
    const STEP: u32 = 1024;
    let mut at = ram.start;
    // The end of the step before: a mark may lie across.
    let mut kept = Vec::new();
    while at < ram.end {
        let len = STEP.min(ram.end - at) as usize;
        let mut bytes = vec![0; len];
        match memory.read(at, &mut bytes) {
            Ok(()) => {}
            Err(DeviceError::NoMemory { .. }) => return Ok(None),
            Err(e) => return Err(e),
        }
        let window = [&kept[..], &bytes].concat();
        let start = at - kept.len() as u32;
        for (i, _) in window
            .windows(MARK.len())
            .enumerate()
            .filter(|(_, w)| w == MARK)
        {
            let mut block = [0; BLOCK];
            memory.read(start + i as u32, &mut block)?;
            if let Some(channels) = channels(&block, start + i as u32) {
                return Ok(Some(channels));
            }
        }
        kept = window[window.len().saturating_sub(MARK.len() - 1)..].to_vec();
        at = at.saturating_add(len as u32);
    }
    Ok(None)
}

fn channels(block: &[u8; BLOCK], address: u32) -> Option<(Channel, Channel)> {
    let (up, down) = (word(block, 16), word(block, 20));
    let channel = |at: usize| {
        let channel = Channel {
            buffer: word(block, at + 4),
            size: word(block, at + 8),
            indices: address + at as u32 + 12,
        };
        let sound = (2..=MAX_BUFFER).contains(&channel.size)
            && channel.buffer.checked_add(channel.size).is_some();
        sound.then_some(channel)
    };
    // Those after the first are not ours; the first downward one follows all upward ones.
    if !(1..=16).contains(&up) || down == 0 || up != 1 {
        return None;
    }
    channel(24).zip(channel(48))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl<M: Memory> Transport for RttTransport<M> {
    fn send(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        let mut rest = bytes;
        let mut deadline = Instant::now() + Duration::from_secs(10);
        while !rest.is_empty() {
            let sent = self.at_once(|rtt| rtt.push(rest))?;
            if sent > 0 {
                rest = &rest[sent..];
                deadline = Instant::now() + Duration::from_secs(10);
            } else if Instant::now() >= deadline {
                return Err(DeviceError::Gone {
                    detail: "it takes no bytes over RTT".into(),
                });
            } else {
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, DeviceError> {
        loop {
            let bytes = self.at_once(Self::pull)?;
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RAM with a device in it that gives back what it is sent, byte by byte.
    struct Echo {
        ram: Vec<u8>,
        block: usize,
    }

    const RAM: u32 = 0x2000_0000;

    impl Echo {
        fn new(block: usize, sizes: [u32; 2]) -> Self {
            let mut ram = vec![0xEE; 8192];
            let mut words = vec![1u32, 1];
            for (size, buffer) in sizes.into_iter().zip([4096u32, 6000]) {
                words.extend([0, RAM + buffer, size, 0, 0, 2]);
            }
            let words: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
            ram[block..block + 16].copy_from_slice(MARK);
            ram[block + 16..block + 16 + words.len()].copy_from_slice(&words);
            Self { ram, block }
        }

        fn run(&mut self) {
            let get = |ram: &[u8], at: usize| word(ram, at) as usize;
            let (up, down) = (self.block + 24, self.block + 48);
            loop {
                let (write, read) = (get(&self.ram, down + 12), get(&self.ram, down + 16));
                let (to, from) = (get(&self.ram, up + 12), get(&self.ram, up + 16));
                let (up_size, down_size) = (get(&self.ram, up + 8), get(&self.ram, down + 8));
                // No device sets up a block like this.
                if up_size == 0 || down_size == 0 {
                    return;
                }
                let next = (to + 1) % up_size;
                if write == read || next == from {
                    return;
                }
                self.ram[4096 + to] = self.ram[6000 + read];
                let set = |ram: &mut [u8], at: usize, value: usize| {
                    ram[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
                };
                set(&mut self.ram, up + 12, next);
                set(&mut self.ram, down + 16, (read + 1) % down_size);
            }
        }
    }

    impl Memory for Echo {
        fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), DeviceError> {
            let at = address.wrapping_sub(RAM) as usize;
            match self.ram.get(at..at + out.len()) {
                Some(bytes) => out.copy_from_slice(bytes),
                None => return Err(DeviceError::NoMemory { address }),
            }
            Ok(())
        }
        fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), DeviceError> {
            let at = (address - RAM) as usize;
            self.ram[at..at + bytes.len()].copy_from_slice(bytes);
            Ok(())
        }
        fn end(&mut self) -> Result<(), DeviceError> {
            self.run();
            Ok(())
        }
    }

    #[test]
    fn bytes_go_round_buffers_of_any_size_wherever_the_block_lies() {
        for (block, sizes) in [
            (0, [64, 64]),
            (1020, [7, 5]),
            (2044, [2, 2]),
            (3000, [33, 1000]),
        ] {
            let ram = RAM..RAM + 65536;
            let echo = Echo::new(block, sizes);
            let mut rtt = RttTransport::find(echo, ram, Duration::ZERO).expect("a block");
            let mut back = Vec::new();
            let sent: Vec<u8> = (0..500).map(|i| (i * 7) as u8).collect();
            for part in sent.chunks(1) {
                rtt.send(part).expect("room");
                let soon = Instant::now() + Duration::from_secs(1);
                back.extend(rtt.receive(soon).expect("it works").expect("the byte"));
            }
            assert_eq!(back, sent, "{sizes:?}");
        }
    }

    #[test]
    fn without_a_sound_block_nothing_is_found() {
        let none = Echo {
            ram: vec![0; 4096],
            block: 0,
        };
        let find = |echo| RttTransport::find(echo, RAM..RAM + 65536, Duration::ZERO);
        assert!(matches!(
            find(none),
            Err(DeviceError::NoControlBlock { .. })
        ));
        for sizes in [[0, 64], [64, 1], [64, u32::MAX]] {
            assert!(find(Echo::new(64, sizes)).is_err(), "{sizes:?}");
        }
        // Indices that cannot be are no reason to read all of memory.
        let mut rtt = find(Echo::new(64, [64, 64])).expect("a block");
        rtt.memory.ram[64 + 24 + 12..][..4].copy_from_slice(&[0xff; 4]);
        assert!(rtt.receive(Instant::now()).is_err());
    }
}
