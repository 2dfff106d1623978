//! From a path to a dataset: which reader, which labels, and the checks that all formats share.

use std::path::{Path, PathBuf};

use super::array::Array;
use super::bytes::{Opened, open};
use super::{DataError, DataSpec, Dataset, Labels, Layout, LoadOptions, Values};
use super::{csv, folder, idx, layout, npy, npz};

/// What a reader hands over.
pub(super) struct Raw {
    pub samples: Array,
    pub labels: Option<Vec<u32>>,
    pub class_names: Vec<String>,
    /// The axes are NHWC whatever the options say.
    pub nhwc: bool,
}

/// Reads a file or folder; the format is told by its content (text is CSV).
///
/// Values keep their type where a [`Values`] has it (uint8, int8, and bool as uint8); every other
/// integer and float becomes f32. Nothing is scaled. The axes become NHWC, see
/// [`LoadOptions::layout`].
///
/// # Errors
/// [`DataError`] for a file that is missing, damaged, ambiguous, empty, too large, holds NaN or
/// infinities, or whose labels do not fit its samples.
pub fn load(path: &Path, o: &LoadOptions) -> Result<Dataset, DataError> {
    let metadata = std::fs::metadata(path).map_err(|source| DataError::Io {
        path: path.into(),
        source,
    })?;
    let mut raw = if metadata.is_dir() {
        folder::read(path, o)?
    } else {
        let Opened { head, mut reader } = open(path)?;
        let plain = |samples, labels| Raw {
            samples,
            labels,
            class_names: Vec::new(),
            nhwc: false,
        };
        if head.starts_with(b"PK") {
            drop(reader);
            let (samples, labels) = npz::read(path, o)?;
            plain(samples, labels)
        } else if head.starts_with(npy::MAGIC) {
            plain(npy::read(path, &mut reader)?, None)
        } else if idx::starts_like_idx(&head) {
            plain(idx::read(path, &mut reader)?, None)
        } else if head.is_empty() {
            return Err(DataError::Empty { path: path.into() });
        } else if csv::could_be_text(path, &head) {
            csv::read(path, reader, o)?
        } else {
            return Err(DataError::UnknownFormat { path: path.into() });
        }
    };
    let labels_file = match &o.labels {
        Labels::File(file) => Some(file.clone()),
        Labels::Auto if raw.labels.is_none() => beside(path),
        _ => None,
    };
    if let Some(file) = labels_file {
        let (labels, names) = read_labels(&file, o)?;
        if labels.len() != raw.samples.shape.first().copied().unwrap_or(0) {
            let samples = raw.samples.shape.first().copied().unwrap_or(0);
            return Err(DataError::LabelCount {
                path: file,
                samples,
                labels: labels.len(),
            });
        }
        raw.labels = Some(labels);
        raw.class_names = names;
    }
    if o.labels == Labels::None {
        raw.labels = None;
    }
    finish(path, raw, o)
}

/// Reads what [`DataSpec`] names; its range goes before that of the options.
///
/// # Errors
/// As [`load`], and [`DataError::Range`].
pub fn load_spec(spec: &DataSpec, o: &LoadOptions) -> Result<Dataset, DataError> {
    let options = LoadOptions {
        take: spec.take.or(o.take),
        ..o.clone()
    };
    load(&spec.path, &options)
}

/// The checks and conversions that all formats share.
pub(super) fn finish(path: &Path, raw: Raw, o: &LoadOptions) -> Result<Dataset, DataError> {
    let Raw {
        samples,
        labels,
        class_names,
        nhwc,
    } = raw;
    let n = samples.shape.first().copied().unwrap_or(0);
    if samples.values.is_empty() {
        return Err(DataError::Empty { path: path.into() });
    }
    if let Values::F32(v) = &samples.values
        && let Some(i) = v.iter().position(|x| !x.is_finite())
    {
        let per_sample = (v.len() / n.max(1)).max(1);
        let (sample, element) = (i / per_sample, i % per_sample);
        return Err(DataError::NotFinite {
            path: path.into(),
            sample,
            element,
            value: v[i] as f64,
        });
    }
    if let Some(l) = &labels
        && l.len() != n
        // An array without axes is no set of samples at all, as `arrange` says.
        && !samples.shape.is_empty()
    {
        return Err(DataError::LabelCount {
            path: path.into(),
            samples: n,
            labels: l.len(),
        });
    }
    let layout = if nhwc { Layout::Nhwc } else { o.layout };
    let (shape, values) = layout::arrange(path, samples, layout, o.expected)?;
    let mut d = Dataset {
        source: path.display().to_string(),
        shape,
        values,
        labels,
        class_names,
    };
    if let Some(seed) = o.shuffle {
        d = d.shuffled(seed);
    }
    match o.take {
        Some(take) => d.take(take),
        None => Ok(d),
    }
}

/// The labels' file beside a samples' file, where there is one: `images-idx3` and `labels-idx1`,
/// or a `.npy` file whose name says `images` or `x`.
fn beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let mut candidates = Vec::new();
    if name.contains("images") {
        let labels = name.replacen("images", "labels", 1);
        for rank in ["idx2", "idx3", "idx4"] {
            candidates.push(labels.replacen(rank, "idx1", 1));
        }
        candidates.push(labels);
    }
    if let Some(stem) = name.strip_suffix(".npy") {
        let words: Vec<&str> = stem.split(['_', '-']).collect();
        if let Some(i) = words.iter().position(|w| *w == "x" || *w == "X") {
            let at: usize = words[..i].iter().map(|w| w.len() + 1).sum();
            let y = if words[i] == "x" { "y" } else { "Y" };
            candidates.push(format!("{}{y}{}.npy", &stem[..at], &stem[at + 1..]));
        }
    }
    let packed: Vec<String> = candidates
        .iter()
        .map(|c| {
            c.strip_suffix(".gz")
                .map_or_else(|| format!("{c}.gz"), String::from)
        })
        .collect();
    candidates
        .into_iter()
        .chain(packed)
        .map(|c| path.with_file_name(c))
        .find(|p| p != path && p.is_file())
}

/// Labels from a file of their own, with the class names where labels are names.
fn read_labels(path: &Path, o: &LoadOptions) -> Result<(Vec<u32>, Vec<String>), DataError> {
    let Opened { head, mut reader } = open(path)?;
    if head.starts_with(npy::MAGIC) {
        Ok((npy::read(path, &mut reader)?.into_labels(path)?, Vec::new()))
    } else if idx::starts_like_idx(&head) {
        Ok((idx::read(path, &mut reader)?.into_labels(path)?, Vec::new()))
    } else if csv::could_be_text(path, &head) {
        csv::read_labels(path, reader, o)
    } else {
        Err(DataError::Malformed {
            path: path.into(),
            what: "not a labels file".into(),
            help: "labels come as .npy, IDX (.gz too) or text with one label a line".into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::npy::written;
    use super::*;
    use crate::data::overlap;

    fn shared(name: &str) -> Option<PathBuf> {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(name);
        if !path.exists() {
            println!(
                "skipped: {} is not there (the data pack lies beside the repository)",
                path.display()
            );
            return None;
        }
        Some(path)
    }

    #[test]
    fn npy_pairs_find_each_other() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        file("x_test.npy", &written("<f4", false, "(2, 1)", &[0; 8]));
        let path = dir.path().join("x_test.npy");
        assert_eq!(load(&path, &LoadOptions::default()).unwrap().labels, None);
        file("y_test.npy", &written("|u1", false, "(2,)", &[5, 6]));
        assert_eq!(
            load(&path, &LoadOptions::default()).unwrap().labels,
            Some(vec![5, 6])
        );
        file("classes.txt", b"cat\ndog\n");
        let o = LoadOptions {
            labels: Labels::File(dir.path().join("classes.txt")),
            ..Default::default()
        };
        let d = load(&path, &o).unwrap();
        assert_eq!((d.labels.unwrap(), d.class_names.len()), (vec![0, 1], 2));
        let o = LoadOptions {
            classes: vec!["dog".into(), "cat".into()],
            ..o
        };
        assert_eq!(load(&path, &o).unwrap().labels, Some(vec![1, 0]));
    }

    #[test]
    fn nan_is_refused_with_its_place() {
        let file = tempfile::Builder::new().suffix(".npy").tempfile().unwrap();
        let data: Vec<u8> = [0.0f32, 1.0, 2.0, f32::NAN]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        std::fs::write(file.path(), written("<f4", false, "(2, 2)", &data)).unwrap();
        let e = load(file.path(), &LoadOptions::default()).unwrap_err();
        assert!(
            matches!(
                e,
                DataError::NotFinite {
                    sample: 1,
                    element: 1,
                    ..
                }
            ),
            "{e}"
        );
    }

    #[test]
    fn missing_empty_and_foreign_files_are_refused() {
        let e = load(Path::new("/no/such/file.npz"), &LoadOptions::default()).unwrap_err();
        assert!(e.to_string().contains("/no/such/file.npz"));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(
            load(file.path(), &LoadOptions::default()),
            Err(DataError::Empty { .. })
        ));
        std::fs::write(file.path(), [0x7f, b'E', b'L', b'F', 0, 0, 1, 2, 3]).unwrap();
        let e = load(file.path(), &LoadOptions::default()).unwrap_err();
        assert!(matches!(e, DataError::UnknownFormat { .. }), "{e}");
    }

    #[test]
    fn fashion_mnist_loads_and_its_parts_do_not_overlap() {
        let Some(path) = shared("fashion-mnist/t10k-images-idx3-ubyte.gz") else {
            return;
        };
        let all = load(&path, &LoadOptions::default()).unwrap();
        assert_eq!((all.len(), all.shape), (10_000, [28, 28, 1]));
        let labels = all.checked_labels(10, "m", "accuracy").unwrap();
        assert!((0..10).all(|c| labels.iter().filter(|&&l| l == c).count() == 1000));
        let take = |range: &str| {
            let o = LoadOptions {
                take: Some(range.parse().unwrap()),
                ..Default::default()
            };
            load(&path, &o).unwrap()
        };
        let (repair, holdout) = (take("0..2500"), take("2500..5000"));
        assert_eq!(repair.labels.as_deref(), Some(&labels[..2500]));
        assert_eq!(overlap(&repair, &take("2499..2600")).first, Some((2499, 0)));
        assert_eq!(overlap(&repair, &holdout).count, 0);
        assert_ne!(repair.fingerprint(), holdout.fingerprint());
        assert!(
            load(
                &path,
                &LoadOptions {
                    take: Some("0..10001".parse().unwrap()),
                    ..Default::default()
                }
            )
            .is_err()
        );
    }

    #[test]
    fn npz_files_of_the_data_pack_load() {
        if let Some(path) = shared("kws_mfcc_500.npz") {
            let d = load(
                &path,
                &LoadOptions {
                    expected: Some([49, 10, 1]),
                    ..Default::default()
                },
            )
            .unwrap();
            assert_eq!(
                (d.len(), d.shape, d.values.dtype()),
                (500, [49, 10, 1], "int8")
            );
            assert!(d.checked_labels(12, "m", "accuracy").is_ok());
        }
        if let Some(path) = shared("cifar10_train_2000.npz") {
            let d = load(&path, &LoadOptions::default()).unwrap();
            assert_eq!(
                (d.len(), d.shape, d.values.dtype()),
                (2000, [32, 32, 3], "uint8")
            );
        }
        if let Some(path) = shared("golden/fmnist_cnn_float_logits.npz") {
            let d = load(&path, &LoadOptions::default()).unwrap();
            assert_eq!((d.len(), d.shape, d.labels), (1000, [1, 1, 10], None));
        }
    }

    #[test]
    fn tables_of_the_data_pack_load() {
        for (name, n, features, classes) in [
            ("iris.csv", 150, 4, 3),
            ("breast_cancer.csv", 569, 30, 2),
            ("wine_data.csv", 178, 13, 3),
            ("digits.csv.gz", 1797, 64, 10),
        ] {
            let Some(path) = shared(&format!("tabular/{name}")) else {
                return;
            };
            let d = load(&path, &LoadOptions::default()).unwrap();
            assert_eq!((d.len(), d.shape), (n, [1, 1, features]), "{name}");
            assert!(d.checked_labels(classes, "m", "accuracy").is_ok(), "{name}");
        }
        let Some(path) = shared("tabular/diabetes_data_raw.csv.gz") else {
            return;
        };
        let o = LoadOptions {
            label_column: Some("none".into()),
            ..Default::default()
        };
        assert_eq!(load(&path, &o).unwrap().shape, [1, 1, 10]);
    }
}
