//! The pair of networks that a repair works on, and how one file of data serves twice.

use std::path::PathBuf;

use anyhow::Result;

use super::args::ReadArgs;
use super::context::{Context, UserError};
use crate::data::{DataSpec, Take};

/// The two networks, by place or by name.
#[derive(Clone, Debug, clap::Args)]
pub struct PairArgs {
    /// The float network (.onnx, .tflite)
    #[arg(value_name = "MODEL", required_unless_present = "float")]
    model: Option<PathBuf>,
    /// The integer model made of it (.qmend, int8 .tflite, QDQ .onnx)
    #[arg(value_name = "QUANT", required_unless_present = "integer")]
    quant: Option<PathBuf>,
    /// The float network, in place of MODEL
    #[arg(long, value_name = "MODEL", requires = "integer", conflicts_with_all = ["model", "quant"])]
    float: Option<PathBuf>,
    /// The integer model, in place of QUANT
    #[arg(long = "quant", value_name = "QUANT", requires = "float", conflicts_with_all = ["model", "quant"])]
    integer: Option<PathBuf>,
}

impl PairArgs {
    /// The float network's and the integer model's file.
    ///
    /// # Errors
    /// Where one is missing.
    pub fn files(&self) -> Result<[&PathBuf; 2], UserError> {
        let float = self.float.as_ref().or(self.model.as_ref());
        let integer = self.integer.as_ref().or(self.quant.as_ref());
        float.zip(integer).map(|(a, b)| [a, b]).ok_or_else(|| {
            UserError::new(
                "a repair needs a float network and an integer model",
                "give MODEL and QUANT, or --float MODEL --quant QUANT",
            )
        })
    }
}

/// Samples of four that mend where one file serves for both; the last decides.
const MEND: usize = 3;
const OF: usize = 4;

/// Cuts `n` samples of `data` into those to mend with and those that decide what stays.
///
/// A file without a range and without `--shuffle` is shuffled first (files are often sorted by
/// class); one with a range is cut as it is, since shuffling would take other samples.
///
/// # Errors
/// Where there are too few samples.
pub fn split(
    context: &Context,
    data: &DataSpec,
    read: &mut ReadArgs,
    n: usize,
) -> Result<[DataSpec; 2], UserError> {
    if n < OF {
        return Err(UserError::new(
            format!(
                "{}: {n} samples cannot be cut into repair and holdout data",
                data.path.display()
            ),
            "give more samples, or --holdout with data of its own",
        ));
    }
    let start = data.take.map_or(0, |t| t.start);
    let middle = start + n * MEND / OF;
    let part = |start, end| DataSpec {
        path: data.path.clone(),
        take: Some(Take {
            start,
            end: Some(end),
        }),
    };
    let parts = [part(start, middle), part(middle, start + n)];
    let mut how = String::new();
    if let (None, None) = (data.take, read.shuffle) {
        read.shuffle = Some(0);
        how = " in the order of --shuffle 0".into();
    } else if read.shuffle.is_none() {
        context.warn("no --holdout: the range is cut as it is; where it is sorted by class, add --shuffle SEED or give --holdout");
    }
    let file = data.path.display();
    context.say(format_args!(
        "no --holdout:{how} {file}:{start}..{middle} mends and {file}:{middle}..{} decides what stays",
        start + n
    ));
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Progress;

    #[test]
    fn three_quarters_mend_and_the_last_decides() {
        let context = Context {
            json: true,
            progress: Progress::detect(true),
        };
        let data: DataSpec = "d.npz".parse().expect("a path");
        let mut read = ReadArgs::default();
        let [mend, decide] = split(&context, &data, &mut read, 10).expect("enough");
        let take = |start, end| {
            Some(Take {
                start,
                end: Some(end),
            })
        };
        assert_eq!((mend.take, decide.take), (take(0, 7), take(7, 10)));
        assert_eq!(read.shuffle, Some(0));

        let data: DataSpec = "d.npz:100..120".parse().expect("a path");
        let mut read = ReadArgs::default();
        let [mend, decide] = split(&context, &data, &mut read, 20).expect("enough");
        assert_eq!((mend.take, decide.take), (take(100, 115), take(115, 120)));
        assert_eq!(read.shuffle, None, "a range stays the range that it was");
        assert!(split(&context, &data, &mut read, 3).is_err());
    }
}
