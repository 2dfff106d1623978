//! An array as it stands in a file, and its elements turned into the types of a dataset.

use std::io::Read;
use std::path::Path;

use super::bytes::{MAX_BYTES, damaged, read_error};
use super::{DataError, Values};

/// What the bytes of an element mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Int,
    Uint,
    Float,
}

/// One element in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub kind: Kind,
    /// Bytes: 1, 2, 4 or 8 (2 and up for floats).
    pub size: usize,
    pub big_endian: bool,
}

/// Axis lengths (the first is the number of samples) and elements in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    pub values: Values,
}

/// The shape as numbers of this machine, refused where the elements would not fit into
/// [`MAX_BYTES`]. Nothing is allocated before this has passed.
pub(super) fn checked_shape(
    path: &Path,
    shape: &[u64],
    element_bytes: u64,
) -> Result<Vec<usize>, DataError> {
    let bytes = shape
        .iter()
        .fold(element_bytes as u128, |n, &d| n.saturating_mul(d as u128));
    // An axis of length zero makes the product zero whatever the others are.
    let widest = shape.iter().copied().max().unwrap_or(0) as u128;
    if bytes.max(widest) > MAX_BYTES as u128 {
        return Err(DataError::TooLarge {
            path: path.into(),
            bytes: bytes.max(widest),
            limit: MAX_BYTES,
        });
    }
    Ok(shape.iter().map(|&d| d as usize).collect())
}

/// Reads the elements of an array to the end of the reader, which must be the end of the array.
pub(super) fn read_array(
    path: &Path,
    reader: &mut dyn Read,
    shape: &[u64],
    element: Element,
) -> Result<Array, DataError> {
    let shape = checked_shape(path, shape, if element.size == 1 { 1 } else { 4 })?;
    let count: usize = shape.iter().product();
    let mut values = match element {
        Element {
            kind: Kind::Uint,
            size: 1,
            ..
        } => Values::U8(Vec::new()),
        Element {
            kind: Kind::Int,
            size: 1,
            ..
        } => Values::I8(Vec::new()),
        _ => Values::F32(Vec::new()),
    };
    // The vectors grow with the bytes that arrive, so a header that lies about its file costs
    // nothing.
    let mut buffer = vec![0u8; 8 << 13];
    let mut left = count * element.size;
    while left > 0 {
        let part = &mut buffer[..left.min(8 << 13)];
        reader.read_exact(part).map_err(|e| match e.kind() {
            std::io::ErrorKind::UnexpectedEof => damaged(
                path,
                format!(
                    "ends inside the array: {shape:?} elements of {} bytes were promised",
                    element.size
                ),
            ),
            _ => read_error(path, e),
        })?;
        left -= part.len();
        match &mut values {
            Values::U8(v) => v.extend_from_slice(part),
            Values::I8(v) => v.extend(part.iter().map(|&b| b as i8)),
            Values::F32(v) => v.extend(part.chunks_exact(element.size).map(|b| decode(b, element))),
        }
    }
    // Reading on to the end also makes gzip and zip check their checksums.
    let more = reader
        .read(&mut buffer[..1])
        .map_err(|e| read_error(path, e))?;
    if more != 0 {
        return Err(damaged(
            path,
            format!("goes on after the end of its array of shape {shape:?}"),
        ));
    }
    Ok(Array { shape, values })
}

fn decode(bytes: &[u8], e: Element) -> f32 {
    let mut le = [0u8; 8];
    for (i, &b) in bytes.iter().enumerate() {
        le[if e.big_endian { e.size - 1 - i } else { i }] = b;
    }
    let bits = u64::from_le_bytes(le);
    match (e.kind, e.size) {
        (Kind::Uint, _) => bits as f32,
        (Kind::Int, size) => {
            let unused = 64 - 8 * size as u32;
            (((bits << unused) as i64) >> unused) as f32
        }
        (Kind::Float, 2) => half_to_f32(bits as u16),
        (Kind::Float, 4) => f32::from_bits(bits as u32),
        (Kind::Float, _) => f64::from_bits(bits) as f32,
    }
}

/// IEEE 754 binary16.
fn half_to_f32(h: u16) -> f32 {
    let sign = if h >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = ((h >> 10) & 31, (h & 1023) as f32);
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        e => (1.0 + fraction / 1024.0) * 2f32.powi(e as i32 - 15),
    }
}

impl Array {
    /// Row-major order from column-major (Fortran) order.
    pub fn into_row_major(self) -> Array {
        fn reorder<T: Copy>(v: &[T], shape: &[usize]) -> Vec<T> {
            let mut strides = vec![1usize; shape.len()];
            for i in 1..shape.len() {
                strides[i] = strides[i - 1] * shape[i - 1];
            }
            let mut index = vec![0usize; shape.len()];
            let mut out = Vec::with_capacity(v.len());
            for _ in 0..v.len() {
                out.push(
                    v[index
                        .iter()
                        .zip(&strides)
                        .map(|(i, s)| i * s)
                        .sum::<usize>()],
                );
                for axis in (0..shape.len()).rev() {
                    index[axis] += 1;
                    if index[axis] < shape[axis] {
                        break;
                    }
                    index[axis] = 0;
                }
            }
            out
        }
        let values = match &self.values {
            Values::U8(v) => Values::U8(reorder(v, &self.shape)),
            Values::I8(v) => Values::I8(reorder(v, &self.shape)),
            Values::F32(v) => Values::F32(reorder(v, &self.shape)),
        };
        Array { values, ..self }
    }

    /// The array as class indices: `[n]`, `[n, 1]`, or one-hot `[n, classes]`.
    pub fn into_labels(self, path: &Path) -> Result<Vec<u32>, DataError> {
        let values: Vec<f32> = match self.values {
            Values::U8(v) => v.into_iter().map(f32::from).collect(),
            Values::I8(v) => v.into_iter().map(f32::from).collect(),
            Values::F32(v) => v,
        };
        match self.shape[..] {
            [_] | [_, 1] => values
                .iter()
                .enumerate()
                .map(|(i, &v)| label(path, i, v as f64))
                .collect(),
            [_, classes] if classes > 1 => values
                .chunks_exact(classes)
                .enumerate()
                .map(|(index, row)| {
                    let hot = row.iter().position(|&v| v == 1.0);
                    match hot {
                        Some(c) if row.iter().filter(|&&v| v != 0.0).count() == 1 => Ok(c as u32),
                        _ => Err(DataError::NotALabel {
                            path: path.into(),
                            index,
                            value: format!("a row of {classes} numbers that is not one-hot"),
                        }),
                    }
                })
                .collect(),
            _ => Err(DataError::Malformed {
                path: path.into(),
                what: format!("labels of shape {:?}", self.shape),
                help: "labels are [samples] class indices or [samples, classes] one-hot rows"
                    .into(),
            }),
        }
    }
}

/// A number as a class index.
pub(super) fn label(path: &Path, index: usize, value: f64) -> Result<u32, DataError> {
    if value >= 0.0 && value <= (1 << 24) as f64 && value.fract() == 0.0 {
        Ok(value as u32)
    } else {
        Err(DataError::NotALabel {
            path: path.into(),
            index,
            value: value.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_type_decodes_in_both_byte_orders() {
        let cases: [(&[u8], Kind, f32); 8] = [
            (&[0xfe, 0xff], Kind::Int, -2.0),
            (&[0xfe, 0xff], Kind::Uint, 65534.0),
            (&[0xfe, 0xff, 0xff, 0xff], Kind::Int, -2.0),
            (&[0, 0, 0, 0, 1, 0, 0, 0], Kind::Uint, 4294967296.0),
            (&[0xff; 8], Kind::Int, -1.0),
            (&[0x00, 0xc0], Kind::Float, -2.0),
            (&1.5f32.to_le_bytes(), Kind::Float, 1.5),
            (&(-0.25f64).to_le_bytes(), Kind::Float, -0.25),
        ];
        for (le, kind, want) in cases {
            let be: Vec<u8> = le.iter().rev().copied().collect();
            assert_eq!(
                decode(
                    le,
                    Element {
                        kind,
                        size: le.len(),
                        big_endian: false
                    }
                ),
                want
            );
            assert_eq!(
                decode(
                    &be,
                    Element {
                        kind,
                        size: le.len(),
                        big_endian: true
                    }
                ),
                want
            );
        }
        assert_eq!(half_to_f32(0x3555), 0.333_251_95);
        assert_eq!(half_to_f32(0x0001), 2f32.powi(-24));
        assert!(half_to_f32(0x7e00).is_nan() && half_to_f32(0xfc00) == f32::NEG_INFINITY);
    }

    #[test]
    fn a_header_that_promises_terabytes_is_refused_before_any_allocation() {
        let e = Element {
            kind: Kind::Float,
            size: 8,
            big_endian: false,
        };
        for shape in [&[u64::MAX, u64::MAX][..], &[1 << 40, 1], &[0, u64::MAX]] {
            let r = read_array(Path::new("bomb.npy"), &mut std::io::empty(), shape, e);
            assert!(matches!(r, Err(DataError::TooLarge { .. })), "{shape:?}");
        }
        // Below the limit, but the bytes never come.
        let r = read_array(
            Path::new("short.npy"),
            &mut &[0u8; 100][..],
            &[1000, 1000],
            e,
        );
        assert!(r.unwrap_err().to_string().contains("ends inside the array"));
    }

    #[test]
    fn fortran_order_becomes_row_major() {
        let a = Array {
            shape: vec![2, 3],
            values: Values::U8(vec![1, 4, 2, 5, 3, 6]),
        };
        assert_eq!(
            a.into_row_major().values,
            Values::U8(vec![1, 2, 3, 4, 5, 6])
        );
    }

    #[test]
    fn labels_are_indices_or_one_hot_rows() {
        let labels = |shape: &[usize], v: &[f32]| {
            Array {
                shape: shape.to_vec(),
                values: Values::F32(v.to_vec()),
            }
            .into_labels(Path::new("y"))
        };
        assert_eq!(labels(&[3], &[0.0, 2.0, 1.0]).unwrap(), [0, 2, 1]);
        assert_eq!(labels(&[2, 1], &[3.0, 9.0]).unwrap(), [3, 9]);
        assert_eq!(
            labels(&[2, 3], &[0.0, 0.0, 1.0, 1.0, 0.0, 0.0]).unwrap(),
            [2, 0]
        );
        for (shape, v) in [
            (&[2][..], &[0.0, 0.5][..]),
            (&[1], &[-1.0]),
            (&[1], &[f32::NAN]),
            (&[1, 2], &[1.0, 1.0]),
        ] {
            let e = labels(shape, v).unwrap_err();
            assert!(matches!(e, DataError::NotALabel { .. }), "{e}");
        }
    }
}
