//! What can be wrong with data, and what to do about it.

use std::path::PathBuf;

/// Why data could not be used. [`DataError::help`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file system refused.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// No reader knows the file.
    #[error("{}: not a data format that qmend reads", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The file breaks the rules of its format.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        what: String,
        /// What to do.
        help: String,
    },
    /// An archive holds no array, or several, that could be the one wanted.
    #[error("{}: {what}; it holds {}", path.display(), if keys.is_empty() { "no arrays".into() } else { keys.join(", ") })]
    Key {
        /// The archive.
        path: PathBuf,
        /// What was looked for.
        what: String,
        /// Every array's name and shape.
        keys: Vec<String>,
        /// The option that decides.
        option: &'static str,
    },
    /// Nothing in it.
    #[error("{}: holds no samples", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// NaN or an infinity.
    #[error("{}: sample {sample}, element {element} is {value}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// Index of the sample.
        sample: usize,
        /// Index of the element inside the sample.
        element: usize,
        /// The value.
        value: f64,
    },
    /// As many labels as samples are needed.
    #[error("{}: {labels} labels for {samples} samples", path.display())]
    LabelCount {
        /// The file that the labels came from.
        path: PathBuf,
        /// Samples.
        samples: usize,
        /// Labels.
        labels: usize,
    },
    /// A label that is no class index.
    #[error("{}: label {index} is {value}, which is not a class index (0, 1, 2, ...)", path.display())]
    NotALabel {
        /// The file that the labels came from.
        path: PathBuf,
        /// Index of the sample.
        index: usize,
        /// The label.
        value: String,
    },
    /// A label that the model has no output for.
    #[error("{source_name}: the label of sample {index} is {label}, but {who} has {classes} outputs (labels 0 to {})", classes.saturating_sub(1))]
    LabelRange {
        /// Where the data came from.
        source_name: String,
        /// Index of the sample.
        index: usize,
        /// Its label.
        label: u32,
        /// Outputs of the model.
        classes: usize,
        /// Whose outputs.
        who: String,
    },
    /// A class name that the model does not know.
    #[error("{}: class {name:?} is none of the model's classes ({})", path.display(), known.join(", "))]
    UnknownClass {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
        /// The model's names.
        known: Vec<String>,
    },
    /// A command needs labels and the data has none.
    #[error("{source_name}: has no labels, and {why} needs them")]
    NoLabels {
        /// Where the data came from.
        source_name: String,
        /// What needs them.
        why: String,
    },
    /// Samples do not fit the model.
    #[error(
        "{source_name}: samples are {found:?} (height, width, channels), but {who} takes {expected:?}"
    )]
    Shape {
        /// Where the data came from.
        source_name: String,
        /// Shape of a sample.
        found: [usize; 3],
        /// Shape of the model's input.
        expected: [usize; 3],
        /// Whose input.
        who: String,
    },
    /// More than one reading of the axes is possible.
    #[error("{}: {what}", path.display())]
    AmbiguousLayout {
        /// The file.
        path: PathBuf,
        /// The readings.
        what: String,
    },
    /// More than is read into memory.
    #[error("{}: would take {bytes} bytes of memory; at most {limit} are read", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that its header asks for.
        bytes: u128,
        /// The limit.
        limit: u64,
    },
    /// A range of samples that is not there.
    #[error("{source_name}: range {start}..{end} of {samples} samples")]
    Range {
        /// Where the data came from.
        source_name: String,
        /// First sample.
        start: usize,
        /// One past the last sample.
        end: usize,
        /// Samples in the file.
        samples: usize,
    },
    /// A range that cannot be read.
    #[error("{spec:?}: {what}")]
    Spec {
        /// What was written.
        spec: String,
        /// What is wrong.
        what: String,
    },
}

impl DataError {
    /// What to do about it.
    pub fn help(&self) -> String {
        match self {
            DataError::Io { .. } => "check the path and its permissions".into(),
            DataError::UnknownFormat { .. } => {
                "give .npz, .npy, IDX (.gz too), .csv (.gz too) or a folder with one sub-folder of png, jpeg or bmp images a class".into()
            }
            DataError::Malformed { help, .. } => help.clone(),
            DataError::Key { option, .. } => format!("name the array with {option} NAME"),
            DataError::Empty { .. } => "give a file with at least one sample".into(),
            DataError::NotFinite { .. } => "remove or replace such samples: NaN and infinities have no integer".into(),
            DataError::LabelCount { .. } => {
                "give the labels that belong to these samples with --labels FILE, or --labels none".into()
            }
            DataError::NotALabel { .. } => {
                "labels are whole numbers from 0; if this is not a classification set, say --labels none (for CSV: --label-column none)".into()
            }
            DataError::LabelRange { .. } => {
                "check that the labels belong to this model and count from 0, not from 1".into()
            }
            DataError::UnknownClass { .. } => {
                "rename the class, or give the model's classes in the order of its outputs with --classes A,B,...".into()
            }
            DataError::NoLabels { .. } => {
                "give them with --labels FILE, --y-key NAME (.npz) or --label-column NAME (CSV)".into()
            }
            DataError::Shape { found, expected, .. } => {
                let [h, w, c] = *expected;
                if *found == [c, h, w] || (found.iter().product::<usize>() == h * w * c) {
                    "if the file is channels-first, say --layout nchw; if channels-last, --layout nhwc".into()
                } else {
                    "give data of the model's input shape (for images of another size: --resize HxW)".into()
                }
            }
            DataError::AmbiguousLayout { .. } => "say --layout nhwc or --layout nchw".into(),
            DataError::TooLarge { .. } => {
                "cut the file into smaller ones, or store bytes instead of floats; if it is not that big, it is damaged".into()
            }
            DataError::Range { samples, .. } => format!("ranges are START..END with START < END <= {samples}"),
            DataError::Spec { .. } => "write PATH, PATH:START..END, PATH:START.. or PATH:..END".into(),
        }
    }
}
