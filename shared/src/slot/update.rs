//! A new image, piece by piece.

use super::error::SlotError;
use super::layout::{Layout, Region};
use super::record::Record;
use super::select::{Selected, next_sequence};
use super::storage::{Sector, Storage, write_padded};
use crate::image::Model;
use crate::link::frame::crc32;

/// An image on its way into the slot that does not count.
///
/// Nothing is erased before the first byte of a sector arrives, and nothing counts before
/// [`Update::finish`].
#[derive(Clone, Copy, Debug)]
pub struct Update {
    record: Record,
    region: Region,
    /// Where the next write is expected, from the image's first byte.
    next: u32,
}

impl Update {
    /// Gets ready for an image of `len` bytes with this CRC-32. Touches nothing.
    ///
    /// # Errors
    /// Where it does not fit.
    pub fn begin(
        storage: &impl Storage,
        layout: &Layout,
        selected: Option<&Selected>,
        len: u32,
        crc: u32,
    ) -> Result<Self, SlotError> {
        layout.check(storage)?;
        let slot = selected.map_or(0, Selected::other);
        let region = layout.slots[slot as usize & 1].image;
        if len > region.len {
            return Err(SlotError::TooLong {
                needed: len,
                capacity: region.len,
            });
        }
        let sequence = next_sequence(storage.bytes(), layout)?;
        Ok(Self {
            record: Record {
                slot,
                sequence,
                len,
                crc,
                version: 0,
            },
            region,
            next: 0,
        })
    }

    /// The same update, of a signed image of this version.
    pub fn with_version(mut self, version: u32) -> Self {
        self.record.version = version;
        self
    }

    /// What lies where the image belongs.
    pub fn written<'a>(&self, storage: &'a impl Storage) -> &'a [u8] {
        let there = self.region.of(storage.bytes());
        there.get(..self.record.len as usize).unwrap_or(&[])
    }

    /// The region that is written.
    pub fn region(&self) -> Region {
        self.region
    }

    /// Length and CRC that were announced.
    pub fn announced(&self) -> (u32, u32) {
        (self.record.len, self.record.crc)
    }

    /// Writes bytes of the image at `offset` from its first.
    ///
    /// A write goes on where the last one ended, or starts a sector (whose first bytes erase it;
    /// sectors that hold the right bytes already may be left out), or repeats what is there.
    /// Lengths are whole units of writing but for the image's last piece.
    ///
    /// # Errors
    /// [`SlotError::Order`] for any other write; failures of the storage.
    pub fn write(
        &mut self,
        storage: &mut impl Storage,
        offset: u32,
        data: &[u8],
    ) -> Result<(), SlotError> {
        let fail = SlotError::Order {
            expected: self.next,
        };
        let end = u32::try_from(data.len())
            .ok()
            .and_then(|len| offset.checked_add(len))
            .filter(|&end| end <= self.record.len)
            .ok_or(fail)?;
        let there = self.region.of(storage.bytes());
        let same = there.get(offset as usize..end as usize) == Some(data);
        if end <= self.next && same {
            return Ok(());
        }
        let starts = sector(storage, self.region, offset)?.start == self.region.start + offset;
        let whole = (end as usize).is_multiple_of(storage.write_unit()) || end == self.record.len;
        if !(starts || offset == self.next) || !whole {
            return Err(fail);
        }
        let (mut at, mut rest) = (offset, data);
        while !rest.is_empty() {
            let sector = sector(storage, self.region, at)?;
            if sector.start == self.region.start + at {
                // Until the erasure is done, nothing of this sector counts as written.
                self.next = at;
                storage.erase(sector)?;
            }
            let room = (sector.end() - self.region.start - at) as usize;
            let (now, later) = rest.split_at(room.min(rest.len()));
            write_padded(storage, self.region.start + at, now)?;
            at += now.len() as u32;
            rest = later;
            self.next = at;
        }
        Ok(())
    }

    /// Reads the image back, checks it, and makes it count. `accept` may still refuse it, such as
    /// for the memory that it needs.
    ///
    /// # Errors
    /// [`SlotError::Crc`], [`SlotError::Image`] and [`SlotError::NotAccepted`] where what lies in
    /// the slot is not what was announced, not sound, or not wanted; failures of the storage.
    pub fn finish(
        self,
        storage: &mut impl Storage,
        layout: &Layout,
        accept: impl FnOnce(&Model<'_>) -> bool,
    ) -> Result<Selected, SlotError> {
        self.finish_signed(storage, layout, &[], accept)
    }

    /// As [`Update::finish`], with the image's signature (a whole block, or nothing) before its record.
    ///
    /// # Errors
    /// As [`Update::finish`].
    pub fn finish_signed(
        self,
        storage: &mut impl Storage,
        layout: &Layout,
        block: &[u8],
        accept: impl FnOnce(&Model<'_>) -> bool,
    ) -> Result<Selected, SlotError> {
        let image = self
            .region
            .of(storage.bytes())
            .get(..self.record.len as usize)
            .ok_or(SlotError::Layout)?;
        let found = crc32(image);
        if found != self.record.crc {
            return Err(SlotError::Crc {
                wanted: self.record.crc,
                found,
            });
        }
        let model = Model::from_bytes(image).map_err(SlotError::Image)?;
        if !accept(&model) {
            return Err(SlotError::NotAccepted);
        }
        self.record.append(block, storage, layout)?;
        Ok(Selected {
            record: self.record,
        })
    }
}

/// The sector that byte `offset` of a region lies in.
pub(super) fn sector(
    storage: &impl Storage,
    region: Region,
    offset: u32,
) -> Result<Sector, SlotError> {
    storage
        .sector(region.start.saturating_add(offset))
        .ok_or(SlotError::Layout)
}
