//! The 32 bytes before the operations.

use super::error::PatchError;
use crate::crc::Digest;
use crate::image::stated;

/// Length of the header.
pub const HEADER_BYTES: usize = 32;

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"QPAT";

/// The format version that this crate reads.
pub const VERSION: u8 = 1;

/// The header's fields, little-endian in the patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes 8..12: length of the image that the patch applies to.
    pub base_len: u32,
    /// Bytes 12..16: CRC-32 of that image, header included.
    pub base_crc: u32,
    /// Bytes 16..20: length of the image that it gives.
    pub target_len: u32,
    /// Bytes 20..24: CRC-32 of that image.
    pub target_crc: u32,
    /// Bytes 24..28: bytes of operations behind the header.
    pub body_len: u32,
}

impl Header {
    /// The header's bytes in front of `body`, CRC included.
    pub fn to_bytes(&self, body: &[u8]) -> [u8; HEADER_BYTES] {
        let mut b = [0u8; HEADER_BYTES];
        b[0..4].copy_from_slice(&MAGIC);
        b[4] = VERSION;
        let fields = [
            self.base_len,
            self.base_crc,
            self.target_len,
            self.target_crc,
            self.body_len,
        ];
        for (to, field) in b[8..28].chunks_exact_mut(4).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        let crc = crc(&b, body);
        b[28..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads the header at the start of `bytes`, and verifies length and CRC.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub fn parse(bytes: &[u8]) -> Result<Self, PatchError> {
        let Some((b, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(PatchError::TooShort {
                given: stated(bytes.len()),
            });
        };
        let magic = [b[0], b[1], b[2], b[3]];
        if magic != MAGIC {
            return Err(PatchError::Magic(magic));
        }
        if b[4] != VERSION {
            return Err(PatchError::Version(b[4]));
        }
        if b[5..8] != [0; 3] {
            return Err(PatchError::Reserved);
        }
        let field = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let header = Self {
            base_len: field(8),
            base_crc: field(12),
            target_len: field(16),
            target_crc: field(20),
            body_len: field(24),
        };
        if header.body_len as usize != body.len() {
            return Err(PatchError::Length {
                stated: header.body_len,
                given: stated(body.len()),
            });
        }
        let (stated, computed) = (field(28), crc(b, body));
        if stated != computed {
            return Err(PatchError::Crc { stated, computed });
        }
        Ok(header)
    }
}

fn crc(header: &[u8; HEADER_BYTES], body: &[u8]) -> u32 {
    let mut digest = Digest::new();
    digest.update(&header[..28]);
    digest.update(body);
    digest.finalize()
}
