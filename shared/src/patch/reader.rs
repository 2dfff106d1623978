//! From a base and a patch to the target's bytes.

use super::error::PatchError;
use super::header::{HEADER_BYTES, Header};
use super::op::{Op, take_varint, unzigzag};
use crate::crc::{Digest, crc32};
use crate::image::stated;

/// A patch whose CRC is right and whose operations stay inside its base and fill its target.
///
/// There is no way to make one of bytes that have not been checked.
#[derive(Clone, Copy, Debug)]
pub struct Patch<'a> {
    header: Header,
    body: &'a [u8],
}

impl<'a> Patch<'a> {
    /// Checks a patch of exactly these bytes.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, and where. No bytes lead to a panic.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PatchError> {
        let header = Header::parse(bytes)?;
        let body = &bytes[HEADER_BYTES..];
        let (mut rest, mut given, mut place) = (body, 0i64, 0i64);
        while !rest.is_empty() {
            let fail = PatchError::Op {
                at: stated(body.len() - rest.len()),
            };
            // A replacement may reach beyond the base, of which it reads nothing.
            let (len, end) = match Op::take(&mut rest).ok_or(fail)? {
                Op::Copy(n) => (i64::from(n), header.base_len),
                Op::Replace(bytes) => (bytes.len() as i64, u32::MAX),
                Op::Add { words, .. } => (i64::from(words) * 4, header.base_len),
                Op::Move(by) => {
                    place += i64::from(by);
                    (0, u32::MAX)
                }
            };
            given += len;
            place += len;
            if !(0..=i64::from(end)).contains(&place) {
                return Err(fail);
            }
        }
        if given != i64::from(header.target_len) {
            return Err(PatchError::TargetLength {
                stated: header.target_len,
                given: u32::try_from(given).unwrap_or(u32::MAX),
            });
        }
        Ok(Self { header, body })
    }

    /// Lengths and CRCs.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The operations in order.
    pub fn ops(&self) -> impl Iterator<Item = Op<'a>> {
        let mut rest = self.body;
        core::iter::from_fn(move || Op::take(&mut rest))
    }

    /// Whether `base` is the image that the patch was made for.
    ///
    /// # Errors
    ///
    /// [`PatchError::Base`].
    pub fn check_base(&self, base: &[u8]) -> Result<(), PatchError> {
        let wanted = (self.header.base_len, self.header.base_crc);
        let found = (base.len() as u32, crc32(base));
        if wanted == found {
            Ok(())
        } else {
            Err(PatchError::Base { wanted, found })
        }
    }

    /// Whether base and patch give the target that the header announces: the whole application,
    /// with nothing written.
    ///
    /// # Errors
    ///
    /// [`PatchError::Base`] or [`PatchError::TargetCrc`].
    pub fn check(&self, base: &[u8]) -> Result<(), PatchError> {
        self.check_base(base)?;
        let mut reader = self.reader();
        let mut digest = Digest::new();
        let mut block = [0u8; 64];
        loop {
            let n = reader.read(base, &mut block);
            if n == 0 {
                break;
            }
            digest.update(&block[..n]);
        }
        let (stated, computed) = (self.header.target_crc, digest.finalize());
        if stated == computed {
            Ok(())
        } else {
            Err(PatchError::TargetCrc { stated, computed })
        }
    }

    /// A reader at the target's first byte.
    pub fn reader(&self) -> Reader<'a> {
        Reader {
            body: self.body,
            place: 0,
            now: Now::Nothing,
        }
    }
}

/// Gives the target's bytes in order. A copy of it goes on from the same byte.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    body: &'a [u8],
    /// Where the base is read.
    place: usize,
    now: Now<'a>,
}

/// The operation under way.
#[derive(Clone, Debug)]
enum Now<'a> {
    Nothing,
    Copy(u32),
    Replace(&'a [u8]),
    Add {
        words: u32,
        deltas: &'a [u8],
        /// Bytes of the word under way, from `at` on.
        word: [u8; 4],
        at: usize,
    },
}

impl<'a> Reader<'a> {
    /// Fills `out` from its start, and returns how many bytes there were left for it: fewer than
    /// its length only at the target's end.
    ///
    /// `base` is always the same image, the one that [`Patch::check_base`] agrees with; of another
    /// one the result is some other bytes, zeros where it is too short.
    pub fn read(&mut self, base: &[u8], out: &mut [u8]) -> usize {
        let mut filled = 0;
        while filled < out.len() {
            let room = &mut out[filled..];
            let n = match &mut self.now {
                Now::Nothing => match Op::take(&mut self.body) {
                    None => return filled,
                    Some(op) => {
                        self.start(op);
                        continue;
                    }
                },
                Now::Copy(left) => {
                    let n = room.len().min(*left as usize);
                    copy(base, self.place, &mut room[..n]);
                    *left -= n as u32;
                    if *left == 0 {
                        self.now = Now::Nothing;
                    }
                    n
                }
                Now::Replace(bytes) => {
                    let n = room.len().min(bytes.len());
                    let (now, rest) = bytes.split_at(n);
                    room[..n].copy_from_slice(now);
                    *bytes = rest;
                    if rest.is_empty() {
                        self.now = Now::Nothing;
                    }
                    n
                }
                Now::Add {
                    words,
                    deltas,
                    word,
                    at,
                } => {
                    if *at == 4 {
                        if *words == 0 {
                            self.now = Now::Nothing;
                            continue;
                        }
                        let mut old = [0; 4];
                        copy(base, self.place, &mut old);
                        // The check has read every delta.
                        let delta = take_varint(deltas).map_or(0, unzigzag);
                        *word = u32::from_le_bytes(old)
                            .wrapping_add(delta as u32)
                            .to_le_bytes();
                        *words -= 1;
                        *at = 0;
                    }
                    let n = room.len().min(4 - *at);
                    room[..n].copy_from_slice(&word[*at..*at + n]);
                    *at += n;
                    n
                }
            };
            self.place += n;
            filled += n;
        }
        filled
    }

    fn start(&mut self, op: Op<'a>) {
        self.now = match op {
            Op::Copy(n) => Now::Copy(n),
            Op::Replace(bytes) => Now::Replace(bytes),
            Op::Add { words, deltas } => Now::Add {
                words,
                deltas,
                word: [0; 4],
                at: 4,
            },
            Op::Move(by) => {
                self.place = self.place.saturating_add_signed(by as isize);
                Now::Nothing
            }
        };
    }
}

/// Bytes of the base from `at` on; zeros beyond its end.
fn copy(base: &[u8], at: usize, to: &mut [u8]) {
    let from = base.get(at..).unwrap_or(&[]);
    let n = from.len().min(to.len());
    to[..n].copy_from_slice(&from[..n]);
    to[n..].fill(0);
}
