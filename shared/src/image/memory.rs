//! Working memory of operators, as their hints name it.

use core::ops::Range;

/// Working memory in the arena, which a kernel may overwrite while its operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Where it starts in the arena.
    pub offset: u32,
    /// How long it is.
    pub bytes: u32,
}

impl Scratch {
    /// Length of its bytes.
    pub const BYTES: usize = 8;

    /// As it stands in an operator's hints.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let ([a, b, c, d], [e, f, g, h]) = (self.offset.to_le_bytes(), self.bytes.to_le_bytes());
        [a, b, c, d, e, f, g, h]
    }

    /// Reads hints.
    pub fn from_bytes(b: &[u8; Self::BYTES]) -> Self {
        Self {
            offset: u32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            bytes: u32::from_le_bytes([b[4], b[5], b[6], b[7]]),
        }
    }

    /// Its place in the arena.
    pub fn range(&self) -> Range<usize> {
        self.offset as usize..self.offset as usize + self.bytes as usize
    }
}

/// What an operator's hints say: which working memory it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// One piece, apart from the operands.
    Whole(Scratch),
    /// Of a convolution that runs in two parts, so that its working memory can lie where its
    /// operands are not needed: under output rows that are yet to be written, then on input rows that
    /// have been read for the last time.
    Split {
        /// While the first rows are computed: apart from the input and those rows.
        first: Scratch,
        /// How many rows of the output are the first ones.
        rows: u32,
        /// While the others are computed: apart from the output and the input rows that they read.
        rest: Scratch,
    },
}

impl Memory {
    /// Most bytes of hints.
    pub const MOST_BYTES: usize = 2 * Scratch::BYTES + 4;

    /// Reads hints; nothing where they are empty or of a length that is not known.
    pub fn from_hints(hints: &[u8]) -> Option<Self> {
        let (first, rest) = hints.split_first_chunk()?;
        let first = Scratch::from_bytes(first);
        if rest.is_empty() {
            return Some(Memory::Whole(first));
        }
        let (rows, rest) = rest.split_first_chunk()?;
        Some(Memory::Split {
            first,
            rows: u32::from_le_bytes(*rows),
            rest: Scratch::from_bytes(rest.as_array()?),
        })
    }

    /// The hints: in `buffer`, as many bytes of it as are given back.
    pub fn to_hints<'b>(&self, buffer: &'b mut [u8; Self::MOST_BYTES]) -> &'b [u8] {
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            buffer[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        match self {
            Memory::Whole(scratch) => put(&scratch.to_bytes()),
            Memory::Split { first, rows, rest } => {
                put(&first.to_bytes());
                put(&rows.to_le_bytes());
                put(&rest.to_bytes());
            }
        }
        &buffer[..at]
    }

    /// All pieces of the arena that the operator overwrites besides its output.
    pub fn pieces(&self) -> impl Iterator<Item = Scratch> {
        let (first, rest) = match *self {
            Memory::Whole(s) => (s, None),
            Memory::Split { first, rest, .. } => (first, Some(rest)),
        };
        [Some(first), rest].into_iter().flatten()
    }
}
