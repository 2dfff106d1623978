//! Whom the agent takes images from.
//!
//! Without the feature `signed`, and without a key, from anybody. With a key, every image is
//! announced by a block that the key's owner signed, before anything is erased; what is then
//! written has to be that image. The block is kept beside the record of the image, and checked again, with
//! all of the image, at the start: what came into flash in another way is not run.

use qmend_shared::link::{Refusal, Request, Response};
use qmend_shared::patch::Patch;
#[cfg(feature = "signed")]
use qmend_shared::signature::{BLOCK_BYTES, Hasher, KEY_BYTES, Signed, key_id, sha512};
use qmend_shared::slot::{Candidate, Layout, Selected};

#[cfg(feature = "signed")]
include!(concat!(env!("OUT_DIR"), "/public_key.rs"));

/// Whose images are taken, and which was announced.
#[derive(Clone, Copy, Debug)]
pub struct Trust {
    #[cfg(feature = "signed")]
    key: Option<[u8; KEY_BYTES]>,
    #[cfg(feature = "signed")]
    protect: bool,
    #[cfg(feature = "signed")]
    announced: Option<Signed>,
}

/// Flash as it is, to be looked at.
// Nobody looks without a key.
#[cfg_attr(not(feature = "signed"), allow(dead_code))]
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    pub bytes: &'a [u8],
    pub layout: &'a Layout,
    pub selected: Option<&'a Selected>,
}

#[cfg(not(feature = "signed"))]
impl Trust {
    /// Anybody.
    pub const fn built_in() -> Self {
        Self {}
    }

    pub(super) fn answer(
        &mut self,
        request: &Request<'_>,
        _: View<'_>,
    ) -> Option<Response<'static>> {
        match request {
            Request::Trust | Request::Authorize { .. } => {
                Some(Response::Refused(Refusal::Unsupported))
            }
            _ => None,
        }
    }

    pub(super) fn begin_patch(&self) -> Result<(), Refusal> {
        Ok(())
    }

    pub(super) fn version_of(&self, _: u32, _: u32) -> Result<u32, Refusal> {
        Ok(0)
    }

    pub(super) fn check_bytes(&self, _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    pub(super) fn check_patched(&self, _: &Patch<'_>, _: &[u8]) -> Result<(), Refusal> {
        Ok(())
    }

    pub(super) fn roll_back(&self, _: View<'_>) -> Result<Kept, Refusal> {
        Ok(Kept {})
    }

    pub(super) fn vouches(&self, _: &Candidate<'_>) -> bool {
        true
    }

    pub(super) fn with_block<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        with(&[])
    }
}

/// A signature that is written again with an image, or none.
pub(super) struct Kept {
    #[cfg(feature = "signed")]
    block: Option<[u8; BLOCK_BYTES]>,
}

impl Kept {
    pub fn bytes(&self) -> &[u8] {
        #[cfg(feature = "signed")]
        if let Some(block) = &self.block {
            return block;
        }
        &[]
    }
}

#[cfg(feature = "signed")]
impl Trust {
    /// The owner of the key that the firmware was built with; anybody, where it was built with none.
    pub const fn built_in() -> Self {
        Self {
            key: PUBLIC_KEY,
            protect: ROLLBACK_PROTECTION,
            announced: None,
        }
    }

    /// The owner of a key; with `protect`, never an older version than one that was there.
    pub const fn only(key: [u8; KEY_BYTES], protect: bool) -> Self {
        Self {
            key: Some(key),
            protect,
            announced: None,
        }
    }

    fn lowest(&self, view: View<'_>) -> u32 {
        match self.protect && self.key.is_some() {
            true => qmend_shared::slot::highest_version(view.bytes, view.layout),
            false => 0,
        }
    }

    /// Answers what is about signatures, or `None`.
    #[inline(never)]
    pub(super) fn answer(
        &mut self,
        request: &Request<'_>,
        view: View<'_>,
    ) -> Option<Response<'static>> {
        match request {
            Request::Trust => Some(Response::Trust(qmend_shared::link::Trust {
                key_id: self.key.as_ref().map(key_id),
                lowest: self.lowest(view),
                version: view.selected.map_or(0, |s| s.record.version),
            })),
            Request::Authorize { block } => Some(match self.announce(block, view) {
                Ok(()) => Response::Done,
                Err(refusal) => Response::Refused(refusal),
            }),
            _ => None,
        }
    }

    fn announce(&mut self, block: &[u8], view: View<'_>) -> Result<(), Refusal> {
        self.announced = None;
        let key = self.key.as_ref().ok_or(Refusal::Unsupported)?;
        let block = Signed::from_bytes(block)
            .filter(|block| block.verify(key))
            .ok_or(Refusal::BadSignature)?;
        self.not_older(block.version, view)?;
        self.announced = Some(block);
        Ok(())
    }

    fn not_older(&self, version: u32, view: View<'_>) -> Result<(), Refusal> {
        let lowest = self.lowest(view);
        if version < lowest {
            return Err(Refusal::OldVersion { version, lowest });
        }
        Ok(())
    }

    /// Whether any patch may come.
    pub(super) fn begin_patch(&self) -> Result<(), Refusal> {
        match self.key.is_some() && self.announced.is_none() {
            true => Err(Refusal::Unsigned),
            false => Ok(()),
        }
    }

    /// The version of the image of this length and CRC, which has to have been announced; 0 where
    /// nobody asks.
    pub(super) fn version_of(&self, len: u32, crc: u32) -> Result<u32, Refusal> {
        if self.key.is_none() {
            return Ok(0);
        }
        match &self.announced {
            Some(block) if (block.len, block.crc) == (len, crc) => Ok(block.version),
            _ => Err(Refusal::Unsigned),
        }
    }

    /// Whether these bytes are what was signed.
    pub(super) fn check_bytes(&self, image: &[u8]) -> Result<(), Refusal> {
        if self.key.is_none() {
            return Ok(());
        }
        let mut hasher = Hasher::new();
        hasher.update(image);
        self.check_hash(hasher)
    }

    /// Whether what the patch gives is what was signed. Nothing is written for it.
    #[inline(never)]
    pub(super) fn check_patched(&self, patch: &Patch<'_>, base: &[u8]) -> Result<(), Refusal> {
        if self.key.is_none() {
            return Ok(());
        }
        // Of another base it gives anything: the slots say which they want.
        if patch.check_base(base).is_err() {
            return Ok(());
        }
        let mut hasher = Hasher::new();
        let mut reader = patch.reader();
        let mut block = [0u8; 64];
        loop {
            match reader.read(base, &mut block) {
                0 => return self.check_hash(hasher),
                n => hasher.update(&block[..n]),
            }
        }
    }

    fn check_hash(&self, hasher: Hasher) -> Result<(), Refusal> {
        match &self.announced {
            Some(block) if hasher.finish() == block.hash => Ok(()),
            _ => Err(Refusal::OtherThanSigned),
        }
    }

    /// Whether the image of the other slot may count again; its signature.
    pub(super) fn roll_back(&self, view: View<'_>) -> Result<Kept, Refusal> {
        let nothing = Kept { block: None };
        let Some((_, selected)) = self.key.zip(view.selected) else {
            return Ok(nothing);
        };
        // Where there is nothing to roll back to, the slots say so.
        if qmend_shared::slot::other_record(view.bytes, view.layout, selected).is_none() {
            return Ok(nothing);
        }
        let other = qmend_shared::slot::other_candidate(view.bytes, view.layout, selected)
            .filter(|other| other.record.version != 0)
            .ok_or(Refusal::Unsigned)?;
        self.not_older(other.record.version, view)?;
        match other.block.first_chunk() {
            Some(block) if self.vouches(&other) => Ok(Kept {
                block: Some(*block),
            }),
            _ => Err(Refusal::Unsigned),
        }
    }

    /// Whether the key's owner signed what lies in flash, with its record: as this image, and this version.
    #[inline(never)]
    pub(super) fn vouches(&self, of: &Candidate<'_>) -> bool {
        let Some(key) = &self.key else {
            return true;
        };
        let record = &of.record;
        Signed::from_bytes(of.block).is_some_and(|block| {
            (block.len, block.crc, block.version) == (record.len, record.crc, record.version)
                && sha512(of.image) == block.hash
                && block.verify(key)
        })
    }

    /// Calls with the block that was announced, which goes into flash with its image; with none where
    /// nobody asks for it.
    pub(super) fn with_block<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        match (&self.key, &self.announced) {
            (Some(_), Some(block)) => with(&block.to_bytes()),
            _ => with(&[]),
        }
    }
}
