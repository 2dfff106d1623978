//! A device at a serial port or a TCP socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::{DeviceError, LinkDevice, Transport};

/// Bits per second where none are given.
pub const BAUD: u32 = 115_200;

/// Where a device is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortName {
    /// A serial port as the system calls it: `/dev/ttyACM0`, `COM3`, a pseudo terminal.
    Serial(String),
    /// `tcp:HOST:PORT`: an emulator's or a bridge's socket.
    Tcp(String),
}

impl FromStr for PortName {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s.strip_prefix("tcp:") {
            Some(address)
                if address
                    .rsplit_once(':')
                    .is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok()) =>
            {
                Ok(Self::Tcp(address.into()))
            }
            Some(_) => Err("a socket is tcp:HOST:PORT, as tcp:localhost:4444".into()),
            None if s.is_empty() => {
                Err("a port is a serial port such as /dev/ttyACM0, or tcp:HOST:PORT".into())
            }
            None => Ok(Self::Serial(s.into())),
        }
    }
}

impl std::fmt::Display for PortName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Serial(name) => f.write_str(name),
            Self::Tcp(address) => write!(f, "tcp:{address}"),
        }
    }
}

/// Bytes in both directions, with a time limit on reading.
pub trait Stream: Read + Write + Send {
    /// The longest that one read waits.
    ///
    /// # Errors
    /// The system's.
    fn read_within(&mut self, limit: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn read_within(&mut self, limit: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(limit))
    }
}

/// A serial port of any system.
struct Serial(Box<dyn serialport::SerialPort>);

impl Read for Serial {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf)
    }
}

impl Write for Serial {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Stream for Serial {
    fn read_within(&mut self, limit: Duration) -> io::Result<()> {
        self.0.set_timeout(limit).map_err(io::Error::from)
    }
}

#[cfg(unix)]
impl Stream for serialport::TTYPort {
    fn read_within(&mut self, limit: Duration) -> io::Result<()> {
        serialport::SerialPort::set_timeout(self, limit).map_err(io::Error::from)
    }
}

/// An open port.
pub struct Port {
    stream: Box<dyn Stream>,
    name: String,
}

impl Port {
    /// A stream that is open already.
    pub fn new(stream: Box<dyn Stream>, name: impl Into<String>) -> Self {
        Self {
            stream,
            name: name.into(),
        }
    }

    /// Opens a port. `baud` is for serial ports (8 bits, no parity, one stop bit).
    ///
    /// # Errors
    /// [`DeviceError::Port`].
    pub fn open(name: &PortName, baud: u32) -> Result<Self, DeviceError> {
        let fail = |reason: String| DeviceError::Port {
            port: name.to_string(),
            reason,
        };
        let stream: Box<dyn Stream> = match name {
            PortName::Serial(path) => {
                let port = serialport::new(path, baud)
                    .open()
                    .map_err(|e| fail(format!("{e}{}", known_ports())))?;
                Box::new(Serial(port))
            }
            PortName::Tcp(address) => {
                let stream = TcpStream::connect(address).map_err(|e| {
                    fail(format!("{e}; is the emulator or bridge listening there?"))
                })?;
                // Small messages go out at once; where that cannot be, they only take longer.
                let _ = stream.set_nodelay(true);
                Box::new(stream)
            }
        };
        Ok(Self::new(stream, name.to_string()))
    }

    /// Opens a port and greets the device. `limit` bounds the wait for each answer.
    ///
    /// # Errors
    /// As [`Port::open`] and [`LinkDevice::connect`].
    pub fn connect(
        name: &PortName,
        baud: u32,
        limit: Duration,
    ) -> Result<LinkDevice<Self>, DeviceError> {
        LinkDevice::connect(Self::open(name, baud)?, limit, None)
    }

    fn gone(&self, detail: impl std::fmt::Display) -> DeviceError {
        DeviceError::Gone {
            detail: format!("{}: {detail}", self.name),
        }
    }
}

/// The ports that there are, for an error's text.
fn known_ports() -> String {
    let names: Vec<String> = serialport::available_ports()
        .map(|ports| ports.into_iter().map(|p| p.port_name).collect())
        .unwrap_or_default();
    if names.is_empty() {
        "; no serial port is there".into()
    } else {
        format!("; there are {}", names.join(", "))
    }
}

impl Transport for Port {
    fn send(&mut self, bytes: &[u8]) -> Result<(), DeviceError> {
        self.stream
            .write_all(bytes)
            .and_then(|()| self.stream.flush())
            .map_err(|e| self.gone(e))
    }

    fn receive(&mut self, deadline: Instant) -> Result<Option<Vec<u8>>, DeviceError> {
        let mut buffer = [0; 4096];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.stream
                .read_within(left.max(Duration::from_millis(1)))
                .map_err(|e| self.gone(e))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(self.gone("the other side has closed")),
                Ok(n) => return Ok(Some(buffer[..n].to_vec())),
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::TimedOut
                            | io::ErrorKind::WouldBlock
                            | io::ErrorKind::Interrupted
                    ) => {}
                Err(e) => return Err(self.gone(e)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_serial_or_tcp() {
        let tcp = PortName::from_str("tcp:localhost:4444");
        assert_eq!(tcp, Ok(PortName::Tcp("localhost:4444".into())));
        let serial = PortName::from_str("/dev/ttyACM0");
        assert_eq!(serial, Ok(PortName::Serial("/dev/ttyACM0".into())));
        for bad in ["", "tcp:", "tcp:host", "tcp::1", "tcp:host:99999"] {
            assert!(PortName::from_str(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_that_is_not_there_is_named_with_those_that_are() {
        let name = PortName::Serial("/nowhere/at-all".into());
        let error = Port::open(&name, BAUD).err().expect("no port").to_string();
        assert!(
            error.contains("/nowhere/at-all") && error.contains("there"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_silent_port_is_a_timeout_and_a_stranger_is_named() {
        let (ours, mut theirs) = serialport::TTYPort::pair().expect("a pseudo terminal");
        // Where nobody has the port open any more, nothing can be read at its other end.
        let _open = ours.try_clone_native().expect("one more handle");
        let port = Port::new(Box::new(ours), "pair");
        let error = LinkDevice::connect(port, Duration::from_secs(1), None).err();
        assert!(
            matches!(error, Some(DeviceError::Timeout { .. })),
            "{error:?}"
        );
        // What was asked is still there to be read.
        let mut asked = [0; 8];
        theirs.read_exact(&mut asked).expect("a frame");
        assert_eq!(asked[0], 0);

        let (ours, mut theirs) = serialport::TTYPort::pair().expect("a pseudo terminal");
        theirs
            .write_all(b"Hello from another program\r\n\0\0".repeat(8).as_slice())
            .expect("it is taken");
        let port = Port::new(Box::new(ours), "pair");
        let error = LinkDevice::connect(port, Duration::from_secs(1), None).err();
        assert!(
            matches!(
                error,
                Some(DeviceError::UnexpectedAnswer { .. } | DeviceError::Timeout { .. })
            ),
            "{error:?}"
        );
    }
}
