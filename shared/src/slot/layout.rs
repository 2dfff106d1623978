//! Where slots and records lie.

use super::error::SlotError;
use super::record::RECORD_BYTES;
use super::storage::{Storage, WRITE_UNIT_MAX};

/// A range of a storage, from its first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First byte.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

impl Region {
    /// The first byte behind it; 2^32 - 1 where it would be further.
    pub const fn end(&self) -> u32 {
        self.start.saturating_add(self.len)
    }

    /// Its bytes; none where it reaches outside.
    pub fn of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes
            .get(self.start as usize..self.end() as usize)
            .unwrap_or(&[])
    }
}

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotLayout {
    /// Room for an image.
    pub image: Region,
    /// Room for this slot's commit records.
    pub records: Region,
}

/// Both slots. Every region begins and ends with an erase sector, and none overlaps another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Slots 0 and 1.
    pub slots: [SlotLayout; 2],
}

impl Layout {
    /// The largest image that both slots hold, in bytes.
    pub const fn capacity(&self) -> u32 {
        let [a, b] = [self.slots[0].image.len, self.slots[1].image.len];
        if a < b { a } else { b }
    }

    /// Makes sure that the layout fits the storage.
    ///
    /// # Errors
    /// [`SlotError::Layout`] where a region does not begin and end with a sector, is empty, or
    /// overlaps another, or where the unit of writing is not supported.
    pub fn check(&self, storage: &impl Storage) -> Result<(), SlotError> {
        let unit = storage.write_unit();
        if !unit.is_power_of_two() || unit > WRITE_UNIT_MAX {
            return Err(SlotError::Layout);
        }
        let [a, b] = self.slots;
        let regions = [a.image, a.records, b.image, b.records];
        for (i, region) in regions.iter().enumerate() {
            let last = region.end().checked_sub(1).ok_or(SlotError::Layout)?;
            let first = storage.sector(region.start).ok_or(SlotError::Layout)?;
            let last = storage.sector(last).ok_or(SlotError::Layout)?;
            let apart = regions[..i]
                .iter()
                .all(|other| region.end() <= other.start || other.end() <= region.start);
            let whole = first.start == region.start && last.end() == region.end();
            if region.len == 0 || !whole || !apart {
                return Err(SlotError::Layout);
            }
        }
        if a.records.len < RECORD_BYTES as u32 || b.records.len < RECORD_BYTES as u32 {
            return Err(SlotError::Layout);
        }
        Ok(())
    }
}
