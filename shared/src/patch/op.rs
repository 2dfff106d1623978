//! One operation of a patch.

/// Copies bytes of the base.
pub const KIND_COPY: u32 = 0;
/// Bytes of the patch in the place of as many of the base.
pub const KIND_REPLACE: u32 = 1;
/// Adds a number to each of some 32-bit words of the base.
pub const KIND_ADD: u32 = 2;
/// Goes to another place in the base.
pub const KIND_MOVE: u32 = 3;

/// Largest count of an operation: it shares 32 bits with the kind.
pub const MAX_COUNT: u32 = u32::MAX >> 2;

/// What to do next. The base is read from a place that every operation moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// The next bytes of the base, as they are.
    Copy(u32),
    /// These bytes; as many of the base are passed over.
    Replace(&'a [u8]),
    /// The next words of the base (little-endian, 4 bytes each), to each of which a number is
    /// added modulo 2^32. The numbers are zigzag varints, one a word.
    Add {
        /// How many words.
        words: u32,
        /// The varints.
        deltas: &'a [u8],
    },
    /// The base is read on from here, so many bytes further on (or back).
    Move(i32),
}

impl<'a> Op<'a> {
    /// Takes the first operation off `body`; `None` where it is cut off or empty.
    pub fn take(body: &mut &'a [u8]) -> Option<Self> {
        let head = take_varint(body)?;
        let count = head >> 2;
        if count == 0 {
            return None;
        }
        Some(match head & 3 {
            KIND_COPY => Op::Copy(count),
            KIND_REPLACE => {
                let (bytes, rest) = body.split_at_checked(count as usize)?;
                *body = rest;
                Op::Replace(bytes)
            }
            KIND_ADD => {
                let all = *body;
                for _ in 0..count {
                    take_varint(body)?;
                }
                let deltas = &all[..all.len() - body.len()];
                Op::Add {
                    words: count,
                    deltas,
                }
            }
            _ => Op::Move(unzigzag(count)),
        })
    }
}

/// The number behind a zigzag code: 0, -1, 1, -2, 2 ... for 0, 1, 2, 3, 4 ...
pub(super) fn unzigzag(code: u32) -> i32 {
    (code >> 1) as i32 ^ -((code & 1) as i32)
}

/// The zigzag code of a number.
pub fn zigzag(n: i32) -> u32 {
    ((n << 1) ^ (n >> 31)) as u32
}

/// Takes a varint: groups of 7 bits, lowest first, bit 7 set on all but the last byte.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for shift in [0, 7, 14, 21, 28] {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let bits = u32::from(byte & 0x7f);
        if shift == 28 && bits > 0xf {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zigzag_and_back_is_the_number() {
        for n in [0, 1, -1, 63, -64, i32::MAX, i32::MIN] {
            assert_eq!(unzigzag(zigzag(n)), n);
        }
        assert_eq!([0, -1, 1, -2].map(zigzag), [0, 1, 2, 3]);
    }

    #[test]
    fn varints_beyond_32_bits_are_refused() {
        let mut bytes: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f, 7];
        assert_eq!(take_varint(&mut bytes), Some(u32::MAX));
        assert_eq!(bytes, [7]);
        for bad in [
            &[0xff, 0xff, 0xff, 0xff, 0x1f][..],
            &[0x80; 6],
            &[0x80],
            &[],
        ] {
            assert_eq!(take_varint(&mut { bad }), None);
        }
    }

    #[test]
    fn operations_that_are_cut_off_or_empty_are_refused() {
        // Count 0; a replacement of 2 bytes with 1; an addition to 2 words with 1 delta.
        for bad in [&[0u8][..], &[2 << 2 | 1, 9], &[2 << 2 | 2, 5], &[]] {
            assert_eq!(Op::take(&mut { bad }), None);
        }
        let mut body: &[u8] = &[3 << 2, 1 << 2 | 1, 7, 2 << 2 | 2, 1, 0x80, 1, 3 << 2 | 3];
        assert_eq!(Op::take(&mut body), Some(Op::Copy(3)));
        assert_eq!(Op::take(&mut body), Some(Op::Replace(&[7])));
        let deltas = &[1, 0x80, 1][..];
        assert_eq!(Op::take(&mut body), Some(Op::Add { words: 2, deltas }));
        assert_eq!(Op::take(&mut body), Some(Op::Move(-2)));
        assert!(body.is_empty());
    }
}
