//! What this build can read. Found by trying, so that no list can lag behind the readers.

use super::message::{Description, SectorRun, SlotDescription};
use crate::arith::Rounding;
use crate::image::{BUILT_IN, HEADER_BYTES, Header, ImageError, MAGIC, VERSION};
use crate::slot::{Layout, SlotLayout, Storage};

/// Header bytes that differ from a good header's in one place.
fn header_with(at: usize, value: u8) -> Result<Header, ImageError> {
    let mut bytes = [0; HEADER_BYTES];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4] = VERSION;
    bytes[5] = Rounding::Tflm.tag();
    bytes[at] = value;
    Header::parse(&bytes)
}

/// Bit *n* is set where images of format version *n* are read.
pub fn image_versions() -> u32 {
    (0..32)
        .filter(|&n| !matches!(header_with(4, n), Err(ImageError::Version(_))))
        .fold(0, |bits, n| bits | 1 << n)
}

/// Bit *n* is set where weight layout *n* is read.
pub fn weight_layouts() -> u32 {
    (0..32)
        .filter(|&n| !matches!(header_with(6, n), Err(ImageError::Layout(_))))
        .fold(0, |bits, n| bits | 1 << n)
}

/// What a device with this flash says of itself.
pub fn describe(storage: &impl Storage, layout: &Layout, address: u32) -> Description {
    Description {
        image_versions: image_versions(),
        weight_layouts: weight_layouts(),
        operators: BUILT_IN,
        write_unit: storage.write_unit() as u8,
        address,
        slots: layout.slots.map(|slot| describe_slot(storage, &slot)),
    }
}

fn describe_slot(storage: &impl Storage, slot: &SlotLayout) -> SlotDescription {
    let mut sectors = [SectorRun::default(); 4];
    let (mut run, mut at) = (0, slot.image.start);
    while at < slot.image.end() {
        let Some(sector) = storage.sector(at) else {
            break;
        };
        if sectors[run].count > 0 && sectors[run].len != sector.len {
            run += 1;
            if run == sectors.len() {
                break;
            }
        }
        sectors[run].len = sector.len;
        sectors[run].count += 1;
        at = sector.end();
    }
    SlotDescription {
        image: slot.image.start,
        records: slot.records.start,
        records_len: slot.records.len,
        sectors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_here_is_read_here() {
        assert_ne!(image_versions() & 1 << crate::image::VERSION, 0);
        assert_ne!(
            weight_layouts() & 1 << crate::weights::Layout::Rows.tag(),
            0
        );
        assert_eq!(weight_layouts() & 1 << 31, 0);
    }
}
