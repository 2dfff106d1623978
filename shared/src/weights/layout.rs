//! Where a row's numbers lie.

/// Rows start at multiples of this many bytes from the first row.
pub const ROW_ALIGN: usize = 4;

/// The widths that a weight may have, in bits.
pub const WIDTHS: [u8; 4] = [2, 3, 4, 8];

/// How a row's numbers lie in its bytes: see the parent module's head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// A stream of numbers.
    Rows,
    /// Words of two halfwords.
    #[default]
    Halfwords,
}

impl Layout {
    /// The tag in an image's header.
    pub const fn tag(self) -> u8 {
        match self {
            Layout::Rows => 0,
            Layout::Halfwords => 1,
        }
    }

    /// The layout that a header's tag names, if this version knows it.
    pub const fn from_tag(tag: u8) -> Option<Self> {
        match tag {
            0 => Some(Layout::Rows),
            1 => Some(Layout::Halfwords),
            _ => None,
        }
    }

    /// Whether numbers of `bits` bits are fields of words rather than a stream.
    #[inline(always)]
    pub(super) const fn has_fields(self, bits: u32) -> bool {
        matches!(self, Layout::Halfwords) && (bits == 2 || bits == 4)
    }
}

/// Where number `column` of a row of fields starts, in bits from the row's start.
#[inline(always)]
pub(super) const fn field_bit(column: usize, bits: u32) -> usize {
    // 16 numbers of 2 bits in a word, 8 of 4. No division: small processors have none.
    let log2 = 5 - bits / 2;
    let (word, within) = (column >> log2, column & ((1 << log2) - 1));
    let (four, which) = (within / 4, within % 4);
    // a, b in the lower half; c, d in the upper one.
    let half = (which / 2) * 16;
    word * 32 + half + (2 * four + which % 2) * bits as usize
}

/// Whether `bits` is one of [`WIDTHS`].
pub const fn is_width(bits: u8) -> bool {
    matches!(bits, 2 | 3 | 4 | 8)
}

/// Bytes that the numbers of one row fill, the padding between rows not counted.
pub const fn row_bytes(columns: usize, bits: u8) -> usize {
    // Groups of eight fill `bits` bytes; written so that nothing overflows for any slice's length.
    columns / 8 * bits as usize + (columns % 8 * bits as usize).div_ceil(8)
}

/// Bytes from one row's start to the next one's.
pub const fn row_stride(columns: usize, bits: u8) -> usize {
    row_bytes(columns, bits).next_multiple_of(ROW_ALIGN)
}
