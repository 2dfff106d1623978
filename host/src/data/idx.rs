//! IDX, the format of MNIST: two zero bytes, a type, a rank, big-endian axis lengths, elements.
//!
//! Format: LeCun, Cortes, Burges, "The MNIST database of handwritten digits".

use std::io::Read;
use std::path::Path;

use super::array::{Array, Element, Kind, read_array};
use super::bytes::{damaged, read_error};
use super::load::{Raw, finish};
use super::{DataError, Dataset, LoadOptions};

/// Whether a file starts like IDX.
pub(super) fn starts_like_idx(head: &[u8]) -> bool {
    matches!(
        head,
        [0, 0, 0x08 | 0x09 | 0x0b | 0x0c | 0x0d | 0x0e, 1..=4, ..]
    )
}

/// Reads an array.
pub(super) fn read(path: &Path, reader: &mut dyn Read) -> Result<Array, DataError> {
    let mut magic = [0u8; 4];
    reader
        .read_exact(&mut magic)
        .map_err(|e| read_error(path, e))?;
    let (kind, size) = match magic {
        [0, 0, 0x08, _] => (Kind::Uint, 1),
        [0, 0, 0x09, _] => (Kind::Int, 1),
        [0, 0, 0x0b, _] => (Kind::Int, 2),
        [0, 0, 0x0c, _] => (Kind::Int, 4),
        [0, 0, 0x0d, _] => (Kind::Float, 4),
        [0, 0, 0x0e, _] => (Kind::Float, 8),
        _ => {
            return Err(damaged(
                path,
                format!("starts with {magic:?}, which is not IDX"),
            ));
        }
    };
    let shape = (0..magic[3])
        .map(|_| {
            let mut d = [0u8; 4];
            reader.read_exact(&mut d).map_err(|e| read_error(path, e))?;
            Ok(u32::from_be_bytes(d) as u64)
        })
        .collect::<Result<Vec<_>, DataError>>()?;
    read_array(
        path,
        reader,
        &shape,
        Element {
            kind,
            size,
            big_endian: true,
        },
    )
}

/// A dataset of two gzipped or plain IDX files in memory, for data that is carried in a program.
/// `name` stands for the path.
///
/// # Errors
/// As [`super::load`].
pub fn from_idx_bytes(
    name: &str,
    images: &[u8],
    labels: Option<&[u8]>,
    o: &LoadOptions,
) -> Result<Dataset, DataError> {
    let path = Path::new(name);
    let parse = |bytes: &[u8]| {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            read(path, &mut flate2::read::MultiGzDecoder::new(bytes))
        } else {
            read(path, &mut &bytes[..])
        }
    };
    let labels = labels.map(|l| parse(l)?.into_labels(path)).transpose()?;
    finish(
        path,
        Raw {
            samples: parse(images)?,
            labels,
            class_names: Vec::new(),
            nhwc: false,
        },
        o,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Labels, Values, load};
    use std::io::Write;

    fn gz(bytes: &[u8]) -> Vec<u8> {
        let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        e.write_all(bytes).unwrap();
        e.finish().unwrap()
    }

    fn images() -> Vec<u8> {
        let mut v = vec![0, 0, 8, 3];
        for d in [2u32, 1, 3] {
            v.extend(d.to_be_bytes());
        }
        v.extend([1, 2, 3, 4, 5, 6]);
        v
    }

    fn labels(n: u8) -> Vec<u8> {
        let mut v = vec![0, 0, 8, 1, 0, 0, 0, n];
        v.extend(0..n);
        v
    }

    #[test]
    fn labels_are_found_beside_the_images() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        file("t-images-idx3-ubyte.gz", &gz(&images()));
        let path = dir.path().join("t-images-idx3-ubyte.gz");
        let d = load(&path, &LoadOptions::default()).unwrap();
        assert_eq!((d.shape, d.labels.as_ref()), ([1, 3, 1], None));
        // Packed or not does not have to agree.
        file("t-labels-idx1-ubyte", &labels(2));
        let d = load(&path, &LoadOptions::default()).unwrap();
        assert_eq!(d.labels, Some(vec![0, 1]));
        assert_eq!(d.values, Values::U8(vec![1, 2, 3, 4, 5, 6]));
        let o = LoadOptions {
            labels: Labels::None,
            ..Default::default()
        };
        assert_eq!(load(&path, &o).unwrap().labels, None);
        file("other", &gz(&labels(3)));
        let o = LoadOptions {
            labels: Labels::File(dir.path().join("other")),
            ..Default::default()
        };
        let e = load(&path, &o).unwrap_err();
        assert!(e.to_string().ends_with("3 labels for 2 samples"), "{e}");
    }

    #[test]
    fn damaged_files_are_refused() {
        let packed = gz(&images());
        let cases = [
            &packed[..packed.len() - 4],
            &packed[..12],
            &images()[..20],
            &images()[..7],
            &[
                0, 0, 8, 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
            &[0, 0, 7, 1, 0, 0, 0, 0],
        ];
        for bytes in cases {
            let e = from_idx_bytes("bad.gz", bytes, None, &LoadOptions::default()).unwrap_err();
            assert!(e.to_string().starts_with("bad.gz: "), "{e}");
        }
        let mut flipped = packed;
        let last = flipped.len() - 6;
        flipped[last] ^= 1;
        assert!(from_idx_bytes("crc", &flipped, None, &LoadOptions::default()).is_err());
        let empty = [0, 0, 8, 2, 0, 0, 0, 0, 0, 0, 0, 9];
        let e = from_idx_bytes("empty", &empty, None, &LoadOptions::default()).unwrap_err();
        assert!(matches!(e, DataError::Empty { .. }));
    }
}
