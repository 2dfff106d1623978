//! The block's bytes.

use crate::{image, patch};

/// Length of a block.
pub const BLOCK_BYTES: usize = 160;

/// Bytes of a block that are signed: all before the signature.
pub const SIGNED_BYTES: usize = 96;

/// Length of a SHA-512.
pub const HASH_BYTES: usize = 64;

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"QSIG";

/// The version of the block that this crate writes and reads.
pub const VERSION: u8 = 1;

/// Ed25519 (RFC 8032) over the first [`SIGNED_BYTES`], SHA-512 of the image.
const ALGORITHM: u8 = 1;

/// What was signed, and the signature. Having one says nothing: see `Signed::verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Counts the model's versions, from 1: a device with rollback protection takes none that is
    /// lower than one that it has had.
    pub version: u32,
    /// Length of the image in bytes.
    pub len: u32,
    /// CRC-32/ISO-HDLC of the image.
    pub crc: u32,
    /// The first 8 bytes of the public key's SHA-512: which key, for people. It decides nothing.
    pub key_id: [u8; 8],
    /// SHA-512 of the image.
    pub hash: [u8; HASH_BYTES],
    /// Ed25519 signature of all before it.
    pub signature: [u8; 64],
}

impl Signed {
    /// The block's bytes; the first [`SIGNED_BYTES`] are what is signed.
    pub fn to_bytes(&self) -> [u8; BLOCK_BYTES] {
        let mut b = [0u8; BLOCK_BYTES];
        b[0..4].copy_from_slice(&MAGIC);
        b[4] = VERSION;
        b[5] = ALGORITHM;
        b[8..12].copy_from_slice(&self.version.to_le_bytes());
        b[12..16].copy_from_slice(&self.len.to_le_bytes());
        b[16..20].copy_from_slice(&self.crc.to_le_bytes());
        b[24..32].copy_from_slice(&self.key_id);
        b[32..96].copy_from_slice(&self.hash);
        b[96..].copy_from_slice(&self.signature);
        b
    }

    /// Reads a block; `None` where the bytes are none that this version writes. Verifies nothing.
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        let b: &[u8; BLOCK_BYTES] = b.try_into().ok()?;
        let field = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let fixed = b[..4] == MAGIC && b[4] == VERSION && b[5] == ALGORITHM;
        let reserved = b[6..8] == [0; 2] && b[20..24] == [0; 4];
        let version = field(8);
        if !fixed || !reserved || version == 0 {
            return None;
        }
        let mut block = Self {
            version,
            len: field(12),
            crc: field(16),
            key_id: [0; 8],
            hash: [0; HASH_BYTES],
            signature: [0; 64],
        };
        block.key_id.copy_from_slice(&b[24..32]);
        block.hash.copy_from_slice(&b[32..96]);
        block.signature.copy_from_slice(&b[96..]);
        Some(block)
    }
}

/// An image or a patch, and the block behind it, where there is one: where exactly [`BLOCK_BYTES`]
/// bytes that begin as a block does follow the end that the header states.
pub fn split(file: &[u8]) -> (&[u8], Option<&[u8]>) {
    let whole = (file, None);
    let Some(at) = file.len().checked_sub(BLOCK_BYTES) else {
        return whole;
    };
    let (content, block) = file.split_at(at);
    let field = |at: usize| {
        let bytes = content.get(at..at + 4)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize)
    };
    let end = match content.first_chunk() {
        Some(&image::MAGIC) => field(8).and_then(|n| n.checked_add(image::HEADER_BYTES)),
        Some(&patch::MAGIC) => field(24).and_then(|n| n.checked_add(patch::HEADER_BYTES)),
        _ => None,
    };
    if end == Some(at) && block.starts_with(&MAGIC) {
        (content, Some(block))
    } else {
        whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Signed {
        Signed {
            version: 7,
            len: 40,
            crc: 0xdead_beef,
            key_id: *b"01234567",
            hash: core::array::from_fn(|i| i as u8),
            signature: core::array::from_fn(|i| 200 - i as u8),
        }
    }

    #[test]
    fn a_block_reads_back_and_a_changed_tag_or_reserved_byte_makes_it_none() {
        let bytes = block().to_bytes();
        assert_eq!(Signed::from_bytes(&bytes), Some(block()));
        assert_eq!(Signed::from_bytes(&bytes[1..]), None);
        for at in (0..8).chain(20..24) {
            let mut bad = bytes;
            bad[at] ^= 1;
            assert_eq!(Signed::from_bytes(&bad), None, "byte {at}");
        }
        let unversioned = Signed {
            version: 0,
            ..block()
        };
        assert_eq!(Signed::from_bytes(&unversioned.to_bytes()), None);
    }

    #[test]
    fn a_block_is_found_behind_an_image_and_behind_a_patch_and_nowhere_else() {
        let mut file = [0u8; 40 + BLOCK_BYTES];
        file[..4].copy_from_slice(&image::MAGIC);
        file[8..12].copy_from_slice(&24u32.to_le_bytes());
        file[40..].copy_from_slice(&block().to_bytes());
        let (content, found) = split(&file);
        assert_eq!((content.len(), found), (40, Some(&file[40..])));
        for (at, value) in [(0, b'q'), (8, 25), (40, b'q')] {
            let mut other = file;
            other[at] = value;
            assert_eq!(split(&other), (&other[..], None), "byte {at}");
        }
        assert_eq!(split(&file[..199]), (&file[..199], None));
        assert_eq!(split(&[]), (&[][..], None));
        let mut patch = file;
        patch[..4].copy_from_slice(&patch::MAGIC);
        patch[24..28].copy_from_slice(&8u32.to_le_bytes());
        assert_eq!(split(&patch).0.len(), 40);
    }
}
