//! Which image counts.

use super::error::SlotError;
use super::layout::Layout;
use super::record::{RECORD_BYTES, Record};
use super::storage::Storage;
use crate::image::Model;
use crate::link::frame::crc32;
use crate::signature::BLOCK_BYTES;

/// The image that counts, as its record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selected {
    /// Its record.
    pub record: Record,
}

impl Selected {
    /// The slot that it lies in.
    pub fn slot(&self) -> u8 {
        self.record.slot
    }

    /// The slot that an update writes.
    pub fn other(&self) -> u8 {
        1 - self.record.slot
    }

    /// The image in the storage's bytes.
    pub fn image<'a>(&self, bytes: &'a [u8], layout: &Layout) -> &'a [u8] {
        image_of(&self.record, bytes, layout).unwrap_or(&[])
    }
}

/// Above the sequence number and slot of every record.
const EVERY: (u32, u8) = (u32::MAX, 2);

/// The newest record whose image has its length and CRC and passes every check; none where there
/// is no such image.
///
/// What is older is looked at only where what is newer is spoilt.
pub fn select(bytes: &[u8], layout: &Layout) -> Option<Selected> {
    select_trusted(bytes, layout, |_| true)
}

/// What a record speaks of, as it lies in flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate<'a> {
    /// The record.
    pub record: Record,
    /// The image, of the record's length and CRC.
    pub image: &'a [u8],
    /// The [`BLOCK_BYTES`] bytes directly before the record, where there are as many: the image's signature,
    /// if a device that asks for one wrote it.
    pub block: &'a [u8],
}

impl<'a> Candidate<'a> {
    fn new((record, before): (Record, &'a [u8]), bytes: &'a [u8], layout: &Layout) -> Option<Self> {
        Some(Self {
            record,
            image: image_of(&record, bytes, layout)?,
            block: before.last_chunk::<BLOCK_BYTES>().map_or(&[], |b| b),
        })
    }
}

/// As [`select`], of the images that `trusted` takes.
#[inline] // One caller a program: the agent.
pub fn select_trusted(
    bytes: &[u8],
    layout: &Layout,
    trusted: impl Fn(&Candidate<'_>) -> bool,
) -> Option<Selected> {
    let mut below = EVERY;
    loop {
        let (newest, before) = Record::newest(bytes, layout, &[0, 1], below)?;
        if sound(&newest, bytes, layout)
            && Candidate::new((newest, before), bytes, layout).is_some_and(|c| trusted(&c))
        {
            return Some(Selected { record: newest });
        }
        below = (newest.sequence, newest.slot);
    }
}

/// The bytes that a record speaks of.
fn image_of<'a>(record: &Record, bytes: &'a [u8], layout: &Layout) -> Option<&'a [u8]> {
    let slot = layout.slots.get(record.slot as usize)?;
    slot.image.of(bytes).get(..record.len as usize)
}

fn sound(record: &Record, bytes: &[u8], layout: &Layout) -> bool {
    image_of(record, bytes, layout)
        .is_some_and(|image| crc32(image) == record.crc && Model::from_bytes(image).is_ok())
}

/// The sequence number of the next commit.
pub(super) fn next_sequence(bytes: &[u8], layout: &Layout) -> Result<u32, SlotError> {
    Record::newest(bytes, layout, &[0, 1], EVERY)
        .map_or(0, |(r, _)| r.sequence)
        .checked_add(1)
        // The largest number bounds the search of `select`.
        .filter(|&n| n < u32::MAX)
        .ok_or(SlotError::SequenceExhausted)
}

/// The highest version of a signed image in any sound record: nothing older is to be taken where
/// rollback protection is on.
///
/// An area of records is erased only where it is not that of the image that counts, whose version
/// is the highest as long as nothing older is taken.
pub fn highest_version(bytes: &[u8], layout: &Layout) -> u32 {
    let mut highest = 0;
    for (number, slot) in layout.slots.iter().enumerate() {
        for cell in slot.records.of(bytes).chunks_exact(RECORD_BYTES) {
            match Record::from_bytes(cell) {
                Some(record) if record.slot as usize == number => {
                    highest = highest.max(record.version);
                }
                _ => {}
            }
        }
    }
    highest
}

/// Length and CRC of the other slot's image, where [`roll_back`] could go.
pub fn other_image(bytes: &[u8], layout: &Layout, selected: &Selected) -> Option<(u32, u32)> {
    other_record(bytes, layout, selected).map(|record| (record.len, record.crc))
}

/// What [`roll_back`] goes by: the newest record of the other slot, or one of sequence and version 0
/// where the slot has no record and yet an image.
pub fn other_record(bytes: &[u8], layout: &Layout, selected: &Selected) -> Option<Record> {
    let slot = selected.other();
    match Record::newest(bytes, layout, &[slot], EVERY) {
        Some((record, _)) => sound(&record, bytes, layout).then_some(record),
        // A full area is erased before a record goes into it, and the power may have been cut just
        // then: the image's own check has to do.
        None => {
            let model = Model::from_slot(layout.slots[slot as usize & 1].image.of(bytes)).ok()?;
            Some(Record {
                slot,
                sequence: 0,
                len: model.bytes().len() as u32,
                crc: crc32(model.bytes()),
                version: 0,
            })
        }
    }
}

/// The other slot's image with its newest record, where it is sound.
pub fn other_candidate<'a>(
    bytes: &'a [u8],
    layout: &Layout,
    selected: &Selected,
) -> Option<Candidate<'a>> {
    let newest = Record::newest(bytes, layout, &[selected.other()], EVERY)?;
    if sound(&newest.0, bytes, layout) {
        Candidate::new(newest, bytes, layout)
    } else {
        None
    }
}

/// Makes the other slot's image count again: one record.
///
/// # Errors
/// [`SlotError::NothingToRollBackTo`] where that slot holds no sound image that was committed;
/// failures of the storage.
pub fn roll_back(
    storage: &mut impl Storage,
    layout: &Layout,
    selected: &Selected,
) -> Result<Selected, SlotError> {
    roll_back_signed(storage, layout, selected, &[])
}

/// As [`roll_back`], with the signature of that image ([`Candidate::block`]) before its new record.
///
/// # Errors
/// As [`roll_back`].
pub fn roll_back_signed(
    storage: &mut impl Storage,
    layout: &Layout,
    selected: &Selected,
    block: &[u8],
) -> Result<Selected, SlotError> {
    let bytes = storage.bytes();
    let record = Record {
        sequence: next_sequence(bytes, layout)?,
        ..other_record(bytes, layout, selected).ok_or(SlotError::NothingToRollBackTo)?
    };
    record.append(block, storage, layout)?;
    Ok(Selected { record })
}
