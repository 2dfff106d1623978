//! Self-tests: inputs with the outputs that the model must give for them, in the image.
//!
//! They are the last bytes of the weight section, which nothing else refers to: a reader that does
//! not know them runs the image as any other.

use super::model::Model;

/// Length of the footer, the last bytes of the weight section.
const FOOTER_BYTES: usize = 16;
const MAGIC: [u8; 4] = *b"QTST";
const VERSION: u8 = 1;

/// The self-tests of an image, read in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTests<'a> {
    vectors: &'a [u8],
    input_len: usize,
    output_len: usize,
}

impl<'a> SelfTests<'a> {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.vectors.len() / (self.input_len + self.output_len)
    }

    /// Input and output of one: int8, HWC.
    pub fn vector(&self, index: usize) -> Option<(&'a [u8], &'a [u8])> {
        let len = self.input_len + self.output_len;
        let at = index.checked_mul(len)?;
        let vector = self.vectors.get(at..)?.get(..len)?;
        Some(vector.split_at(self.input_len))
    }

    /// Bytes that they take in the image, the footer included.
    pub fn bytes(&self) -> usize {
        self.vectors.len() + FOOTER_BYTES
    }
}

/// The footer behind `count` vectors of `vector_len` bytes each; `None` where they are more than
/// 2^32 bytes.
pub fn self_test_footer(count: usize, vector_len: usize) -> Option<[u8; FOOTER_BYTES]> {
    let bytes = count.checked_mul(vector_len)?.checked_add(FOOTER_BYTES)?;
    let mut b = [0; FOOTER_BYTES];
    b[..4].copy_from_slice(&u32::try_from(count).ok()?.to_le_bytes());
    b[4..8].copy_from_slice(&u32::try_from(bytes).ok()?.to_le_bytes());
    b[8] = VERSION;
    b[12..].copy_from_slice(&MAGIC);
    Some(b)
}

impl<'a> Model<'a> {
    /// The self-tests that the image carries; none where the weight section does not end in a footer
    /// that agrees with the model's input and output.
    pub fn self_tests(&self) -> Option<SelfTests<'a>> {
        let (before, footer) = self.manifest().weights.split_last_chunk()?;
        let (input_len, output_len) = (
            usize::try_from(self.input().elements()).ok()?,
            usize::try_from(self.output().elements()).ok()?,
        );
        let vector_len = input_len.checked_add(output_len)?;
        let count = u32::from_le_bytes([footer[0], footer[1], footer[2], footer[3]]) as usize;
        if count == 0 || self_test_footer(count, vector_len)? != *footer {
            return None;
        }
        let start = before.len().checked_sub(count.checked_mul(vector_len)?)?;
        Some(SelfTests {
            vectors: &before[start..],
            input_len,
            output_len,
        })
    }
}
