//! How data files are read.

use std::{fmt, path::PathBuf, str::FromStr};

use super::DataError;

/// Order of the axes in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// Whichever fits the model's input shape (or, without a model, puts 1, 3 or 4 channels last).
    #[default]
    Auto,
    /// Channels last: height, width, channels.
    Nhwc,
    /// Channels first: channels, height, width.
    Nchw,
}

impl FromStr for Layout {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "auto" => Ok(Layout::Auto),
            "nhwc" => Ok(Layout::Nhwc),
            "nchw" => Ok(Layout::Nchw),
            _ => Err(format!("{s:?} is none of auto, nhwc, nchw")),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Layout::Auto => "auto",
            Layout::Nhwc => "nhwc",
            Layout::Nchw => "nchw",
        })
    }
}

/// Where labels come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Labels {
    /// Where the format puts them: an array of the archive, a column, a folder's name, or a file
    /// beside the samples' (`images-idx3` and `labels-idx1`, `x_test.npy` and `y_test.npy`).
    #[default]
    Auto,
    /// Nowhere: the samples have none.
    None,
    /// A file of their own: `.npy`, IDX, or text with one label a line.
    File(PathBuf),
}

/// A range of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Take {
    /// First sample.
    pub start: usize,
    /// One past the last sample; `None` for all that follow.
    pub end: Option<usize>,
}

impl FromStr for Take {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let (a, b) = s
            .split_once("..")
            .ok_or_else(|| format!("{s:?} is not START..END"))?;
        let number = |t: &str| {
            t.replace('_', "")
                .parse::<usize>()
                .map_err(|_| format!("{t:?} in {s:?} is not a whole number"))
        };
        let start = if a.is_empty() { 0 } else { number(a)? };
        let end = if b.is_empty() { None } else { Some(number(b)?) };
        if end.is_some_and(|e| e <= start) {
            return Err(format!("{s:?} is an empty range"));
        }
        Ok(Take { start, end })
    }
}

impl fmt::Display for Take {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}..", self.start)?;
        self.end.map_or(Ok(()), |e| write!(f, "{e}"))
    }
}

/// How to read a file. The default reads what the file says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoadOptions {
    /// Name of the samples' array in an .npz archive.
    pub x_key: Option<String>,
    /// Name of the labels' array in an .npz archive.
    pub y_key: Option<String>,
    /// Where labels come from.
    pub labels: Labels,
    /// The labels' column of a CSV file: a name from its header, an index from 0, or `none`.
    pub label_column: Option<String>,
    /// Order of the axes.
    pub layout: Layout,
    /// Height, width, channels that the model takes: decides between layouts.
    pub expected: Option<[usize; 3]>,
    /// Height and width to scale the images of a folder to.
    pub resize: Option<[usize; 2]>,
    /// Class names in the order of the model's outputs, where labels are names.
    pub classes: Vec<String>,
    /// Put the samples into the order of this seed before `take` cuts.
    pub shuffle: Option<u64>,
    /// Keep only these samples.
    pub take: Option<Take>,
}

/// A path and, after a colon, the range of samples to take: `images.npz:0..2500`. The form
/// `images.npz[0..2500]` means the same.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSpec {
    /// The file or folder.
    pub path: PathBuf,
    /// Which samples.
    pub take: Option<Take>,
}

impl FromStr for DataSpec {
    type Err = DataError;
    fn from_str(s: &str) -> Result<Self, DataError> {
        let whole = || {
            Ok(DataSpec {
                path: s.into(),
                take: None,
            })
        };
        let parts = match s.strip_suffix(']') {
            Some(rest) => rest.rsplit_once('['),
            None => s.rsplit_once(':'),
        };
        // A colon or bracket that no range follows belongs to the path (as in C:\data).
        let Some((path, range)) =
            parts.filter(|(_, r)| r.contains("..") && !r.contains(['/', '\\']))
        else {
            return whole();
        };
        if path.is_empty() {
            return Err(DataError::Spec {
                spec: s.into(),
                what: "no path before the range".into(),
            });
        }
        let take = range.parse().map_err(|what| DataError::Spec {
            spec: s.into(),
            what,
        })?;
        Ok(DataSpec {
            path: path.into(),
            take: Some(take),
        })
    }
}

impl fmt::Display for DataSpec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        self.take.map_or(Ok(()), |t| write!(f, ":{t}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_may_follow_the_path_in_either_form() {
        let want = DataSpec {
            path: "a/b.npz".into(),
            take: Some(Take {
                start: 10,
                end: Some(2500),
            }),
        };
        assert_eq!("a/b.npz:10..2_500".parse::<DataSpec>().unwrap(), want);
        assert_eq!("a/b.npz[10..2500]".parse::<DataSpec>().unwrap(), want);
        let open: DataSpec = "x:5..".parse().unwrap();
        assert_eq!(
            open.take,
            Some(Take {
                start: 5,
                end: None
            })
        );
        let open: DataSpec = "x:..5".parse().unwrap();
        assert_eq!(
            open.take,
            Some(Take {
                start: 0,
                end: Some(5)
            })
        );
        assert_eq!(want.to_string(), "a/b.npz:10..2500");
    }

    #[test]
    fn colons_and_dots_of_ordinary_paths_are_left_alone() {
        for path in [
            "C:\\data\\x.npz",
            "../x.npz",
            "a:b/../x.npz",
            "dir/..",
            "plain",
            "x[1].npz",
        ] {
            assert_eq!(
                path.parse::<DataSpec>().unwrap(),
                DataSpec {
                    path: path.into(),
                    take: None
                },
                "{path}"
            );
        }
    }

    #[test]
    fn broken_ranges_are_refused() {
        for spec in ["x:5..5", "x:9..3", "x:a..b", ":1..2", "x[1..-2]"] {
            let e = spec.parse::<DataSpec>().unwrap_err();
            assert!(e.to_string().contains(spec), "{e}");
        }
    }
}
