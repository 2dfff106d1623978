//! NumPy's `.npy`: magic, version, a header that is a Python dictionary, then the elements.
//!
//! Format: NumPy Enhancement Proposal 1 (NEP 1). The header is parsed here, by the three keys that
//! the format allows, so that nothing in it can make a parser recurse or a product overflow.

use std::io::{self, Read};
use std::path::Path;

use super::DataError;
use super::array::{Array, Element, Kind, read_array};
use super::bytes::{damaged, read_error};

/// First bytes of every file.
pub(super) const MAGIC: &[u8] = b"\x93NUMPY";

/// Longer headers are refused; NumPy itself parses no more by default.
const MAX_HEADER: usize = 10_000;

/// What a header says.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub shape: Vec<u64>,
    pub element: Element,
    pub fortran: bool,
}

/// Reads a whole array.
pub(super) fn read(path: &Path, reader: &mut dyn Read) -> Result<Array, DataError> {
    let header = read_header(path, reader)?;
    let array = read_array(path, reader, &header.shape, header.element)?;
    Ok(if header.fortran {
        array.into_row_major()
    } else {
        array
    })
}

/// Reads the header and leaves the reader at the first element.
pub(super) fn read_header(path: &Path, reader: &mut dyn Read) -> Result<Header, DataError> {
    let text = header_text(reader).map_err(|e| read_error(path, e))?;
    let bad = |what: &str| damaged(path, format!("its .npy header {text:?} {what}"));
    let descr = value_of(&text, "descr").ok_or_else(|| bad("has no 'descr'"))?;
    let order = value_of(&text, "fortran_order").ok_or_else(|| bad("has no 'fortran_order'"))?;
    let shape = value_of(&text, "shape").ok_or_else(|| bad("has no 'shape'"))?;
    let fortran = match order.split([',', '}']).next().map(str::trim) {
        Some("True") => true,
        Some("False") => false,
        _ => return Err(bad("has a 'fortran_order' that is neither True nor False")),
    };
    let inside = shape
        .strip_prefix('(')
        .and_then(|s| s.split_once(')'))
        .ok_or_else(|| bad("has a broken 'shape'"))?
        .0;
    let shape: Vec<u64> = inside
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(|s| s.trim_end_matches('L').parse())
        .collect::<Result<_, _>>()
        .map_err(|_| bad("has a broken 'shape'"))?;
    Ok(Header {
        shape,
        element: element(path, descr)?,
        fortran,
    })
}

fn header_text(reader: &mut dyn Read) -> io::Result<String> {
    let invalid = |m: &str| io::Error::new(io::ErrorKind::InvalidData, m);
    let mut start = [0u8; 8];
    reader.read_exact(&mut start)?;
    if !start.starts_with(MAGIC) {
        return Err(invalid("no .npy magic"));
    }
    let mut size = [0u8; 4];
    match start[6] {
        1 => reader.read_exact(&mut size[..2])?,
        2 | 3 => reader.read_exact(&mut size)?,
        _ => return Err(invalid("unknown .npy version")),
    }
    let size = u32::from_le_bytes(size) as usize;
    if size > MAX_HEADER {
        return Err(invalid("its .npy header is too long"));
    }
    let mut text = vec![0u8; size];
    reader.read_exact(&mut text)?;
    String::from_utf8(text).map_err(|_| invalid("its .npy header is not text"))
}

/// What follows `'key':` in the dictionary.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let at = ['\'', '"']
        .iter()
        .find_map(|q| text.split_once(&format!("{q}{key}{q}")))?
        .1;
    Some(at.trim_start().strip_prefix(':')?.trim_start())
}

fn element(path: &Path, descr: &str) -> Result<Element, DataError> {
    let quoted = descr
        .split(['\'', '"'])
        .nth(1)
        .filter(|_| descr.starts_with(['\'', '"']));
    let code = quoted.unwrap_or("a record");
    let wrong = || DataError::Malformed {
        path: path.into(),
        what: format!("elements of NumPy type {code:?}"),
        help: "save integers or floats: x.astype('float32'), class names as indices".into(),
    };
    let mut chars = code.chars();
    let order = chars.next().ok_or_else(wrong)?;
    let kind = match chars.next() {
        Some('b' | 'u') => Kind::Uint,
        Some('i') => Kind::Int,
        Some('f') => Kind::Float,
        _ => return Err(wrong()),
    };
    let size = match (kind, chars.as_str()) {
        (Kind::Float, "1") => return Err(wrong()),
        (_, "1") => 1,
        (_, "2") => 2,
        (_, "4") => 4,
        (_, "8") => 8,
        _ => return Err(wrong()),
    };
    match order {
        '<' | '|' | '=' => Ok(Element {
            kind,
            size,
            big_endian: false,
        }),
        '>' => Ok(Element {
            kind,
            size,
            big_endian: true,
        }),
        _ => Err(wrong()),
    }
}

/// The bytes of a `.npy` file (version 1) of little-endian elements in row-major order; `descr` is
/// NumPy's type code, `<f4` or `|i1`.
pub fn npy_bytes(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let dims: String = shape.iter().map(|d| format!("{d}, ")).collect();
    written(descr, false, &format!("({dims})"), data)
}

pub(super) fn written(descr: &str, fortran: bool, shape: &str, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}");
    // Magic, version, length and header end at a multiple of 64.
    while !(header.len() + 11).is_multiple_of(64) {
        header.push(' ');
    }
    header.push('\n');
    let mut out = MAGIC.to_vec();
    out.extend([1, 0]);
    out.extend((header.len() as u16).to_le_bytes());
    out.extend(header.bytes());
    out.extend(data);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Values;

    fn parse(bytes: &[u8]) -> Result<Array, DataError> {
        read(Path::new("a.npy"), &mut &bytes[..])
    }

    #[test]
    fn shapes_types_and_orders_are_read() {
        let a = parse(&written("|u1", false, "(2, 3)", &[1, 2, 3, 4, 5, 6])).unwrap();
        assert_eq!(
            a,
            Array {
                shape: vec![2, 3],
                values: Values::U8(vec![1, 2, 3, 4, 5, 6])
            }
        );
        let a = parse(&written("|u1", true, "(2, 3)", &[1, 4, 2, 5, 3, 6])).unwrap();
        assert_eq!(a.values, Values::U8(vec![1, 2, 3, 4, 5, 6]));
        let a = parse(&written(">i2", false, "(2,)", &[0xff, 0xfe, 0, 7])).unwrap();
        assert_eq!(
            a,
            Array {
                shape: vec![2],
                values: Values::F32(vec![-2.0, 7.0])
            }
        );
        let a = parse(&written("|i1", false, "()", &[0xff])).unwrap();
        assert_eq!(
            a,
            Array {
                shape: vec![],
                values: Values::I8(vec![-1])
            }
        );
    }

    #[test]
    fn damaged_and_foreign_files_are_refused_with_a_reason() {
        let good = written("<f4", false, "(2, 2)", &[0; 16]);
        for cut in [3, 9, 40, good.len() - 1] {
            assert!(parse(&good[..cut]).is_err(), "cut at {cut}");
        }
        let mut long = good.clone();
        long.push(0);
        let cases: [(Vec<u8>, &str); 8] = [
            (long, "goes on after"),
            (written("|O", false, "(2,)", &[0; 16]), "type \"|O\""),
            (written("<U7", false, "(2,)", &[0; 56]), "type \"<U7\""),
            (written("<c8", false, "(2,)", &[0; 16]), "type \"<c8\""),
            (written("<f4", false, "(-1,)", &[0; 16]), "broken 'shape'"),
            (
                written("<f4", false, "(99999999999999999999,)", &[]),
                "broken 'shape'",
            ),
            (written("<f4", false, "((((((((", &[]), "broken 'shape'"),
            (
                written("<f4", false, "(4000000000, 4000000000, 4000000000)", &[]),
                "of memory",
            ),
        ];
        for (bytes, want) in cases {
            let e = parse(&bytes).unwrap_err();
            assert!(
                e.to_string().contains("a.npy") && e.to_string().contains(want),
                "{e}"
            );
            assert!(!e.help().is_empty());
        }
        let mut huge = good;
        huge[6] = 2;
        huge[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(parse(&huge).unwrap_err().to_string().contains("too long"));
    }
}
