//! Flash memory as the slots need it.

/// The largest unit of writing that is supported, in bytes.
pub const WRITE_UNIT_MAX: usize = 32;

/// A piece of flash that is erased at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sector {
    /// Its first byte, from the storage's first.
    pub start: u32,
    /// Its length in bytes.
    pub len: u32,
}

impl Sector {
    /// The first byte behind it.
    pub const fn end(&self) -> u32 {
        self.start + self.len
    }
}

/// The memory did not take what was written or was not erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageError;

/// Memory-mapped NOR flash: erasing sets a sector's bytes to 0xFF, writing only clears bits.
///
/// `embedded_storage::nor_flash::NorFlash` was considered: its `ERASE_SIZE` is one constant, where
/// the sectors of an STM32F4 have three lengths, and it gives no memory-mapped view, in which an
/// image is run.
pub trait Storage {
    /// All of it, as it is now.
    fn bytes(&self) -> &[u8];

    /// Bytes that are written at once: a power of two up to [`WRITE_UNIT_MAX`]. Offsets and
    /// lengths of [`Storage::write`] are multiples of it, and a unit is written once between two
    /// erasures.
    fn write_unit(&self) -> usize;

    /// The sector that holds this byte; `None` beyond the end.
    fn sector(&self, offset: u32) -> Option<Sector>;

    /// Sets a whole sector to 0xFF.
    ///
    /// # Errors
    /// Where the hardware reports a failure.
    fn erase(&mut self, sector: Sector) -> Result<(), StorageError>;

    /// Writes whole units that are erased.
    ///
    /// # Errors
    /// Where the hardware reports a failure, or the range is outside or not aligned.
    fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), StorageError>;
}

/// Writes `data`, whose last unit is filled up with 0xFF where it is not whole.
pub(super) fn write_padded(
    storage: &mut impl Storage,
    offset: u32,
    data: &[u8],
) -> Result<(), StorageError> {
    let unit = storage.write_unit();
    let whole = data.len() - data.len() % unit;
    let (head, tail) = data.split_at(whole);
    if !head.is_empty() {
        storage.write(offset, head)?;
    }
    if !tail.is_empty() {
        let mut last = [0xff; WRITE_UNIT_MAX];
        last[..tail.len()].copy_from_slice(tail);
        storage.write(offset + whole as u32, &last[..unit])?;
    }
    Ok(())
}
