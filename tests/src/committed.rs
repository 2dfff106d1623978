//! What lies in flash after a commit, made without a device: as a probe or a programmer may write it.

use qmend_shared::link::frame::crc32;
use qmend_shared::slot::{Layout, Record};

/// An image in a slot, with its record and what lies before that.
#[derive(Clone, Copy, Debug)]
pub struct Committed<'a> {
    /// 0 or 1.
    pub slot: u8,
    /// Of the record.
    pub sequence: u32,
    /// The image.
    pub image: &'a [u8],
    /// Of the record.
    pub version: u32,
    /// The signature, or nothing.
    pub block: &'a [u8],
}

impl<'a> Committed<'a> {
    /// The first image, of nobody.
    pub fn unsigned(image: &'a [u8]) -> Self {
        Self {
            slot: 0,
            sequence: 1,
            image,
            version: 0,
            block: &[],
        }
    }

    /// Offsets from the first byte that the layout counts from, and bytes.
    pub fn parts(&self, layout: &Layout) -> [(u32, Vec<u8>); 2] {
        let record = Record {
            slot: self.slot,
            sequence: self.sequence,
            len: self.image.len() as u32,
            crc: crc32(self.image),
            version: self.version,
        };
        let place = layout.slots[self.slot as usize];
        let records = [self.block, &record.to_bytes()].concat();
        [
            (place.image.start, self.image.to_vec()),
            (place.records.start, records),
        ]
    }
}
