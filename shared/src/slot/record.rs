//! Commit records.

use super::error::SlotError;
use super::layout::{Layout, Region};
use super::storage::Storage;
use crate::link::frame::crc32;

/// Length of a record: a multiple of every supported unit of writing.
pub const RECORD_BYTES: usize = 32;

const MAGIC: [u8; 4] = *b"QREC";
const VERSION: u8 = 1;

/// Says that a slot holds an image, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Slot 0 or 1.
    pub slot: u8,
    /// Counts commits on this device, from 1; the newest has the largest.
    pub sequence: u32,
    /// Length of the image in bytes.
    pub len: u32,
    /// CRC-32 of the image, its header included.
    pub crc: u32,
    /// [`crate::signature::Signed::version`] of the image; 0 where nobody signed it, or nobody
    /// looked.
    pub version: u32,
}

impl Record {
    /// The record's bytes, little-endian: magic `QREC`, version 1, slot, two zeros; sequence,
    /// length, CRC and version of the image; four zeros; CRC-32 of the 28 bytes before.
    pub fn to_bytes(&self) -> [u8; RECORD_BYTES] {
        let mut b = [0u8; RECORD_BYTES];
        b[0..4].copy_from_slice(&MAGIC);
        b[4] = VERSION;
        b[5] = self.slot;
        b[8..12].copy_from_slice(&self.sequence.to_le_bytes());
        b[12..16].copy_from_slice(&self.len.to_le_bytes());
        b[16..20].copy_from_slice(&self.crc.to_le_bytes());
        b[20..24].copy_from_slice(&self.version.to_le_bytes());
        let crc = crc32(&b[..28]);
        b[28..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads a record; `None` where the bytes are none.
    pub fn from_bytes(b: &[u8]) -> Option<Self> {
        let b: &[u8; RECORD_BYTES] = b.try_into().ok()?;
        let field = |at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        if b[..4] != MAGIC || crc32(&b[..28]) != field(28) {
            return None;
        }
        let record = Self {
            slot: b[5],
            sequence: field(8),
            len: field(12),
            crc: field(16),
            version: field(20),
        };
        // Everything else is as this version writes it.
        (record.to_bytes() == *b).then_some(record)
    }

    /// The newest sound record of some slots whose sequence number and slot are below these, and what
    /// lies before it in its area.
    pub(super) fn newest<'a>(
        bytes: &'a [u8],
        layout: &Layout,
        slots: &[u8],
        below: (u32, u8),
    ) -> Option<(Record, &'a [u8])> {
        let mut newest = None::<(Record, &[u8])>;
        for &slot in slots {
            let area = layout.slots[slot as usize & 1].records.of(bytes);
            for (i, cell) in area.chunks_exact(RECORD_BYTES).enumerate() {
                let Some(record) = Record::from_bytes(cell) else {
                    continue;
                };
                let at = (record.sequence, record.slot);
                let newer = newest.is_none_or(|(n, _)| at >= (n.sequence, n.slot));
                if record.slot == slot && at < below && newer {
                    newest = Some((record, area.get(..i * RECORD_BYTES).unwrap_or(&[])));
                }
            }
        }
        newest
    }

    /// Appends the record to its slot's area, which is erased first where it is full, and reads it
    /// back. Directly before it goes `block`: nothing, or the image's signature. The slot is not the one
    /// that counts, so its older records may go.
    pub(super) fn append(
        &self,
        block: &[u8],
        storage: &mut impl Storage,
        layout: &Layout,
    ) -> Result<(), SlotError> {
        let area = layout.slots[self.slot as usize & 1].records;
        let at = match free_cells(area.of(storage.bytes()), block.len() + RECORD_BYTES) {
            Some(cell) => area.start + cell,
            None => {
                erase(storage, area)?;
                area.start
            }
        };
        if !block.is_empty() {
            if block.len() + RECORD_BYTES > area.len as usize {
                return Err(SlotError::Layout);
            }
            storage.write(at, block)?;
        }
        let at = at as usize + block.len();
        storage.write(at as u32, &self.to_bytes())?;
        let bytes = storage.bytes();
        let written = bytes
            .get(at..at + RECORD_BYTES)
            .and_then(Record::from_bytes);
        let signed = block.is_empty() || bytes.get(at - block.len()..at) == Some(block);
        if written == Some(*self) && signed {
            Ok(())
        } else {
            Err(SlotError::Storage)
        }
    }
}

/// The first cell behind which everything is erased, `len` bytes at least.
fn free_cells(area: &[u8], len: usize) -> Option<u32> {
    let used = area.iter().rposition(|&b| b != 0xff).map_or(0, |i| i + 1);
    let cell = used.next_multiple_of(RECORD_BYTES);
    (cell + len <= area.len()).then_some(cell as u32)
}

fn erase(storage: &mut impl Storage, area: Region) -> Result<(), SlotError> {
    let mut at = area.start;
    while at < area.end() {
        let sector = storage.sector(at).ok_or(SlotError::Layout)?;
        storage.erase(sector)?;
        at = sector.end();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_and_any_changed_bit_makes_it_none() {
        let record = Record {
            slot: 1,
            sequence: 7,
            len: 5978,
            crc: 0xdead_beef,
            version: 9,
        };
        let bytes = record.to_bytes();
        assert_eq!(Record::from_bytes(&bytes), Some(record));
        for bit in 0..RECORD_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::from_bytes(&bad), None, "bit {bit}");
        }
        assert_eq!(Record::from_bytes(&[0xff; RECORD_BYTES]), None);
        assert_eq!(Record::from_bytes(&bytes[..31]), None);
    }

    #[test]
    fn the_free_cell_is_behind_everything_that_was_written() {
        let mut area = [0xff; 4 * RECORD_BYTES];
        assert_eq!(free_cells(&area, RECORD_BYTES), Some(0));
        area[40] = 0;
        assert_eq!(free_cells(&area, RECORD_BYTES), Some(64));
        assert_eq!(free_cells(&area, 2 * RECORD_BYTES), Some(64));
        assert_eq!(free_cells(&area, 3 * RECORD_BYTES), None);
        area[96] = 0xfe;
        assert_eq!(free_cells(&area, RECORD_BYTES), None);
    }
}
