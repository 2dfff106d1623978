//! NumPy's `.npz`: a zip archive of `.npy` files.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use zip::ZipArchive;

use super::array::Array;
use super::bytes::{damaged, read_error};
use super::npy::{self, Header};
use super::{DataError, Labels, LoadOptions};

/// Names that samples go by, in the order of preference only for messages: two of them in one
/// archive are ambiguous.
const X_NAMES: [&str; 9] = [
    "images", "x", "input", "inputs", "data", "features", "x_test", "x_train", "samples",
];
/// Names that labels go by.
const Y_NAMES: [&str; 9] = [
    "labels", "label", "y", "y_labels", "target", "targets", "classes", "y_test", "y_train",
];

/// What follows an array's name in the archive.
const EXTENSION: &str = ".npy";

/// Samples and labels of an archive.
pub(super) fn read(path: &Path, o: &LoadOptions) -> Result<(Array, Option<Vec<u32>>), DataError> {
    let file = File::open(path).map_err(|source| DataError::Io {
        path: path.into(),
        source,
    })?;
    let mut zip = ZipArchive::new(BufReader::new(file)).map_err(|e| read_error(path, e.into()))?;
    let names: Vec<String> = zip
        .file_names()
        .filter_map(|n| n.strip_suffix(EXTENSION))
        .map(String::from)
        .collect();
    let mut arrays: Vec<(String, Header)> = Vec::new();
    let mut unreadable: Vec<(String, DataError)> = Vec::new();
    for name in names {
        let header = with_entry(path, &mut zip, &name, |r| npy::read_header(path, r));
        match header {
            Ok(h) => arrays.push((name, h)),
            // An array of strings or objects only matters when it is asked for.
            Err(e @ DataError::Malformed { .. })
                if o.x_key.as_ref() != Some(&name) && o.y_key.as_ref() != Some(&name) =>
            {
                unreadable.push((name, e));
            }
            Err(e) => return Err(e),
        }
    }
    arrays.sort_by(|a, b| a.0.cmp(&b.0));

    let x = pick(path, &arrays, &o.x_key, &X_NAMES, "samples", "--x-key")?;
    let x = match x {
        Some(name) => name,
        None => match unreadable
            .into_iter()
            .find(|(name, _)| is_one_of(name, &X_NAMES))
        {
            Some((_, why)) => return Err(why),
            None => only_tensor(path, &arrays)?,
        },
    };
    let y = match o.labels {
        Labels::Auto => pick(path, &arrays, &o.y_key, &Y_NAMES, "labels", "--y-key")?,
        _ => None,
    };
    if y.as_ref() == Some(&x) {
        return Err(key_error(
            path,
            &arrays,
            format!("{x:?} cannot be samples and labels at once"),
            "--x-key",
        ));
    }
    let samples = with_entry(path, &mut zip, &x, |r| npy::read(path, r))?;
    let labels = match y {
        Some(y) => Some(with_entry(path, &mut zip, &y, |r| npy::read(path, r))?.into_labels(path)?),
        None => None,
    };
    Ok((samples, labels))
}

fn is_one_of(name: &str, usual: &[&str]) -> bool {
    usual.contains(&name.to_lowercase().as_str())
}

fn with_entry<T>(
    path: &Path,
    zip: &mut ZipArchive<BufReader<File>>,
    name: &str,
    read: impl FnOnce(&mut dyn std::io::Read) -> Result<T, DataError>,
) -> Result<T, DataError> {
    let mut entry = zip
        .by_name(&format!("{name}{EXTENSION}"))
        .map_err(|e| damaged(path, format!("its entry {name:?} cannot be read ({e})")))?;
    read(&mut entry).map_err(|e| match e {
        DataError::Malformed { path, what, help } => DataError::Malformed {
            path,
            what: format!("array {name:?}: {what}"),
            help,
        },
        e => e,
    })
}

/// The array that a key or one of the usual names says; `None` where there is no such name.
fn pick(
    path: &Path,
    arrays: &[(String, Header)],
    key: &Option<String>,
    usual: &[&str],
    what: &str,
    option: &'static str,
) -> Result<Option<String>, DataError> {
    if let Some(key) = key {
        return match arrays.iter().find(|(n, _)| n == key) {
            Some(_) => Ok(Some(key.clone())),
            None => Err(key_error(
                path,
                arrays,
                format!("no array {key:?} for the {what}"),
                option,
            )),
        };
    }
    let hits: Vec<&String> = arrays
        .iter()
        .map(|(n, _)| n)
        .filter(|n| is_one_of(n, usual))
        .collect();
    match hits[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.clone())),
        _ => Err(key_error(
            path,
            arrays,
            format!("several arrays could be the {what}"),
            option,
        )),
    }
}

/// The only array with an axis besides that of the samples.
fn only_tensor(path: &Path, arrays: &[(String, Header)]) -> Result<String, DataError> {
    let mut tensors = arrays.iter().filter(|(_, h)| h.shape.len() >= 2);
    match (tensors.next(), tensors.next()) {
        (Some((name, _)), None) => Ok(name.clone()),
        _ => Err(key_error(
            path,
            arrays,
            "no array has a usual name for samples (images, x, input)".into(),
            "--x-key",
        )),
    }
}

fn key_error(
    path: &Path,
    arrays: &[(String, Header)],
    what: String,
    option: &'static str,
) -> DataError {
    let keys = arrays
        .iter()
        .map(|(n, h)| format!("{n} {:?}", h.shape))
        .collect();
    DataError::Key {
        path: path.into(),
        what,
        keys,
        option,
    }
}

#[cfg(test)]
mod tests {
    use super::super::npy::written;
    use super::*;
    use crate::data::{Dataset, Values, load};
    use std::io::Write;

    /// Writes an archive; entries are named arrays' bytes.
    fn archive(entries: &[(&str, Vec<u8>)]) -> tempfile::NamedTempFile {
        let file = tempfile::Builder::new().suffix(".npz").tempfile().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, bytes) in entries {
            zip.start_file(format!("{name}{EXTENSION}"), Default::default())
                .unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.finish().unwrap();
        file
    }

    fn two(x: &str, y: &str) -> Vec<(&'static str, Vec<u8>)> {
        let leak = |s: &str| -> &'static str { Box::leak(s.to_string().into_boxed_str()) };
        vec![
            (
                leak(x),
                written("|u1", false, "(2, 1, 3)", &[1, 2, 3, 4, 5, 6]),
            ),
            (
                leak(y),
                written(
                    "<i8",
                    false,
                    "(2,)",
                    &[7, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
                ),
            ),
        ]
    }

    fn open(entries: &[(&str, Vec<u8>)], o: &LoadOptions) -> Result<Dataset, DataError> {
        load(archive(entries).path(), o)
    }

    #[test]
    fn the_usual_names_need_no_keys() {
        for (x, y) in [
            ("images", "labels"),
            ("x", "y"),
            ("input", "y_labels"),
            ("X", "Y"),
            ("mfcc", "label"),
        ] {
            let d = open(&two(x, y), &LoadOptions::default()).unwrap();
            assert_eq!(d.labels, Some(vec![7, 1]), "{x} {y}");
            assert_eq!(
                (d.shape, d.values),
                ([1, 3, 1], Values::U8(vec![1, 2, 3, 4, 5, 6]))
            );
        }
    }

    #[test]
    fn keys_decide_and_an_ambiguous_archive_lists_them() {
        let mut entries = two("images", "labels");
        entries.push(("input", written("<f4", false, "(2, 1)", &[0; 8])));
        let e = open(&entries, &LoadOptions::default()).unwrap_err();
        assert!(
            e.to_string()
                .contains("images [2, 1, 3], input [2, 1], labels [2]"),
            "{e}"
        );
        assert_eq!(e.help(), "name the array with --x-key NAME");
        let keys = |x: &str, y: Option<&str>| LoadOptions {
            x_key: Some(x.into()),
            y_key: y.map(String::from),
            ..Default::default()
        };
        let d = open(&entries, &keys("input", None)).unwrap();
        assert_eq!(d.values, Values::F32(vec![0.0, 0.0]));
        let e = open(&entries, &keys("input", Some("input"))).unwrap_err();
        assert!(e.to_string().contains("samples and labels at once"));
        let e = open(&entries, &keys("absent", None)).unwrap_err();
        assert!(
            e.to_string().contains("no array \"absent\"") && e.to_string().contains("labels [2]"),
            "{e}"
        );
        let e = open(
            &[("a", written("<f4", false, "(0,)", &[]))],
            &LoadOptions::default(),
        )
        .unwrap_err();
        assert!(matches!(e, DataError::Key { .. }));
    }

    #[test]
    fn samples_of_a_type_that_has_no_numbers_are_named_with_it() {
        let entries = [
            ("x", written("<c16", false, "(1, 1)", &[0; 16])),
            ("y", written("|u1", false, "(1,)", &[0])),
        ];
        let e = open(&entries, &LoadOptions::default()).unwrap_err();
        assert!(
            e.to_string()
                .contains("array \"x\": elements of NumPy type \"<c16\""),
            "{e}"
        );
        let e = open(&[], &LoadOptions::default()).unwrap_err();
        assert!(e.to_string().contains("it holds no arrays"), "{e}");
    }

    #[test]
    fn damage_anywhere_in_the_archive_is_noticed() {
        let file = archive(&two("x", "y"));
        let good = std::fs::read(file.path()).unwrap();
        let damaged = tempfile::Builder::new().suffix(".npz").tempfile().unwrap();
        for cut in [4, good.len() / 2, good.len() - 5] {
            std::fs::write(damaged.path(), &good[..cut]).unwrap();
            let e = load(damaged.path(), &LoadOptions::default()).unwrap_err();
            assert!(
                matches!(e, DataError::Malformed { .. }),
                "cut at {cut}: {e}"
            );
        }
        // A flipped bit anywhere in the samples' compressed bytes never yields other samples.
        let mut zip = ZipArchive::new(File::open(file.path()).unwrap()).unwrap();
        let entry = zip.by_name("x.npy").unwrap();
        let (start, size) = (
            entry.data_start() as usize,
            entry.compressed_size() as usize,
        );
        assert!(size > 20);
        for bit in 8 * start..8 * (start + size) {
            let mut flipped = good.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(damaged.path(), &flipped).unwrap();
            // Padding bits of the compressed stream may flip without changing what it says.
            let same = |d: Dataset| {
                (d.values, d.labels) == (Values::U8(vec![1, 2, 3, 4, 5, 6]), Some(vec![7, 1]))
            };
            let ok = load(damaged.path(), &LoadOptions::default()).map_or(true, same);
            assert!(ok, "bit {bit}");
        }
    }
}
