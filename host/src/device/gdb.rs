//! Memory through a GDB server: OpenOCD, pyOCD, J-Link's, probe-rs's, or QEMU's.
//!
//! The remote serial protocol (GDB manual, appendix E) as far as memory needs it. A server answers
//! only while the device stands still, so it is stopped for each group of accesses.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::rtt::{Memory, RttTransport};
use super::{DeviceError, LinkDevice};

/// The RAM of microcontrollers, by Arm's memory map.
const RAM: std::ops::Range<u32> = 0x2000_0000..0x2010_0000;
/// How long a server may take for a packet.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of memory in one packet: a server takes at least these.
const PIECE: usize = 256;

/// A connection to a server.
#[derive(Debug)]
pub struct Gdb {
    stream: TcpStream,
    running: bool,
}

impl Gdb {
    /// Connects to HOST:PORT and lets the device run.
    ///
    /// # Errors
    /// Where there is no such server.
    pub fn connect(address: &str) -> Result<Self, DeviceError> {
        let port = |reason: String| DeviceError::Port {
            port: format!("gdb:{address}"),
            reason,
        };
        let stream = TcpStream::connect(address).map_err(|e| {
            port(format!(
                "{e}; is the probe's GDB server (OpenOCD, pyOCD, J-Link's, probe-rs's) running, at HOST:PORT?"
            ))
        })?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| stream.set_nodelay(true))
            .map_err(|e| port(e.to_string()))?;
        let mut gdb = Self {
            stream,
            running: false,
        };
        // Some servers let the device run when someone connects: it is stopped in any case.
        gdb.running = gdb.ask("?")?.is_empty();
        gdb.begin()?;
        gdb.end()?;
        Ok(gdb)
    }

    /// A device whose agent speaks over RTT, through the server at HOST:PORT.
    ///
    /// # Errors
    /// Where there is no server, no control block in the device's RAM, or no agent behind it.
    pub fn device(
        address: &str,
        limit: Duration,
    ) -> Result<LinkDevice<RttTransport<Self>>, DeviceError> {
        let rtt = RttTransport::find(Self::connect(address)?, RAM, PATIENCE)?;
        LinkDevice::connect(rtt, limit, None)
    }

    fn send(&mut self, data: &str) -> Result<(), DeviceError> {
        let sum = data.bytes().fold(0u8, u8::wrapping_add);
        let packet = format!("${data}#{sum:02x}");
        self.stream
            .write_all(packet.as_bytes())
            .map_err(|e| gone(&e))
    }

    fn byte(&mut self) -> Result<u8, DeviceError> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).map_err(|e| gone(&e))?;
        Ok(byte[0])
    }

    /// The next packet's content; what stands between packets (acknowledgements) is passed over.
    fn packet(&mut self) -> Result<String, DeviceError> {
        while self.byte()? != b'$' {}
        let mut data = Vec::new();
        loop {
            match self.byte()? {
                b'#' => break,
                byte if data.len() < 1 << 16 => data.push(byte),
                _ => return Err(unexpected("a packet without end")),
            }
        }
        let sum = [self.byte()?, self.byte()?];
        let sum = std::str::from_utf8(&sum).ok();
        let sum = sum.and_then(|s| u8::from_str_radix(s, 16).ok());
        if sum != Some(data.iter().copied().fold(0, u8::wrapping_add)) {
            return Err(unexpected("a packet with a wrong checksum"));
        }
        self.stream.write_all(b"+").map_err(|e| gone(&e))?;
        String::from_utf8(data).map_err(|_| unexpected("a packet that is no text"))
    }

    fn ask(&mut self, data: &str) -> Result<String, DeviceError> {
        self.send(data)?;
        loop {
            let answer = self.packet()?;
            // What the program prints by semihosting comes in between, and why the device stopped
            // when the connection was made.
            let printed = answer.starts_with('O') && answer.len() > 2;
            let stopped = answer.starts_with(['T', 'S']) && data != "?";
            if !printed && !stopped {
                return Ok(answer);
            }
        }
    }
}

fn gone(error: &std::io::Error) -> DeviceError {
    DeviceError::Gone {
        detail: format!("the GDB server does not answer ({error})"),
    }
}

fn unexpected(answer: &str) -> DeviceError {
    DeviceError::UnexpectedAnswer {
        request: "GDB server",
        answer: answer.into(),
    }
}

impl Memory for Gdb {
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), DeviceError> {
        for (i, part) in out.chunks_mut(PIECE).enumerate() {
            let at = address.wrapping_add((i * PIECE) as u32);
            let answer = self.ask(&format!("m{at:x},{:x}", part.len()))?;
            if answer.starts_with('E') {
                return Err(DeviceError::NoMemory { address: at });
            }
            let digits = answer.as_bytes();
            if digits.len() != 2 * part.len() {
                return Err(unexpected("another number of bytes than asked for"));
            }
            for (to, pair) in part.iter_mut().zip(digits.chunks_exact(2)) {
                let text = std::str::from_utf8(pair).ok();
                *to = text
                    .and_then(|t| u8::from_str_radix(t, 16).ok())
                    .ok_or_else(|| unexpected("memory that is not hexadecimal"))?;
            }
        }
        Ok(())
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), DeviceError> {
        for (i, part) in bytes.chunks(PIECE).enumerate() {
            let at = address.wrapping_add((i * PIECE) as u32);
            let digits: String = part.iter().map(|b| format!("{b:02x}")).collect();
            if self.ask(&format!("M{at:x},{:x}:{digits}", part.len()))? != "OK" {
                return Err(DeviceError::NoMemory { address: at });
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<(), DeviceError> {
        if self.running {
            // An interrupt; the answer says why it stopped.
            self.stream.write_all(&[3]).map_err(|e| gone(&e))?;
            self.packet()?;
            self.running = false;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), DeviceError> {
        if !self.running {
            self.send("c")?;
            self.running = true;
        }
        Ok(())
    }
}
