//! The 16 bytes before the payload.

use super::error::{ImageError, stated};
use crate::arith::Rounding;
use crate::crc::Digest;
use crate::weights::Layout;

/// Length of the header.
pub const HEADER_BYTES: usize = 16;

/// The first four bytes.
pub const MAGIC: [u8; 4] = *b"QMND";

/// The format version that this crate writes and reads.
pub const VERSION: u8 = 1;

/// The header's fields, little-endian in the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Byte 5: how accumulators are rounded.
    pub rounding: Rounding,
    /// Byte 6: how weights lie in their rows.
    pub layout: Layout,
    /// Bytes 8..12: payload bytes behind the header.
    pub payload_bytes: u32,
    /// Bytes 12..16: CRC over bytes 0..12 followed by the payload.
    pub crc: u32,
}

impl Header {
    /// A header for this payload.
    ///
    /// `None` where the payload is longer than its length field can say.
    pub fn for_payload(rounding: Rounding, layout: Layout, payload: &[u8]) -> Option<Self> {
        let mut header = Self {
            rounding,
            layout,
            payload_bytes: u32::try_from(payload.len()).ok()?,
            crc: 0,
        };
        header.crc = header.compute_crc(payload);
        Some(header)
    }

    /// The header's bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut b = [0u8; HEADER_BYTES];
        b[0..4].copy_from_slice(&MAGIC);
        b[4] = VERSION;
        b[5] = self.rounding.tag();
        b[6] = self.layout.tag();
        b[8..12].copy_from_slice(&self.payload_bytes.to_le_bytes());
        b[12..16].copy_from_slice(&self.crc.to_le_bytes());
        b
    }

    /// Reads the header at the start of `bytes` and verifies everything but length and CRC.
    ///
    /// # Errors
    ///
    /// What in it is not known here.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let Some(b) = bytes.first_chunk::<HEADER_BYTES>() else {
            return Err(ImageError::TooShort {
                given: stated(bytes.len()),
            });
        };
        let magic = [b[0], b[1], b[2], b[3]];
        if magic != MAGIC {
            return Err(ImageError::Magic(magic));
        }
        if b[4] != VERSION {
            return Err(ImageError::Version(b[4]));
        }
        let rounding = Rounding::from_tag(b[5]).ok_or(ImageError::Rounding(b[5]))?;
        let layout = Layout::from_tag(b[6]).ok_or(ImageError::Layout(b[6]))?;
        if b[7] != 0 {
            return Err(ImageError::Reserved(b[7]));
        }
        Ok(Self {
            rounding,
            layout,
            payload_bytes: u32::from_le_bytes([b[8], b[9], b[10], b[11]]),
            crc: u32::from_le_bytes([b[12], b[13], b[14], b[15]]),
        })
    }

    /// The CRC that belongs to this header and payload.
    pub fn compute_crc(&self, payload: &[u8]) -> u32 {
        let mut digest = Digest::new();
        digest.update(&self.to_bytes()[..12]);
        digest.update(payload);
        digest.finalize()
    }

    /// Whether the CRC agrees.
    ///
    /// # Errors
    ///
    /// Both numbers where it does not.
    pub fn verify_crc(&self, payload: &[u8]) -> Result<(), ImageError> {
        let computed = self.compute_crc(payload);
        if computed == self.crc {
            Ok(())
        } else {
            Err(ImageError::Crc {
                stated: self.crc,
                computed,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_each_wrong_field_is_named() {
        let header = Header::for_payload(Rounding::Tflm, Layout::Halfwords, b"abc").unwrap();
        let bytes = header.to_bytes();
        assert_eq!(Header::parse(&bytes), Ok(header));
        assert_eq!(header.verify_crc(b"abc"), Ok(()));
        assert!(matches!(
            header.verify_crc(b"abd"),
            Err(ImageError::Crc { .. })
        ));
        let with = |at: usize, value: u8| {
            let mut b = bytes;
            b[at] = value;
            Header::parse(&b)
        };
        assert_eq!(with(0, b'q'), Err(ImageError::Magic(*b"qMND")));
        assert_eq!(with(4, 2), Err(ImageError::Version(2)));
        assert_eq!(with(5, 9), Err(ImageError::Rounding(9)));
        assert_eq!(with(6, 2), Err(ImageError::Layout(2)));
        assert_eq!(with(7, 1), Err(ImageError::Reserved(1)));
        assert_eq!(
            Header::parse(&bytes[..15]),
            Err(ImageError::TooShort { given: 15 })
        );
    }
}
