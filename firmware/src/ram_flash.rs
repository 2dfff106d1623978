//! RAM that behaves as flash, for emulated boards that model none.

use qmend_shared::slot::{Sector, Storage, StorageError};

use crate::pages::sector_at;

/// Memory with sectors of one length: erasing sets bytes to 0xFF, writing only clears bits, in
/// units of four bytes.
pub struct RamFlash<'a> {
    bytes: &'a mut [u8],
    sector: u32,
}

impl<'a> RamFlash<'a> {
    /// `bytes` with whatever they hold, in sectors of `sector` bytes.
    pub fn new(bytes: &'a mut [u8], sector: u32) -> Self {
        Self { bytes, sector }
    }
}

impl Storage for RamFlash<'_> {
    fn bytes(&self) -> &[u8] {
        self.bytes
    }

    fn write_unit(&self) -> usize {
        4
    }

    fn sector(&self, offset: u32) -> Option<Sector> {
        sector_at(offset, self.sector, self.bytes.len())
    }

    fn erase(&mut self, sector: Sector) -> Result<(), StorageError> {
        self.bytes
            .get_mut(sector.start as usize..sector.end() as usize)
            .ok_or(StorageError)?
            .fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), StorageError> {
        let place = self
            .bytes
            .get_mut(offset as usize..)
            .and_then(|rest| rest.get_mut(..data.len()))
            .ok_or(StorageError)?;
        for (to, &from) in place.iter_mut().zip(data) {
            *to &= from;
        }
        Ok(())
    }
}
