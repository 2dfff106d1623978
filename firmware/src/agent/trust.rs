//! Whom the agent takes images from.
//!
//! Without the feature `signed`, and without a key, from anybody. With a key, every image is
//! announced by a block that the key's owner signed, before anything is erased; what is then
//! written has to be that image. No signature is kept: it is checked when an image is written, not when it
//! is run.

use qmend_shared::link::{Refusal, Request, Response};
use qmend_shared::patch::Patch;
#[cfg(feature = "signed")]
use qmend_shared::signature::{Hasher, KEY_BYTES, Signed, key_id};
use qmend_shared::slot::{Layout, Selected};

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

    pub(super) fn roll_back(&self, _: View<'_>) -> Result<(), Refusal> {
        Ok(())
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

    /// Whether the image of the other slot may count again.
    pub(super) fn roll_back(&self, view: View<'_>) -> Result<(), Refusal> {
        let other = view
            .selected
            .and_then(|s| qmend_shared::slot::other_record(view.bytes, view.layout, s));
        match (&self.key, other) {
            // Where there is nothing to roll back to, the slots say so.
            (None, _) | (_, None) => Ok(()),
            (Some(_), Some(record)) if record.version == 0 => Err(Refusal::Unsigned),
            (Some(_), Some(record)) => self.not_older(record.version, view),
        }
    }
}
