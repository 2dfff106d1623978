//! Tables, vectors and strings of a flatbuffer, read from untrusted bytes.
//!
//! The format (FlatBuffers' documentation, "FlatBuffer internals"): all numbers are little-endian.
//! The buffer starts with the u32 position of its root table and a four-letter identifier. A table
//! starts with an i32; the table's position less this number is the position of its vtable: u16
//! size of the vtable, u16 size of the table, then one u16 a field, the field's offset from the
//! table's start, 0 where it has its default. A field that is a table, vector or string holds the
//! u32 distance from itself to it. A vector is a u32 count and its elements; a string is a vector
//! of bytes.
//!
//! The `flatbuffers` crate verifies a buffer against generated code and reads it with `unsafe`
//! accessors that trust the verifier. Here there is no generated code, and the few accessors below
//! check each access themselves, so nothing has to be trusted. Reads are by bytes: alignment does
//! not matter.

/// A place where the bytes contradict the format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub String);

type Result<T> = std::result::Result<T, Malformed>;

fn malformed<T>(what: impl Into<String>) -> Result<T> {
    Err(Malformed(what.into()))
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N]> {
    let found = at
        .checked_add(N)
        .and_then(|end| bytes.get(at..end))
        .and_then(|b| b.try_into().ok());
    found.map_or_else(
        || malformed(format!("{N} bytes at offset {at} are beyond its end")),
        Ok,
    )
}

/// A number that a field or a vector can hold.
pub(super) trait Scalar: Sized {
    /// Bytes of one.
    const BYTES: usize;

    fn read(bytes: &[u8], at: usize) -> Result<Self>;
}

macro_rules! scalar {
    ($($t:ty),*) => {$(
        impl Scalar for $t {
            const BYTES: usize = size_of::<$t>();

            fn read(bytes: &[u8], at: usize) -> Result<Self> {
                Ok(<$t>::from_le_bytes(bytes_at(bytes, at)?))
            }
        }
    )*};
}

scalar!(u8, i8, u16, i32, u32, i64, u64, f32);

/// What stands at the end of an offset.
fn follow(bytes: &[u8], at: usize) -> Result<usize> {
    let distance = u32::read(bytes, at)? as usize;
    match at.checked_add(distance) {
        Some(target) if target < bytes.len() => Ok(target),
        _ => malformed(format!("an offset at {at} points beyond its end")),
    }
}

/// A table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    /// Where the table starts.
    at: usize,
    /// Its vtable's entries, one u16 a field.
    fields: &'a [u8],
}

impl<'a> Table<'a> {
    /// The root table of a buffer with an identifier.
    pub(super) fn root(bytes: &'a [u8], identifier: &[u8; 4]) -> Result<Self> {
        let root = follow(bytes, 0)?;
        if bytes_at::<4>(bytes, 4)? != *identifier {
            return malformed(format!(
                "it lacks the identifier {:?}",
                String::from_utf8_lossy(identifier)
            ));
        }
        Self::new(bytes, root)
    }

    fn new(bytes: &'a [u8], at: usize) -> Result<Self> {
        let vtable = at as i64 - i32::read(bytes, at)? as i64;
        let Ok(vtable) = usize::try_from(vtable) else {
            return malformed(format!(
                "the table at {at} has its vtable before the file's start"
            ));
        };
        let size = u16::read(bytes, vtable)? as usize;
        let fields = bytes.get(vtable..vtable + size).and_then(|v| v.get(4..));
        match fields {
            Some(fields) if size.is_multiple_of(2) => Ok(Self { bytes, at, fields }),
            _ => malformed(format!("the table at {at} has a broken vtable")),
        }
    }

    /// Where a field stands, if it does not have its default.
    fn field(&self, number: usize) -> Option<usize> {
        let entry = self.fields.get(2 * number..2 * number + 2)?;
        match u16::from_le_bytes(entry.try_into().ok()?) {
            0 => None,
            offset => Some(self.at + offset as usize),
        }
    }

    /// A number, or its default.
    pub(super) fn scalar<T: Scalar>(&self, number: usize, default: T) -> Result<T> {
        self.field(number)
            .map_or(Ok(default), |at| T::read(self.bytes, at))
    }

    /// Whether a field is there.
    pub(super) fn has(&self, number: usize) -> bool {
        self.field(number).is_some()
    }

    /// A table in a field.
    pub(super) fn table(&self, number: usize) -> Result<Option<Table<'a>>> {
        self.field(number)
            .map(|at| Table::new(self.bytes, follow(self.bytes, at)?))
            .transpose()
    }

    /// A vector of numbers in a field; empty where there is none.
    pub(super) fn vector<T: Scalar>(&self, number: usize) -> Result<Vector<'a, T>> {
        self.elements(number, T::BYTES).map(|bytes| Vector {
            bytes,
            of: std::marker::PhantomData,
        })
    }

    /// A vector of tables in a field; empty where there is none.
    pub(super) fn tables(&self, number: usize) -> Result<Tables<'a>> {
        let elements = self.elements(number, 4)?;
        let start = self
            .field(number)
            .map_or(Ok(0), |at| follow(self.bytes, at))?
            + 4;
        Ok(Tables {
            bytes: self.bytes,
            start,
            len: elements.len() / 4,
        })
    }

    /// Bytes of a vector's elements.
    fn elements(&self, number: usize, size: usize) -> Result<&'a [u8]> {
        let Some(at) = self.field(number) else {
            return Ok(&[]);
        };
        let at = follow(self.bytes, at)?;
        let count = u32::read(self.bytes, at)? as usize;
        let elements = count
            .checked_mul(size)
            .and_then(|n| self.bytes.get(at + 4..)?.get(..n));
        elements.map_or_else(
            || malformed(format!("a vector of {count} elements at {at} is cut off")),
            Ok,
        )
    }
}

/// A vector of numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vector<'a, T> {
    bytes: &'a [u8],
    of: std::marker::PhantomData<T>,
}

impl<'a, T: Scalar> Vector<'a, T> {
    pub(super) const EMPTY: Self = Self {
        bytes: &[],
        of: std::marker::PhantomData,
    };

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / T::BYTES
    }

    /// The elements' bytes, little-endian.
    pub(super) fn raw(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn get(&self, index: usize) -> Option<T> {
        T::read(self.bytes, index.checked_mul(T::BYTES)?).ok()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = T> + use<'_, 'a, T> {
        (0..self.len()).filter_map(|i| self.get(i))
    }
}

impl<'a> Vector<'a, u8> {
    pub(super) fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// A vector of tables.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tables<'a> {
    bytes: &'a [u8],
    start: usize,
    len: usize,
}

impl<'a> Tables<'a> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Table number `index`; `None` beyond the last.
    pub(super) fn get(&self, index: usize) -> Result<Option<Table<'a>>> {
        if index >= self.len {
            return Ok(None);
        }
        Table::new(self.bytes, follow(self.bytes, self.start + 4 * index)?).map(Some)
    }
}
