//! CRC-32/ISO-HDLC: of images, records, patches and frames.
//!
//! By a table of 1 KiB, or with `fast` off by one of 64 bytes, at half the speed.

#[cfg(feature = "fast")]
mod by_bytes {
    use crc::{CRC_32_ISO_HDLC, Crc, Table};

    static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

    /// A CRC under way.
    #[derive(Clone)]
    pub(crate) struct Digest(crc::Digest<'static, u32, Table<1>>);

    impl Digest {
        pub(crate) fn new() -> Self {
            Self(CRC.digest())
        }

        pub(crate) fn update(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        pub(crate) fn finalize(self) -> u32 {
            self.0.finalize()
        }
    }
}

#[cfg(any(test, not(feature = "fast")))]
mod by_nibbles {
    /// The polynomial 0x04C11DB7, its bits reversed.
    const POLYNOMIAL: u32 = 0xEDB8_8320;

    static TABLE: [u32; 16] = {
        let mut table = [0u32; 16];
        let mut i = 0;
        while i < 16 {
            let mut crc = i as u32;
            let mut bit = 0;
            while bit < 4 {
                crc = crc >> 1 ^ if crc & 1 == 1 { POLYNOMIAL } else { 0 };
                bit += 1;
            }
            table[i] = crc;
            i += 1;
        }
        table
    };

    /// A CRC under way.
    #[derive(Clone)]
    pub(crate) struct Digest(u32);

    impl Digest {
        pub(crate) fn new() -> Self {
            Self(!0)
        }

        #[inline(never)]
        pub(crate) fn update(&mut self, bytes: &[u8]) {
            let mut crc = self.0;
            for &byte in bytes {
                crc ^= byte as u32;
                crc = crc >> 4 ^ TABLE[(crc & 15) as usize];
                crc = crc >> 4 ^ TABLE[(crc & 15) as usize];
            }
            self.0 = crc;
        }

        pub(crate) fn finalize(self) -> u32 {
            !self.0
        }
    }
}

#[cfg(feature = "fast")]
pub(crate) use by_bytes::Digest;
#[cfg(not(feature = "fast"))]
pub(crate) use by_nibbles::Digest;

/// CRC-32/ISO-HDLC of `bytes`.
#[cfg_attr(not(feature = "fast"), inline(never))]
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut digest = Digest::new();
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_random::Random;

    #[test]
    fn the_check_sum_is_crc_32_of_the_catalogue() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn the_small_table_gives_the_same_sums() {
        let mut random = Random::new(3);
        for len in [0, 1, 2, 9, 300] {
            let mut bytes = [0u8; 300];
            bytes[..len].fill_with(|| random.i8() as u8);
            let mut digest = by_nibbles::Digest::new();
            digest.update(&bytes[..len / 2]);
            digest.update(&bytes[len / 2..len]);
            assert_eq!(digest.finalize(), crc32(&bytes[..len]));
        }
    }
}
