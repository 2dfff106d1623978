//! What every flash driver asks before it changes anything.

use qmend_shared::slot::{Sector, StorageError};

/// The sector that holds `offset` in `total` bytes of flash, all of whose sectors have `len` bytes.
pub fn sector_at(offset: u32, len: u32, total: usize) -> Option<Sector> {
    let start = offset.checked_div(len)? * len;
    let inside = (offset as usize) < total;
    inside.then_some(Sector { start, len })
}

/// Whether `data` is whole words for addresses of words, inside `total` bytes of flash.
///
/// # Errors
/// [`StorageError`] where it is not.
pub fn whole_words(offset: u32, data: &[u8], total: usize) -> Result<(), StorageError> {
    let inside = (offset as usize)
        .checked_add(data.len())
        .is_some_and(|end| end <= total);
    let whole = (offset as usize | data.len()).is_multiple_of(4);
    if inside && whole {
        Ok(())
    } else {
        Err(StorageError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_is_found_from_any_byte_inside_and_from_none_outside() {
        let second = Sector {
            start: 1024,
            len: 1024,
        };
        for offset in [1024, 1025, 2047] {
            assert_eq!(sector_at(offset, 1024, 4096), Some(second));
        }
        assert_eq!(sector_at(4096, 1024, 4096), None);
        assert_eq!(sector_at(0, 0, 4096), None);
    }

    #[test]
    fn only_whole_words_inside_are_written() {
        for (offset, len) in [(0, 0), (0, 4096), (4092, 4), (4096, 0)] {
            assert!(whole_words(offset, &[0; 4096][..len], 4096).is_ok());
        }
        for (offset, len) in [(4, 4096), (4096, 4), (2, 4), (4, 3), (u32::MAX - 3, 8)] {
            assert!(whole_words(offset, &[0; 4096][..len], 4096).is_err());
        }
    }
}
