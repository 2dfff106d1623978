//! Changing what a device runs: whole images, patches, rollback.

use qmend_shared::image::{Header, ImageError, Model};
use qmend_shared::link::frame::crc32;
use qmend_shared::link::{Description, Digests, Request, Response, SlotStatus};
use qmend_shared::patch::Patch;
use qmend_shared::signature::split;
use serde::Serialize;

use super::authorize::newer;
use super::{DeviceError, DeviceIdentity, LinkDevice, Transport};

/// How often a sector, or the whole, is started again where the device takes messages for out of
/// order: on a line that repeats them late, an old one may undo what was begun.
const RESTARTS: usize = 3;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlashReport {
    /// Whether the image was there already and nothing was written.
    pub already_there: bool,
    /// The slot that it lies in.
    pub slot: u8,
    /// Number of its commit.
    pub sequence: u32,
    /// CRC-32 of the image.
    pub crc: u32,
    /// Length of the image.
    pub image_bytes: usize,
    /// Erase sectors that the image covers.
    pub sectors: usize,
    /// Those that were written over the link; none where the device made the image of a patch.
    pub sectors_sent: usize,
    /// Bytes of image or patch that went over the link.
    pub bytes_sent: usize,
}

/// Called with the bytes that are done and all bytes.
pub type OnProgress<'a> = &'a mut dyn FnMut(usize, usize);

/// Whether a device can run an image: size, format, operators, memory. Asks nothing of it.
///
/// # Errors
/// What does not fit, with numbers.
pub fn check_fits(
    image: &[u8],
    identity: &DeviceIdentity,
    description: &Description,
) -> Result<(), DeviceError> {
    if image.len() as u64 > identity.slot_bytes {
        return Err(DeviceError::TooLarge {
            what: "image slot",
            needed: image.len() as u64,
            capacity: identity.slot_bytes,
        });
    }
    let unsuitable = |reason: String| Err(DeviceError::Unsuitable { reason });
    let bad = |e: ImageError| DeviceError::BadImage {
        reason: e.to_string(),
    };
    Header::parse(image).map_err(bad)?;
    let has = |bits: u32, n: u8| n < 32 && bits >> n & 1 == 1;
    let (version, layout) = (image[4], image[6]);
    if !has(description.image_versions, version) {
        return unsuitable(format!("it has format version {version}"));
    }
    if !has(description.weight_layouts, layout) {
        return unsuitable(format!("it has weight layout {layout}"));
    }
    let model = Model::from_bytes(image).map_err(bad)?;
    for (index, op) in model.ops().enumerate() {
        if !has(description.operators, op.number()) {
            return Err(DeviceError::OperatorMissing {
                operator: index,
                kind: op.kind(),
                feature: operator_feature(op.kind()),
            });
        }
    }
    let needed = model.arena_bytes() as u64 + model.input().elements() + model.output().elements();
    if needed > identity.memory_bytes {
        return Err(DeviceError::TooLarge {
            what: "memory for tensors",
            needed,
            capacity: identity.memory_bytes,
        });
    }
    Ok(())
}

/// The firmware's feature that builds an operator in: `max-pool` for `MaxPool`.
pub fn operator_feature(kind: &str) -> String {
    let mut name = String::new();
    let mut before = false;
    for c in kind.chars() {
        // `Conv2d` is one word.
        if c.is_uppercase() && before {
            name.push('-');
        }
        before = c.is_lowercase();
        name.extend(c.to_lowercase());
    }
    name
}

/// Offsets and lengths of the sectors that an image of `len` bytes covers.
fn sectors(description: &Description, slot: u8, len: usize) -> Vec<(usize, usize)> {
    let mut all = Vec::new();
    let mut at = 0;
    for run in description.slots[slot as usize & 1].sectors {
        for _ in 0..run.count {
            if at >= len {
                break;
            }
            all.push((at, run.len as usize));
            at += run.len as usize;
        }
    }
    all
}

impl<T: Transport> LinkDevice<T> {
    /// Makes the device run this image: sectors of the other slot that hold the right bytes
    /// already are left as they are, the others are written; then it is read back and committed.
    /// Until then, and where anything fails, the old image counts. Where a signature follows the
    /// image, it is announced first to a device that asks for one.
    ///
    /// # Errors
    /// What does not fit is refused before anything is erased; then the device's refusals.
    pub fn flash(
        &mut self,
        image: &[u8],
        progress: OnProgress<'_>,
    ) -> Result<FlashReport, DeviceError> {
        self.again(|device| device.flash_once(image, progress))
    }

    /// Tries again where messages came out of order.
    fn again(
        &mut self,
        mut change: impl FnMut(&mut Self) -> Result<FlashReport, DeviceError>,
    ) -> Result<FlashReport, DeviceError> {
        for _ in 1..RESTARTS {
            match change(self) {
                Err(DeviceError::OutOfOrder { .. }) => {}
                done => return done,
            }
        }
        change(self)
    }

    fn flash_once(
        &mut self,
        image: &[u8],
        progress: OnProgress<'_>,
    ) -> Result<FlashReport, DeviceError> {
        let (image, block) = split(image);
        let description = self.description()?;
        check_fits(image, super::Device::identity(self), &description)?;
        let crc = crc32(image);
        let status = self.slots()?;
        let mut report = FlashReport {
            crc,
            image_bytes: image.len(),
            ..FlashReport::default()
        };
        let trust = self.trust()?;
        if let Some(now) = status.selected
            && (now.len as usize, now.crc) == (image.len(), crc)
            && !newer(&trust, block)
        {
            report.already_there = true;
            (report.slot, report.sequence) = (now.slot, now.sequence);
            return Ok(report);
        }
        self.authorize(&trust, image, block)?;
        self.close();
        let target = status.selected.map_or(0, |now| 1 - now.slot.min(1));
        let sectors = sectors(&description, target, image.len());
        report.sectors = sectors.len();
        let len = image.len() as u32;
        self.done("begin image", Request::BeginImage { len, crc })?;
        let there = self.digests(sectors.len(), crc)?;
        let mut done = 0;
        for (&(at, sector_len), there) in sectors.iter().zip(there) {
            let part = &image[at..image.len().min(at + sector_len)];
            let mut whole = part.to_vec();
            whole.resize(sector_len, 0xff);
            if crc32(&whole) != there {
                self.write_sector(at, part, &mut |n| progress(done + n, image.len()))?;
                report.sectors_sent += 1;
                report.bytes_sent += part.len();
            }
            done += part.len();
            progress(done, image.len());
        }
        let status = self.ask_slots("commit", Request::Commit { crc })?;
        committed(&mut report, &status)?;
        Ok(report)
    }

    /// CRCs of the sectors of the slot that an image with this CRC is being written into.
    fn digests(&mut self, count: usize, crc: u32) -> Result<Vec<u32>, DeviceError> {
        let mut all = Vec::with_capacity(count);
        while all.len() < count {
            let first = all.len() as u16;
            let request = Request::SectorDigests { first };
            let more = self.ask("sector digests", request, |answer| match answer {
                // A late message has begun another image.
                Response::Digests(d) if d.of != crc => Some(Err(DeviceError::OutOfOrder {
                    request: "sector digests",
                })),
                Response::Digests(d) if d.first == first && !d.crcs.is_empty() => {
                    let (words, rest) = d.crcs.as_chunks::<4>();
                    let crcs = words.iter().map(|&b| u32::from_le_bytes(b));
                    (rest.is_empty() && words.len() <= Digests::MAX)
                        .then(|| Ok(crcs.collect::<Vec<_>>()))
                }
                _ => None,
            })?;
            all.extend(more);
        }
        Ok(all)
    }

    fn write_sector(
        &mut self,
        at: usize,
        part: &[u8],
        progress: &mut dyn FnMut(usize),
    ) -> Result<(), DeviceError> {
        let chunk = self.chunk();
        'again: for _ in 0..RESTARTS {
            for (i, data) in part.chunks(chunk).enumerate() {
                let offset = (at + i * chunk) as u32;
                match self.done("write image", Request::WriteImage { offset, data }) {
                    Err(DeviceError::OutOfOrder { .. }) => continue 'again,
                    other => other?,
                }
                progress(i * chunk + data.len());
            }
            return Ok(());
        }
        Err(DeviceError::OutOfOrder {
            request: "write image",
        })
    }

    /// Makes the device patch the image that it runs, into the other slot, and run the result.
    ///
    /// # Errors
    /// Where the patch is for another image than the one that counts; then the device's refusals.
    pub fn flash_patch(
        &mut self,
        patch: &[u8],
        progress: OnProgress<'_>,
    ) -> Result<FlashReport, DeviceError> {
        self.again(|device| device.patch_once(patch, progress))
    }

    fn patch_once(
        &mut self,
        patch: &[u8],
        progress: OnProgress<'_>,
    ) -> Result<FlashReport, DeviceError> {
        let (patch, block) = split(patch);
        let header = *Patch::parse(patch)
            .map_err(|e| DeviceError::BadPatch {
                reason: e.to_string(),
            })?
            .header();
        let status = self.slots()?;
        let mut report = FlashReport {
            crc: header.target_crc,
            image_bytes: header.target_len as usize,
            ..FlashReport::default()
        };
        let now = status.selected.ok_or(DeviceError::PatchBase {
            wanted_bytes: header.base_len,
            wanted: header.base_crc,
            found: "none".into(),
        })?;
        if (now.len, now.crc) == (header.target_len, header.target_crc) {
            report.already_there = true;
            (report.slot, report.sequence) = (now.slot, now.sequence);
            return Ok(report);
        }
        if (now.len, now.crc) != (header.base_len, header.base_crc) {
            return Err(DeviceError::PatchBase {
                wanted_bytes: header.base_len,
                wanted: header.base_crc,
                found: format!("one of {} bytes with CRC {:08x}", now.len, now.crc),
            });
        }
        let capacity = super::Device::identity(self).slot_bytes;
        if u64::from(header.target_len) > capacity {
            return Err(DeviceError::TooLarge {
                what: "image slot",
                needed: header.target_len.into(),
                capacity,
            });
        }
        let trust = self.trust()?;
        self.authorize(&trust, patch, block)?;
        self.close();
        let len = u32::try_from(patch.len()).unwrap_or(u32::MAX);
        self.done("begin patch", Request::BeginPatch { len })?;
        let chunk = self.chunk();
        for (i, data) in patch.chunks(chunk).enumerate() {
            let offset = (i * chunk) as u32;
            self.done("write patch", Request::WritePatch { offset, data })?;
            report.bytes_sent += data.len();
            progress(report.bytes_sent, patch.len());
        }
        let crc = header.target_crc;
        let status = self.ask_slots("commit", Request::Commit { crc })?;
        committed(&mut report, &status)?;
        Ok(report)
    }

    /// Makes the device run the image of its other slot.
    ///
    /// # Errors
    /// Where there is no image in the other slot.
    pub fn roll_back(&mut self) -> Result<SlotStatus, DeviceError> {
        let now = self.slots()?.selected.ok_or(DeviceError::NoImage)?;
        self.close();
        let from = now.sequence;
        self.ask_slots("roll back", Request::RollBack { from })
    }
}

/// Whether the device runs what was meant.
fn committed(report: &mut FlashReport, status: &SlotStatus) -> Result<(), DeviceError> {
    let now = status.selected.ok_or(DeviceError::NoImage)?;
    if now.crc != report.crc || now.len as usize != report.image_bytes {
        return Err(DeviceError::ImageDiffers {
            device: now.crc,
            host: report.crc,
        });
    }
    (report.slot, report.sequence) = (now.slot, now.sequence);
    Ok(())
}
