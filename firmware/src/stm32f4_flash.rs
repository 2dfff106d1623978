//! Flash of the STM32F4 and its controller. (STMicroelectronics RM0090, sections 3.4 to 3.9, for the F405; RM0383,
//! sections 3.4 to 3.8, for the F411: the same registers, and sectors of which the F411 has the first.)

use core::slice;

use qmend_shared::slot::{Sector, Storage, StorageError};

use crate::cortex_m_port::Register;
use crate::pages::whole_words;

/// Address of flash's first byte.
const FLASH: u32 = 0x0800_0000;

const fn register(address: usize) -> Register {
    // SAFETY: only the flash controller's registers are named below; none moves memory.
    unsafe { Register::at(address) }
}

const ACCESS: Register = register(0x4002_3C00);
const KEY: Register = register(0x4002_3C04);
const STATUS: Register = register(0x4002_3C0C);
const CONTROL: Register = register(0x4002_3C10);
const BUSY: u32 = 1 << 16;
/// Write protection, alignment, parallelism and sequence errors.
const ERRORS: u32 = 0xF0;
const LOCK: u32 = 1 << 31;
const START: u32 = 1 << 16;
/// 32 bits at once, which 2.7 volts or more allow.
const BY_WORD: u32 = 0b10 << 8;
const SECTOR_ERASE: u32 = 1 << 1;
const PROGRAM: u32 = 1;

/// All `BYTES` of flash, of one bank.
pub struct Stm32f4Flash<const BYTES: usize>(());

impl<const BYTES: usize> Stm32f4Flash<BYTES> {
    /// The chip's flash.
    ///
    /// # Safety
    /// Called once; the chip has this much flash, and nothing else writes it.
    pub unsafe fn new() -> Self {
        Self(())
    }

    /// Does `change` with the controller unlocked and set to `control`.
    fn unlocked(&mut self, control: u32, change: impl FnOnce()) -> Result<(), StorageError> {
        while STATUS.get() & BUSY != 0 {}
        if CONTROL.get() & LOCK != 0 {
            KEY.set(0x4567_0123);
            KEY.set(0xCDEF_89AB);
        }
        STATUS.set(ERRORS);
        CONTROL.set(control | BY_WORD);
        change();
        while STATUS.get() & BUSY != 0 {}
        let failed = STATUS.get() & ERRORS != 0;
        CONTROL.set(LOCK);
        // What the data cache holds of this flash is stale; it is reset while it is off.
        const DATA_CACHE: u32 = 1 << 10;
        const RESET_DATA_CACHE: u32 = 1 << 12;
        let access = ACCESS.get();
        ACCESS.set(access & !DATA_CACHE);
        ACCESS.set(access & !DATA_CACHE | RESET_DATA_CACHE);
        ACCESS.set(access);
        if failed { Err(StorageError) } else { Ok(()) }
    }

    /// Number of a sector and the sector, for an offset in flash.
    fn sector_at(offset: u32) -> Option<(u32, Sector)> {
        let kib = offset >> 10;
        let (number, start, len) = match kib {
            _ if offset as usize >= BYTES => return None,
            0..64 => (kib / 16, kib / 16 * 16, 16),
            64..128 => (4, 64, 64),
            _ => (4 + kib / 128, kib / 128 * 128, 128),
        };
        let sector = Sector {
            start: start << 10,
            len: len << 10,
        };
        Some((number, sector))
    }
}

impl<const BYTES: usize> Storage for Stm32f4Flash<BYTES> {
    fn bytes(&self) -> &[u8] {
        // SAFETY: flash is mapped here and readable. It changes only through `&mut self`, by the
        // contract of `new`.
        unsafe { slice::from_raw_parts(FLASH as *const u8, BYTES) }
    }

    fn write_unit(&self) -> usize {
        4
    }

    fn sector(&self, offset: u32) -> Option<Sector> {
        Self::sector_at(offset).map(|(_, sector)| sector)
    }

    fn erase(&mut self, sector: Sector) -> Result<(), StorageError> {
        match Self::sector_at(sector.start) {
            Some((number, found)) if found == sector => {
                let control = SECTOR_ERASE | number << 3;
                self.unlocked(control, || CONTROL.set(control | BY_WORD | START))
            }
            _ => Err(StorageError),
        }
    }

    fn write(&mut self, offset: u32, data: &[u8]) -> Result<(), StorageError> {
        whole_words(offset, data, BYTES)?;
        self.unlocked(PROGRAM, || {
            for (i, word) in data.as_chunks::<4>().0.iter().enumerate() {
                let address = FLASH + offset + 4 * i as u32;
                // SAFETY: inside the slots' flash, which is ours to write.
                unsafe { Register::at(address as usize) }.set(u32::from_le_bytes(*word));
                while STATUS.get() & BUSY != 0 {}
            }
        })
    }
}
