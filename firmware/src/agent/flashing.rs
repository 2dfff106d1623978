//! The requests that change what lies in flash.

use qmend_shared::link::frame::crc32;
use qmend_shared::link::{Digests, Refusal, Request, Response, SlotImage, SlotStatus};
use qmend_shared::patch::Patch;
use qmend_shared::slot::{
    Layout, Selected, SlotError, Storage, Update, apply_signed_patch, other_image,
    roll_back_signed, select_trusted,
};

use super::session::pool_bytes;
use super::trust::{Trust, View};

/// What was begun.
#[derive(Clone, Copy, Debug)]
enum Job {
    Nothing,
    Image(Update),
    /// A patch, of which the pool holds the first `written` of `len` bytes.
    Patch {
        len: u32,
        written: u32,
    },
}

/// Flash, the image in it that counts, and what is being done to it.
pub(super) struct Flashing<S> {
    pub storage: S,
    pub layout: Layout,
    pub selected: Option<Selected>,
    job: Job,
}

impl<S: Storage> Flashing<S> {
    /// Has not looked for the image that counts.
    pub fn new(storage: S, layout: Layout) -> Self {
        Self {
            storage,
            layout,
            selected: None,
            job: Job::Nothing,
        }
    }

    /// Looks for the image that counts, among those that are trusted.
    #[inline(never)]
    pub fn look(&mut self, trust: &Trust) {
        self.selected = match self.layout.check(&self.storage) {
            Ok(()) => select_trusted(self.storage.bytes(), &self.layout, |c| trust.vouches(c)),
            // Every request that writes says so.
            Err(_) => None,
        };
    }

    /// The image that counts.
    pub fn image(&self) -> Option<&[u8]> {
        Some(self.selected?.image(self.storage.bytes(), &self.layout))
    }

    /// All of it, to be looked at.
    pub fn view(&self) -> View<'_> {
        View {
            bytes: self.storage.bytes(),
            layout: &self.layout,
            selected: self.selected.as_ref(),
        }
    }

    #[inline(never)]
    pub fn status(&self) -> SlotStatus {
        let bytes = self.storage.bytes();
        SlotStatus {
            selected: self.selected.map(|s| SlotImage {
                slot: s.record.slot,
                sequence: s.record.sequence,
                len: s.record.len,
                crc: s.record.crc,
            }),
            other: self
                .selected
                .and_then(|s| other_image(bytes, &self.layout, &s)),
        }
    }

    /// Answers a request that may write, or `None` for any other. `pool` is free memory.
    pub fn answer<'b>(
        &mut self,
        request: &Request<'_>,
        pool: &mut [i8],
        room: &'b mut Room,
        trust: &Trust,
    ) -> Option<Response<'b>> {
        let answer = match *request {
            Request::BeginImage { len, crc } => self.begin_image(len, crc, trust),
            Request::WriteImage { offset, data } => self.write_image(offset, data),
            Request::SectorDigests { first } => {
                return Some(self.digests(first, room));
            }
            Request::BeginPatch { len } => self.begin_patch(len, pool.len(), trust),
            Request::WritePatch { offset, data } => self.write_patch(offset, data, pool),
            Request::Commit { crc } => self.commit(crc, pool, trust),
            Request::RollBack { from } => self.roll_back(from, trust),
            _ => return None,
        };
        Some(match answer {
            Ok(answer) => answer,
            Err(Refused::Plain(refusal)) => Response::Refused(refusal),
            Err(Refused::Slot(error)) => Response::Refused(match error {
                SlotError::TooLong { needed, capacity } => {
                    Refusal::ImageTooLong { needed, capacity }
                }
                SlotError::Order { expected } => Refusal::Order { expected },
                SlotError::Image(error) => Refusal::BadImage(error),
                error => Refusal::Slot(error),
            }),
        })
    }

    fn begin_image(&mut self, len: u32, crc: u32, trust: &Trust) -> Answer {
        self.job = Job::Nothing;
        let version = trust.version_of(len, crc)?;
        let update = Update::begin(
            &self.storage,
            &self.layout,
            self.selected.as_ref(),
            len,
            crc,
        )?;
        self.job = Job::Image(update.with_version(version));
        Ok(Response::Done)
    }

    fn write_image(&mut self, offset: u32, data: &[u8]) -> Answer {
        match &mut self.job {
            Job::Image(update) => {
                update.write(&mut self.storage, offset, data)?;
                Ok(Response::Done)
            }
            _ => Err(Refused::Plain(Refusal::NothingBegun)),
        }
    }

    /// CRCs of whole sectors of the slot that is being written.
    #[inline(never)]
    fn digests<'b>(&self, first: u16, room: &'b mut Room) -> Response<'b> {
        let Job::Image(update) = &self.job else {
            return Response::Refused(Refusal::NothingBegun);
        };
        let region = update.region();
        let bytes = self.storage.bytes();
        let (mut at, mut index) = (region.start, 0u32);
        room.crcs.clear();
        while at < region.end() && room.crcs.len() < 4 * Digests::MAX {
            let Some(sector) = self.storage.sector(at) else {
                break;
            };
            if index >= first as u32 {
                let content = bytes.get(sector.start as usize..sector.end() as usize);
                let crc = crc32(content.unwrap_or(&[])).to_le_bytes();
                // The loop's condition leaves room.
                let _ = room.crcs.extend_from_slice(&crc);
            }
            index += 1;
            at = sector.end();
        }
        Response::Digests(Digests {
            first,
            of: update.announced().1,
            crcs: &room.crcs,
        })
    }

    fn begin_patch(&mut self, len: u32, capacity: usize, trust: &Trust) -> Answer {
        self.job = Job::Nothing;
        trust.begin_patch()?;
        if self.selected.is_none() {
            return Err(SlotError::Empty.into());
        }
        if len as usize > capacity {
            return Err(Refused::Plain(Refusal::PatchTooLong {
                needed: len,
                capacity: capacity as u32,
            }));
        }
        self.job = Job::Patch { len, written: 0 };
        Ok(Response::Done)
    }

    fn write_patch(&mut self, offset: u32, data: &[u8], pool: &mut [i8]) -> Answer {
        let Job::Patch { len, written } = &mut self.job else {
            return Err(Refused::Plain(Refusal::NothingBegun));
        };
        let end = offset as usize + data.len();
        let place = pool.get_mut(offset as usize..end);
        match place {
            Some(place) if offset <= *written && end <= *len as usize => {
                for (to, &from) in place.iter_mut().zip(data) {
                    *to = from as i8;
                }
                *written = (*written).max(end as u32);
                Ok(Response::Done)
            }
            _ => Err(Refused::Plain(Refusal::Order { expected: *written })),
        }
    }

    #[inline(never)]
    fn commit(&mut self, crc: u32, pool: &[i8], trust: &Trust) -> Answer {
        let capacity = pool.len() as u64;
        let fits = |model: &qmend_shared::image::Model<'_>| pool_bytes(model) <= capacity;
        let job = core::mem::replace(&mut self.job, Job::Nothing);
        let selected = match (job, self.selected) {
            (Job::Image(update), _) if update.announced().1 == crc => {
                trust.check_bytes(update.written(&self.storage))?;
                let (storage, layout) = (&mut self.storage, &self.layout);
                trust.with_block(|block| update.finish_signed(storage, layout, block, fits))?
            }
            (Job::Patch { len, written }, Some(selected)) if len == written => {
                let bytes = super::session::as_bytes(&pool[..len as usize]);
                let patch = Patch::parse(bytes).map_err(SlotError::Patch)?;
                if patch.header().target_crc != crc {
                    return Err(Refused::Plain(Refusal::NothingBegun));
                }
                let header = patch.header();
                let version = trust.version_of(header.target_len, header.target_crc)?;
                let base = selected.image(self.storage.bytes(), &self.layout);
                trust.check_patched(&patch, base)?;
                let accept = |model: &qmend_shared::image::Model<'_>| {
                    fits(model) && trust.check_bytes(model.bytes()).is_ok()
                };
                let (storage, layout) = (&mut self.storage, &self.layout);
                trust.with_block(|block| {
                    let signed = (version, block);
                    apply_signed_patch(storage, layout, &selected, &patch, signed, accept)
                })?
            }
            // The answer to the first request was lost.
            (Job::Nothing, Some(selected)) if selected.record.crc == crc => selected,
            _ => return Err(Refused::Plain(Refusal::NothingBegun)),
        };
        self.selected = Some(selected);
        Ok(Response::Slots(self.status()))
    }

    #[inline(never)]
    fn roll_back(&mut self, from: u32, trust: &Trust) -> Answer {
        self.job = Job::Nothing;
        let selected = self.selected.ok_or(SlotError::NothingToRollBackTo)?;
        if selected.record.sequence == from {
            let block = trust.roll_back(self.view())?;
            let (storage, layout) = (&mut self.storage, &self.layout);
            self.selected = Some(roll_back_signed(storage, layout, &selected, block.bytes())?);
        } else if selected.record.sequence.checked_sub(1) != Some(from) {
            return Err(Refused::Plain(Refusal::NothingBegun));
        }
        Ok(Response::Slots(self.status()))
    }
}

/// Room for what an answer borrows.
pub(super) struct Room {
    pub crcs: heapless::Vec<u8, { 4 * Digests::MAX }>,
}

impl Room {
    pub const fn new() -> Self {
        Self {
            crcs: heapless::Vec::new(),
        }
    }

    pub fn clear(&mut self) {
        self.crcs.clear();
    }
}

enum Refused {
    Plain(Refusal),
    Slot(SlotError),
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        Refused::Plain(refusal)
    }
}

impl From<SlotError> for Refused {
    fn from(error: SlotError) -> Self {
        Refused::Slot(error)
    }
}

type Answer = Result<Response<'static>, Refused>;
