//! What this build can read.

use super::message::{Description, SectorRun, SlotDescription};
use crate::image::{BUILT_IN, VERSION};
use crate::slot::{Layout, SlotLayout, Storage};
use crate::weights;

/// Bit *n* is set where images of format version *n* are read.
pub const IMAGE_VERSIONS: u32 = 1 << VERSION;

/// Bit *n* is set where weight layout *n* is read.
pub const WEIGHT_LAYOUTS: u32 = {
    let (mut bits, mut n) = (0, 0);
    while n < 32 {
        if weights::Layout::from_tag(n).is_some() {
            bits |= 1 << n;
        }
        n += 1;
    }
    bits
};

/// What a device with this flash says of itself.
pub fn describe(storage: &impl Storage, layout: &Layout, address: u32) -> Description {
    Description {
        image_versions: IMAGE_VERSIONS,
        weight_layouts: WEIGHT_LAYOUTS,
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
    use crate::arith::Rounding;
    use crate::image::{HEADER_BYTES, Header, ImageError, MAGIC};

    /// Header bytes that differ from a good header's in one place.
    fn header_with(at: usize, value: u8) -> Result<Header, ImageError> {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = Rounding::Tflm.tag();
        bytes[at] = value;
        Header::parse(&bytes)
    }

    #[test]
    fn what_is_said_to_be_read_is_read() {
        for n in 0..32 {
            let version = !matches!(header_with(4, n), Err(ImageError::Version(_)));
            assert_eq!(IMAGE_VERSIONS >> n & 1 == 1, version, "version {n}");
            let layout = !matches!(header_with(6, n), Err(ImageError::Layout(_)));
            assert_eq!(WEIGHT_LAYOUTS >> n & 1 == 1, layout, "layout {n}");
        }
    }
}
