//! Signed images: what a device asks for, and what it is told before anything is written.

use qmend_shared::image::MAGIC;
use qmend_shared::link::{Request, Response, Trust};
use qmend_shared::signature::Signed;

use super::{DeviceError, LinkDevice, Transport};
use crate::export::signature::{check, hex};

impl<T: Transport> LinkDevice<T> {
    /// Whom the device takes images from.
    ///
    /// # Errors
    /// Where the device does not answer.
    pub fn trust(&mut self) -> Result<Trust, DeviceError> {
        let answer = self.ask("trust", Request::Trust, |answer| match answer {
            Response::Trust(trust) => Some(Ok(trust)),
            _ => None,
        });
        match answer {
            // From anybody.
            Err(DeviceError::Unsupported { .. }) => Ok(Trust::default()),
            answer => answer,
        }
    }

    /// Says that what comes was signed, where the device asks for it; refuses what it would refuse.
    pub(super) fn authorize(
        &mut self,
        trust: &Trust,
        content: &[u8],
        block: Option<&[u8]>,
    ) -> Result<(), DeviceError> {
        let Some(key) = trust.key_id else {
            return Ok(());
        };
        let block = block.ok_or(DeviceError::Unsigned)?;
        let signed = Signed::from_bytes(block).ok_or(DeviceError::BadSignature)?;
        if signed.key_id != key {
            return Err(DeviceError::OtherKey {
                file: hex(&signed.key_id),
                device: hex(&key),
            });
        }
        // Which image a patch gives, only the device can say before it is applied.
        if content.starts_with(&MAGIC) && check(content, &signed, None).is_err() {
            return Err(DeviceError::OtherThanSigned);
        }
        self.done("authorize", Request::Authorize { block })
    }
}

/// Whether an image that is there already is to be committed again, as a higher version.
pub(super) fn newer(trust: &Trust, block: Option<&[u8]>) -> bool {
    let version = block.and_then(Signed::from_bytes).map_or(0, |s| s.version);
    trust.key_id.is_some() && version > trust.version
}
