//! Tensors whose values are known while importing: initializers and shape arithmetic.

use onnx_rs::ast::{DataLocation, DataType, TensorProto};

/// A number of shape arithmetic. The batch is never known: it stays a symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Int {
    /// A number.
    Known(i64),
    /// This many batches.
    Batch(i64),
}

/// Row-major values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Float(Vec<f32>),
    /// Integers and booleans.
    Int(Vec<Int>),
}

impl Data {
    pub(super) fn len(&self) -> usize {
        match self {
            Data::Float(v) => v.len(),
            Data::Int(v) => v.len(),
        }
    }

    /// The elements at these indices.
    pub(super) fn pick(&self, indices: impl Iterator<Item = usize>) -> Data {
        match self {
            Data::Float(v) => Data::Float(indices.map(|i| v[i]).collect()),
            Data::Int(v) => Data::Int(indices.map(|i| v[i]).collect()),
        }
    }
}

/// A known tensor with its ONNX shape (batch axis and all).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Constant {
    /// The initializer or value it comes from.
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    pub(super) data: Data,
}

impl Constant {
    /// A tensor of integers without symbols, or `None`.
    pub(super) fn known_ints(&self) -> Option<Vec<i64>> {
        match &self.data {
            Data::Int(v) => v
                .iter()
                .map(|i| {
                    if let Int::Known(k) = i {
                        Some(*k)
                    } else {
                        None
                    }
                })
                .collect(),
            Data::Float(_) => None,
        }
    }

    pub(super) fn floats(&self) -> Option<&[f32]> {
        match &self.data {
            Data::Float(v) => Some(v),
            Data::Int(_) => None,
        }
    }
}

/// The product of dimensions, if none is negative and the product fits.
pub(super) fn volume(dims: &[i64]) -> Option<usize> {
    dims.iter()
        .try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
}

/// Why a tensor of the file could not be decoded.
pub(super) enum DecodeError {
    External(String),
    Bad(String),
}

/// Decodes a tensor of the file. The data that are there bound what is allocated; claimed
/// dimensions are only compared with them.
pub(super) fn decode(t: &TensorProto<'_>, name: &str) -> Result<Constant, DecodeError> {
    use DecodeError::Bad;
    if t.data_location() == DataLocation::External || !t.external_data().is_empty() {
        let location = t
            .external_data()
            .iter()
            .find(|e| e.key == "location")
            .map_or("another file", |e| e.value);
        return Err(DecodeError::External(location.into()));
    }
    let dims = t.dims();
    let expected = volume(dims).ok_or_else(|| Bad(format!("claims the shape {dims:?}")))?;
    let raw = |size: usize| -> Result<Option<&[u8]>, DecodeError> {
        match t.as_raw() {
            Some(raw) if raw.len() % size != 0 => Err(Bad(format!(
                "holds {} bytes, which are not whole elements of {size} bytes",
                raw.len()
            ))),
            other => Ok(other),
        }
    };
    let small = || t.as_i32().map(|v| v.into_owned()).unwrap_or_default();
    let known = |v: Vec<i64>| Data::Int(v.into_iter().map(Int::Known).collect());
    let data = match t.data_type() {
        DataType::Float => {
            raw(4)?;
            Data::Float(t.as_f32().map(|v| v.into_owned()).unwrap_or_default())
        }
        DataType::Double => {
            raw(8)?;
            Data::Float(
                t.as_f64()
                    .map(|v| v.iter().map(|&x| x as f32).collect())
                    .unwrap_or_default(),
            )
        }
        DataType::Float16 => Data::Float(match raw(2)? {
            Some(raw) => raw
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| half(u16::from_le_bytes(*b)))
                .collect(),
            None => small().into_iter().map(|x| half(x as u16)).collect(),
        }),
        DataType::Bfloat16 => Data::Float(match raw(2)? {
            Some(raw) => raw
                .as_chunks::<2>()
                .0
                .iter()
                .map(|b| brain(u16::from_le_bytes(*b)))
                .collect(),
            None => small().into_iter().map(|x| brain(x as u16)).collect(),
        }),
        DataType::Int64 => {
            raw(8)?;
            known(t.as_i64().map(|v| v.into_owned()).unwrap_or_default())
        }
        DataType::Int32 => {
            raw(4)?;
            known(small().into_iter().map(i64::from).collect())
        }
        DataType::Bool | DataType::Uint8 => known(match raw(1)? {
            Some(raw) => raw.iter().map(|&b| i64::from(b)).collect(),
            None => small().into_iter().map(i64::from).collect(),
        }),
        DataType::Int8 => known(match raw(1)? {
            Some(raw) => raw.iter().map(|&b| i64::from(b as i8)).collect(),
            None => small().into_iter().map(i64::from).collect(),
        }),
        other => {
            return Err(Bad(format!(
                "has the element type {other:?}, which is not supported; export the network in float32"
            )));
        }
    };
    if data.len() != expected {
        return Err(Bad(format!(
            "claims the shape {dims:?} but holds {} elements; the file is damaged",
            data.len()
        )));
    }
    let shape = dims.iter().map(|&d| d as usize).collect();
    Ok(Constant {
        name: name.into(),
        shape,
        data,
    })
}

/// IEEE 754 binary16 to binary32.
fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 != 0 { -1.0f32 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
    sign * match exponent {
        0 => fraction * 2f32.powi(-24),
        31 if fraction == 0.0 => f32::INFINITY,
        31 => f32::NAN,
        e => (1.0 + fraction / 1024.0) * 2f32.powi(e - 15),
    }
}

/// bfloat16 is the upper half of binary32.
fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_decode_to_their_values() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x3555, 0.333_251_95),
            (0x0001, 5.960_464_5e-8),
            (0x7bff, 65504.0),
        ] {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7c01).is_nan());
        assert_eq!(half(0xfc00), f32::NEG_INFINITY);
        assert_eq!(brain(0x3f80), 1.0);
    }

    #[test]
    fn claimed_dimensions_allocate_nothing() {
        let t = TensorProto::from_f32("w", vec![1 << 40, 1 << 20], vec![1.0]);
        assert!(
            matches!(decode(&t, "w"), Err(DecodeError::Bad(r)) if r.contains("holds 1 elements"))
        );
        let t = TensorProto::from_f32("w", vec![1 << 40, 1 << 40], vec![1.0]);
        assert!(
            matches!(decode(&t, "w"), Err(DecodeError::Bad(r)) if r.contains("claims the shape"))
        );
        let t = TensorProto::from_f32("w", vec![-1], vec![1.0]);
        assert!(matches!(decode(&t, "w"), Err(DecodeError::Bad(_))));
    }

    #[test]
    fn raw_bytes_that_are_not_whole_elements_are_refused() {
        let t = TensorProto::from_raw("w", vec![1], DataType::Float, &[0, 0, 0, 0, 1]);
        assert!(
            matches!(decode(&t, "w"), Err(DecodeError::Bad(r)) if r.contains("whole elements"))
        );
    }
}
