//! The image that counts, through a patch, into the other slot.

use super::error::SlotError;
use super::layout::{Layout, Region};
use super::select::Selected;
use super::storage::Storage;
use super::update::{Update, sector};
use crate::image::Model;
use crate::patch::{Patch, Reader};

/// Bytes that are patched at once: a multiple of every unit of writing.
const BLOCK: usize = 64;

/// Applies a patch to the image that counts, and makes the result count; `accept` as in
/// [`Update::finish`].
///
/// The patch is applied once without writing first, so that what would not give the announced
/// image is refused before anything is erased. Then only the sectors are written that do not hold
/// the right bytes already.
///
/// # Errors
/// [`SlotError::Patch`] where it is not for this image or gives another than it announces,
/// [`SlotError::TooLong`] where the result does not fit; as [`Update::finish`].
pub fn apply_patch(
    storage: &mut impl Storage,
    layout: &Layout,
    selected: &Selected,
    patch: &Patch<'_>,
    accept: impl FnOnce(&Model<'_>) -> bool,
) -> Result<Selected, SlotError> {
    apply_signed_patch(storage, layout, selected, patch, (0, &[]), accept)
}

/// [`apply_patch`], where the result is a signed image of this version with this signature block, as for
/// [`Update::finish_signed`].
///
/// # Errors
/// As [`apply_patch`].
pub fn apply_signed_patch(
    storage: &mut impl Storage,
    layout: &Layout,
    selected: &Selected,
    patch: &Patch<'_>,
    (version, block): (u32, &[u8]),
    accept: impl FnOnce(&Model<'_>) -> bool,
) -> Result<Selected, SlotError> {
    write_target(storage, layout, selected, patch, version)?
        .finish_signed(storage, layout, block, accept)
}

/// All of it but the commit.
#[inline(never)] // Its memory is not needed while the image is checked.
fn write_target(
    storage: &mut impl Storage,
    layout: &Layout,
    selected: &Selected,
    patch: &Patch<'_>,
    version: u32,
) -> Result<Update, SlotError> {
    let header = patch.header();
    let update = Update::begin(
        storage,
        layout,
        Some(selected),
        header.target_len,
        header.target_crc,
    )?
    .with_version(version);
    let image = selected.image(storage.bytes(), layout);
    patch.check(image).map_err(SlotError::Patch)?;
    let mut writing = update;
    let mut reader = patch.reader();
    let mut at = 0;
    while at < header.target_len {
        let sector = sector(storage, update.region(), at)?;
        let end = (sector.end() - update.region().start).min(header.target_len);
        let ahead = same(storage, layout, selected, update.region(), at..end, &reader);
        reader = match ahead {
            Some(behind) => behind,
            None => write(storage, layout, selected, &mut writing, at..end, reader)?,
        };
        at = end;
    }
    Ok(writing)
}

/// The reader behind the range, where the region holds what the reader gives for it.
#[inline(never)] // Its memory is not needed while the image is checked.
fn same<'p>(
    storage: &impl Storage,
    layout: &Layout,
    selected: &Selected,
    region: Region,
    range: core::ops::Range<u32>,
    reader: &Reader<'p>,
) -> Option<Reader<'p>> {
    let bytes = storage.bytes();
    let base = selected.image(bytes, layout);
    let there = region
        .of(bytes)
        .get(range.start as usize..range.end as usize)?;
    let mut reader = reader.clone();
    let mut block = [0u8; BLOCK];
    for part in there.chunks(BLOCK) {
        let n = reader.read(base, &mut block[..part.len()]);
        if n != part.len() || block[..n] != *part {
            return None;
        }
    }
    Some(reader)
}

/// Writes what the reader gives for the range, which starts with a sector and stays in it.
#[inline(never)]
fn write<'p>(
    storage: &mut impl Storage,
    layout: &Layout,
    selected: &Selected,
    update: &mut Update,
    range: core::ops::Range<u32>,
    mut reader: Reader<'p>,
) -> Result<Reader<'p>, SlotError> {
    let mut block = [0u8; BLOCK];
    let mut at = range.start;
    while at < range.end {
        let len = BLOCK.min((range.end - at) as usize);
        let n = reader.read(selected.image(storage.bytes(), layout), &mut block[..len]);
        update.write(storage, at, &block[..n])?;
        if n < len {
            break;
        }
        at += len as u32;
    }
    Ok(reader)
}
