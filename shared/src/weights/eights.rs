//! Eight numbers of a row at once.

/// Eight 3-bit numbers.
#[inline(always)]
pub(super) fn eight_of_three_bits(&[a, b, c]: &[u8; 3]) -> [i8; 8] {
    let packed = a as u32 | (b as u32) << 8 | (c as u32) << 16;
    let four = |bits: u32| {
        // Moved apart into bytes, then all signs extended at once.
        let pairs = bits & 0x3f | (bits & 0xfc0) << 10;
        let bytes = pairs & 0x0007_0007 | (pairs & 0x0038_0038) << 5;
        // (b ^ 4) - 4 in each byte; the upper bits keep borrows from leaving it.
        (((bytes ^ 0x0404_0404) | 0x8080_8080) - 0x0404_0404) ^ 0x8080_8080
    };
    let both = four(packed & 0xfff) as u64 | (four(packed >> 12) as u64) << 32;
    both.to_le_bytes().map(|b| b as i8)
}

/// Eight 4-bit fields of a word.
#[inline(always)]
pub(super) fn eight_of_four_bits(word: u32) -> [i8; 8] {
    // Numbers a, e, c, g and b, f, d, h of a ... h, in bytes.
    let [even, odd] = [word, word >> 4].map(|w| less::<8>(w & 0x0f0f_0f0f));
    let first = even & 0x00ff_00ff | (odd & 0x00ff_00ff) << 8;
    let second = even >> 8 & 0x00ff_00ff | odd & 0xff00_ff00;
    let both = first as u64 | (second as u64) << 32;
    both.to_le_bytes().map(|b| b as i8)
}

/// Eight 2-bit fields, four of a word's lower half and four of its upper one.
#[inline(always)]
pub(super) fn eight_of_two_bits(low: u8, high: u8) -> [i8; 8] {
    // Numbers a, b, e, f and c, d, g, h of a ... h, in bytes.
    let [low, high] = [low, high].map(|b| {
        let b = b as u32;
        less::<2>(b & 0x03 | (b & 0x0c) << 6 | (b & 0x30) << 12 | (b & 0xc0) << 18)
    });
    let first = low & 0xffff | high << 16;
    let second = low >> 16 | high & 0xffff_0000;
    let both = first as u64 | (second as u64) << 32;
    both.to_le_bytes().map(|b| b as i8)
}

/// Four bytes below 16, each less `HALF`.
#[inline(always)]
const fn less<const HALF: u32>(bytes: u32) -> u32 {
    // The upper bits keep borrows from leaving a byte.
    ((bytes | 0x8080_8080) - HALF * 0x0101_0101) ^ 0x8080_8080
}
