//! Frames: consistent overhead byte stuffing around a message and its CRC.
//!
//! COBS after Cheshire and Baker, "Consistent Overhead Byte Stuffing", SIGCOMM 1997. The check is
//! CRC-32/ISO-HDLC, little-endian, behind the message.

use serde::Serialize;

pub use crate::crc::crc32;

/// Longest run of bytes behind one COBS code byte.
const RUN: usize = 254;

/// Bytes that a frame adds to a message of `len` bytes, at most: CRC, code bytes, final zero.
pub const fn frame_overhead(len: usize) -> usize {
    4 + (len + 4) / RUN + 1 + 1
}

/// Why bytes between two zeros are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// More bytes than the reader's buffer holds.
    TooLong,
    /// A code byte points past the end.
    Stuffing,
    /// Fewer bytes than a CRC.
    TooShort,
    /// The CRC differs.
    Crc,
}

/// Serialises `message` into `scratch`, and hands the frame's bytes to `emit` piece by piece, the
/// final zero included.
///
/// # Errors
/// postcard's, where `scratch` is shorter than the message and 4 bytes of CRC; what `emit` returns.
pub fn write_frame<M: Serialize + ?Sized, E>(
    message: &M,
    scratch: &mut [u8],
    mut emit: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<Result<(), E>, postcard::Error> {
    let room = scratch.len().saturating_sub(4);
    let len = postcard::to_slice(message, &mut scratch[..room])?.len();
    let crc = crc32(&scratch[..len]).to_le_bytes();
    scratch[len..len + 4].copy_from_slice(&crc);
    Ok(stuff(&scratch[..len + 4], &mut emit))
}

fn stuff<E>(mut rest: &[u8], emit: &mut impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    loop {
        let window = &rest[..rest.len().min(RUN)];
        let run = window.iter().position(|&b| b == 0).unwrap_or(window.len());
        emit(&[run as u8 + 1])?;
        emit(&rest[..run])?;
        if run == rest.len() {
            break;
        }
        // A full run stands for no zero, a shorter one for the zero behind it.
        rest = &rest[if run == RUN { run } else { run + 1 }..];
    }
    emit(&[0])
}

/// Undoes the stuffing in place; the number of bytes left, or `None` where a code byte is wrong.
fn unstuff(bytes: &mut [u8]) -> Option<usize> {
    let (mut read, mut write) = (0, 0);
    while read < bytes.len() {
        let code = bytes[read] as usize;
        if code == 0 || read + code > bytes.len() {
            return None;
        }
        // Byte by byte: the library's function for ranges that overlap is larger than all of this.
        for at in read + 1..read + code {
            bytes[write] = bytes[at];
            write += 1;
        }
        read += code;
        if code <= RUN && read < bytes.len() {
            bytes[write] = 0;
            write += 1;
        }
    }
    Some(write)
}

/// Collects bytes until a frame is whole. `N` bounds the frame's stuffed length.
#[derive(Debug)]
pub struct FrameReader<const N: usize> {
    bytes: [u8; N],
    len: usize,
    overflow: bool,
}

impl<const N: usize> FrameReader<N> {
    /// An empty reader.
    pub const fn new() -> Self {
        Self {
            bytes: [0; N],
            len: 0,
            overflow: false,
        }
    }

    /// Takes one byte. At the end of a frame, the message's bytes or what is wrong with them;
    /// either way the next byte starts a new frame. Zeros between frames are ignored.
    pub fn push(&mut self, byte: u8) -> Option<Result<&[u8], FrameError>> {
        if byte != 0 {
            match self.bytes.get_mut(self.len) {
                Some(slot) => {
                    *slot = byte;
                    self.len += 1;
                }
                None => self.overflow = true,
            }
            return None;
        }
        let len = core::mem::take(&mut self.len);
        if core::mem::take(&mut self.overflow) {
            return Some(Err(FrameError::TooLong));
        }
        if len == 0 {
            return None;
        }
        Some(self.open(len))
    }

    fn open(&mut self, len: usize) -> Result<&[u8], FrameError> {
        let len = unstuff(&mut self.bytes[..len]).ok_or(FrameError::Stuffing)?;
        let end = len.checked_sub(4).ok_or(FrameError::TooShort)?;
        let (message, crc) = self.bytes[..len].split_at(end);
        if crc != crc32(message).to_le_bytes() {
            return Err(FrameError::Crc);
        }
        Ok(message)
    }
}

impl<const N: usize> Default for FrameReader<N> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::vec::Vec;

    fn stuffed(data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        stuff::<()>(data, &mut |b| {
            out.extend_from_slice(b);
            Ok(())
        })
        .unwrap();
        out
    }

    #[test]
    fn stuffing_gives_the_bytes_of_the_paper() {
        assert_eq!(stuffed(&[]), [1, 0]);
        assert_eq!(stuffed(&[0]), [1, 1, 0]);
        assert_eq!(stuffed(&[0, 0]), [1, 1, 1, 0]);
        assert_eq!(stuffed(&[0x11, 0x22, 0, 0x33]), [3, 0x11, 0x22, 2, 0x33, 0]);
        let long: Vec<u8> = (1..=254).collect();
        let mut expected = std::vec![255];
        expected.extend(1..=254);
        expected.push(0);
        assert_eq!(stuffed(&long), expected);
    }

    #[test]
    fn unstuffing_undoes_stuffing_at_every_length_around_a_full_run() {
        for len in (0..20).chain(250..260).chain(505..515) {
            for zero_every in [1, 2, 7, 253, 254, 255, 1000] {
                let data: Vec<u8> = (0..len)
                    .map(|i| {
                        if i % zero_every == zero_every - 1 {
                            0
                        } else {
                            7
                        }
                    })
                    .collect();
                let mut bytes = stuffed(&data);
                assert_eq!(bytes.pop(), Some(0));
                assert!(!bytes.contains(&0));
                let n = unstuff(&mut bytes).unwrap();
                assert_eq!(
                    &bytes[..n],
                    &data[..],
                    "length {len}, a zero every {zero_every}"
                );
                assert!(stuffed(&data).len() <= data.len() + frame_overhead(data.len()) - 4);
            }
        }
    }

    fn read<const N: usize>(
        reader: &mut FrameReader<N>,
        bytes: &[u8],
    ) -> Vec<Result<Vec<u8>, FrameError>> {
        bytes
            .iter()
            .filter_map(|&b| reader.push(b).map(|r| r.map(<[u8]>::to_vec)))
            .collect()
    }

    #[test]
    fn a_message_survives_its_frame() {
        let mut scratch = [0; 64];
        let mut wire = Vec::new();
        write_frame::<_, ()>(&(7u8, [1u8, 0, 2]), &mut scratch, |b| {
            wire.extend_from_slice(b);
            Ok(())
        })
        .unwrap()
        .unwrap();
        let mut reader = FrameReader::<64>::new();
        assert_eq!(read(&mut reader, &wire), [Ok(std::vec![7, 1, 0, 2])]);
    }

    #[test]
    fn each_kind_of_damage_is_named_and_the_next_frame_is_read() {
        let mut scratch = [0; 64];
        let mut good = Vec::new();
        write_frame::<_, ()>(&42u8, &mut scratch, |b| {
            good.extend_from_slice(b);
            Ok(())
        })
        .unwrap()
        .unwrap();
        let mut reader = FrameReader::<16>::new();
        for (bytes, error) in [
            (&[200u8, 1, 0][..], FrameError::Stuffing),
            (&[2, 1, 0], FrameError::TooShort),
            (&[6, 42, 1, 2, 3, 4, 0], FrameError::Crc),
            (&[9; 17], FrameError::TooLong),
        ] {
            let mut wire = bytes.to_vec();
            wire.push(0);
            wire.extend_from_slice(&good);
            assert_eq!(read(&mut reader, &wire), [Err(error), Ok(std::vec![42])]);
        }
    }

    #[test]
    fn a_message_longer_than_the_scratch_space_is_an_error() {
        let mut scratch = [0; 8];
        assert!(write_frame::<_, ()>(&[1u8; 5], &mut scratch, |_| Ok(())).is_err());
    }
}
