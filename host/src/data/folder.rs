//! A folder with one sub-folder of images a class.

use std::path::{Path, PathBuf};

use image::{DynamicImage, ImageReader, Limits, imageops::FilterType};
use rayon::prelude::*;

use super::array::{Array, checked_shape};
use super::load::Raw;
use super::{DataError, LoadOptions, Values};

/// Wider or higher images are refused.
const MAX_SIDE: u32 = 8192;

/// Reads `folder/class/*.png` (jpeg and bmp too); the classes are in the order of their names, or
/// of [`LoadOptions::classes`]. Images directly in the folder have no labels.
pub(super) fn read(path: &Path, o: &LoadOptions) -> Result<Raw, DataError> {
    let (folders, images) = listing(path)?;
    let wrong = |what: String, help: &str| DataError::Malformed {
        path: path.into(),
        what,
        help: help.into(),
    };
    let mut files = Vec::new();
    let mut labels = None;
    let mut class_names = Vec::new();
    match (folders.is_empty(), images.is_empty()) {
        (true, true) => return Err(DataError::Empty { path: path.into() }),
        (false, false) => {
            return Err(wrong(
                "holds images beside folders of images".into(),
                "put every image into its class's folder",
            ));
        }
        (true, false) => files = images,
        (false, true) => {
            let names = folders.iter().map(|f| name(f)).collect::<Vec<_>>();
            class_names = if o.classes.is_empty() {
                names.clone()
            } else {
                o.classes.clone()
            };
            let mut ids = Vec::new();
            for (folder, name) in folders.iter().zip(&names) {
                let Some(id) = class_names.iter().position(|c| c == name) else {
                    return Err(DataError::UnknownClass {
                        path: folder.clone(),
                        name: name.clone(),
                        known: class_names,
                    });
                };
                let (inner, images) = listing(folder)?;
                if let Some(inner) = inner.first() {
                    return Err(wrong(
                        format!("class {name:?} holds a folder ({})", inner.display()),
                        "one level of folders, one a class; to read a train or test part, give its own path",
                    ));
                }
                ids.extend(std::iter::repeat_n(id as u32, images.len()));
                files.extend(images);
            }
            labels = Some(ids);
        }
    }
    let Some(first) = files.first() else {
        return Err(DataError::Empty { path: path.into() });
    };

    let sample = open(first, o.resize)?;
    let (h, w) = (sample.height() as u64, sample.width() as u64);
    checked_shape(path, &[files.len() as u64, h, w, 4], 1)?;
    let decoded = files
        .par_iter()
        .map(|f| open(f, o.resize))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(i) = decoded
        .iter()
        .position(|d| (d.height() as u64, d.width() as u64) != (h, w))
    {
        return Err(DataError::Malformed {
            path: files[i].clone(),
            what: format!(
                "is {}x{} (height x width), but {} is {h}x{w}",
                decoded[i].height(),
                decoded[i].width(),
                first.display()
            ),
            help: "all images need one size; scale them with --resize HxW".into(),
        });
    }
    let channels = match o.expected {
        Some([_, _, c @ (1 | 3)]) => c,
        _ if decoded.iter().all(|d| !d.color().has_color()) => 1,
        _ => 3,
    };
    let values: Vec<u8> = decoded
        .into_iter()
        .flat_map(|d| {
            if channels == 1 {
                d.into_luma8().into_raw()
            } else {
                d.into_rgb8().into_raw()
            }
        })
        .collect();
    let samples = Array {
        shape: vec![files.len(), h as usize, w as usize, channels],
        values: Values::U8(values),
    };
    Ok(Raw {
        samples,
        labels,
        class_names,
        nhwc: true,
    })
}

fn name(path: &Path) -> String {
    path.file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Sub-folders and images, sorted by name; what the system hides is left out, and any other file
/// is an error.
fn listing(path: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let io = |source| DataError::Io {
        path: path.into(),
        source,
    };
    let (mut folders, mut images) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(path).map_err(io)? {
        let entry = entry.map_err(io)?.path();
        let lower = name(&entry).to_lowercase();
        if lower.starts_with('.') || lower == "thumbs.db" || lower == "desktop.ini" {
            continue;
        }
        if entry.is_dir() {
            folders.push(entry);
        } else if [".png", ".jpg", ".jpeg", ".bmp"]
            .iter()
            .any(|e| lower.ends_with(e))
        {
            images.push(entry);
        } else {
            return Err(DataError::Malformed {
                path: entry,
                what: "is not a png, jpeg or bmp image".into(),
                help: "a folder of data holds images, one sub-folder a class, and nothing else"
                    .into(),
            });
        }
    }
    folders.sort();
    images.sort();
    Ok((folders, images))
}

fn open(path: &Path, resize: Option<[usize; 2]>) -> Result<DynamicImage, DataError> {
    let io = |source| DataError::Io {
        path: path.into(),
        source,
    };
    let mut reader = ImageReader::open(path)
        .map_err(io)?
        .with_guessed_format()
        .map_err(io)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    reader.limits(limits);
    let image = reader.decode().map_err(|e| DataError::Malformed {
        path: path.into(),
        what: format!("cannot be decoded ({e})"),
        help: "the image is damaged, too large, or not what its name says: replace or remove it"
            .into(),
    })?;
    Ok(match resize {
        Some([h, w]) if (image.height(), image.width()) != (h as u32, w as u32) => {
            image.resize_exact(w as u32, h as u32, FilterType::Triangle)
        }
        _ => image,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::load;
    use image::{GrayImage, Luma, Rgb, RgbImage};

    fn grey(dir: &Path, name: &str, value: u8, w: u32, h: u32) {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        GrayImage::from_pixel(w, h, Luma([value]))
            .save(dir.join(name))
            .unwrap();
    }

    #[test]
    fn sub_folders_are_classes_in_the_order_of_their_names() {
        let dir = tempfile::tempdir().unwrap();
        grey(dir.path(), "dog/b.png", 3, 2, 1);
        grey(dir.path(), "cat/a.png", 2, 2, 1);
        grey(dir.path(), "cat/.hidden.png", 9, 2, 1);
        grey(dir.path(), "cat/0.PNG", 1, 2, 1);
        let d = load(dir.path(), &LoadOptions::default()).unwrap();
        assert_eq!((d.shape, d.labels), ([1, 2, 1], Some(vec![0, 0, 1])));
        assert_eq!(d.values, Values::U8(vec![1, 1, 2, 2, 3, 3]));
        assert_eq!(d.class_names, ["cat", "dog"]);
        let o = LoadOptions {
            classes: vec!["dog".into(), "bird".into(), "cat".into()],
            ..Default::default()
        };
        assert_eq!(load(dir.path(), &o).unwrap().labels, Some(vec![2, 2, 0]));
        let o = LoadOptions {
            classes: vec!["dog".into()],
            ..Default::default()
        };
        assert!(matches!(
            load(dir.path(), &o),
            Err(DataError::UnknownClass { .. })
        ));
        let d = load(&dir.path().join("cat"), &LoadOptions::default()).unwrap();
        assert_eq!((d.len(), d.labels), (2, None));
    }

    #[test]
    fn colour_follows_the_images_or_the_model() {
        let dir = tempfile::tempdir().unwrap();
        grey(dir.path(), "a/0.bmp", 7, 1, 1);
        RgbImage::from_pixel(1, 1, Rgb([10, 20, 30]))
            .save(dir.path().join("a/1.png"))
            .unwrap();
        let d = load(dir.path(), &LoadOptions::default()).unwrap();
        assert_eq!(
            (d.shape, d.values),
            ([1, 1, 3], Values::U8(vec![7, 7, 7, 10, 20, 30]))
        );
        let o = LoadOptions {
            expected: Some([1, 1, 1]),
            ..Default::default()
        };
        assert_eq!(load(dir.path(), &o).unwrap().values.len(), 2);
    }

    #[test]
    fn sizes_must_agree_unless_scaling_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        grey(dir.path(), "a/0.png", 7, 4, 2);
        grey(dir.path(), "a/1.png", 9, 2, 2);
        let e = load(dir.path(), &LoadOptions::default()).unwrap_err();
        assert!(
            e.to_string().contains("1.png: is 2x2 (height x width)")
                && e.help().contains("--resize"),
            "{e}"
        );
        let o = LoadOptions {
            resize: Some([2, 4]),
            ..Default::default()
        };
        let d = load(dir.path(), &o).unwrap();
        assert_eq!(
            (d.shape, d.values),
            ([2, 4, 1], Values::U8([[7; 8], [9; 8]].concat()))
        );
    }

    #[test]
    fn anything_but_images_is_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            load(dir.path(), &LoadOptions::default()),
            Err(DataError::Empty { .. })
        ));
        grey(dir.path(), "a/0.png", 7, 1, 1);
        let refused = |want: &str| {
            let e = load(dir.path(), &LoadOptions::default()).unwrap_err();
            assert!(e.to_string().contains(want), "{e}");
        };
        std::fs::write(dir.path().join("a/notes.txt"), "x").unwrap();
        refused("notes.txt: is not a png");
        std::fs::remove_file(dir.path().join("a/notes.txt")).unwrap();
        std::fs::write(dir.path().join("a/1.png"), "not a png").unwrap();
        refused("1.png: cannot be decoded");
        std::fs::remove_file(dir.path().join("a/1.png")).unwrap();
        std::fs::create_dir(dir.path().join("a/deeper")).unwrap();
        refused("holds a folder");
        std::fs::remove_dir(dir.path().join("a/deeper")).unwrap();
        grey(dir.path(), "2.png", 7, 1, 1);
        refused("images beside folders");
    }
}
