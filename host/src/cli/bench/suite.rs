//! The suite: what a benchmark runs, in a file that others can run again.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::super::args::{PreprocessArgs, ReadArgs};
use super::super::context::UserError;
use super::method::{Factor, Method, Start, Width};
use super::spec::Sets;
use crate::data::DataSpec;
use crate::localize::Metric;
use crate::quantize::Scales;
use crate::repair::Targets;

/// A benchmark: models x seeds x widths x roundings x methods.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suite {
    /// Heading of the report.
    #[serde(default)]
    pub title: String,
    /// Words under the heading.
    #[serde(default)]
    pub about: String,
    /// Seeds of all that is drawn, the split of a shuffled pool included.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// Longest time for one repair, in seconds.
    #[serde(default = "time_budget")]
    pub time_budget: f64,
    /// What a test should give: `teacher` or `labels`.
    #[serde(default)]
    pub targets: Wanted,
    /// How weight scales are chosen: `max` or `mse`; by default max at 8 bits and mse below.
    #[serde(default)]
    pub scales: Option<String>,
    /// Widths of weights.
    #[serde(default = "widths")]
    pub widths: Vec<Width>,
    /// Roundings that repairs start from.
    #[serde(default = "roundings")]
    pub roundings: Vec<Start>,
    /// Methods of repair.
    #[serde(default = "methods")]
    pub methods: Vec<Method>,
    /// For `bench localize`: the sweep over numbers of neurons.
    #[serde(default)]
    pub localize: Option<Sweep>,
    /// The models; each may have its own widths, roundings, methods, seeds and time.
    #[serde(rename = "model")]
    pub models: Vec<Entry>,
    /// Folder that relative paths start from: that of the file.
    #[serde(skip)]
    pub folder: PathBuf,
}

/// The classes that a test should give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// The float network's.
    #[default]
    Teacher,
    /// The data's labels.
    Labels,
}

impl From<Wanted> for Targets {
    fn from(w: Wanted) -> Self {
        match w {
            Wanted::Teacher => Targets::Teacher,
            Wanted::Labels => Targets::Labels,
        }
    }
}

/// How `bench localize` varies the number of neurons that may change.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Strategies, with settings other than metric and number.
    #[serde(default = "sweep_strategies")]
    pub strategies: Vec<String>,
    /// Numbers of neurons, 0 for all.
    #[serde(default = "sweep_tops")]
    pub tops: Vec<usize>,
    /// Metrics; the control `random` is always among them.
    #[serde(default)]
    pub metrics: Vec<String>,
    /// Draws of the control.
    #[serde(default = "sweep_draws")]
    pub draws: u64,
}

impl Sweep {
    /// The metrics, all formulas where none was named, the control last.
    pub fn metrics(&self) -> Result<Vec<Metric>, String> {
        let mut found = if self.metrics.is_empty() {
            Metric::ALL.to_vec()
        } else {
            self.metrics
                .iter()
                .map(|m| m.parse())
                .collect::<Result<Vec<Metric>, String>>()?
        };
        found.retain(|m| *m != Metric::Random);
        found.push(Metric::Random);
        Ok(found)
    }
}

/// One network with its data.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Name in the report; by default the file's.
    #[serde(default)]
    pub name: Option<String>,
    /// The float network.
    pub float: String,
    /// The same as the command line gave it: a path that may not be text, and holds no variables.
    #[serde(skip)]
    pub float_path: Option<PathBuf>,
    /// An integer model made of it, to be repaired as it is; widths and roundings do not apply.
    #[serde(default)]
    pub quant: Option<String>,
    /// Factor on every raw value.
    #[serde(default)]
    pub scale: Option<Factor>,
    /// Subtracted after scaling.
    #[serde(default)]
    pub mean: Vec<Factor>,
    /// Divisor after that.
    #[serde(default)]
    pub std: Vec<Factor>,
    /// Order of the data's axes: auto, nhwc or nchw.
    #[serde(default)]
    pub layout: Option<String>,
    /// Array of the samples in an .npz.
    #[serde(default)]
    pub x_key: Option<String>,
    /// Array of the labels in an .npz.
    #[serde(default)]
    pub y_key: Option<String>,
    /// How data are read, as the command line said.
    #[serde(skip)]
    pub read: Option<ReadArgs>,
    /// Widths instead of the suite's.
    #[serde(default)]
    pub widths: Option<Vec<Width>>,
    /// Roundings instead of the suite's.
    #[serde(default)]
    pub roundings: Option<Vec<Start>>,
    /// Methods instead of the suite's.
    #[serde(default)]
    pub methods: Option<Vec<Method>>,
    /// Seeds instead of the suite's.
    #[serde(default)]
    pub seeds: Option<Vec<u64>>,
    /// Longest time for one repair instead of the suite's.
    #[serde(default)]
    pub time_budget: Option<f64>,
    /// The sets.
    pub data: Sets,
}

fn one_seed() -> Vec<u64> {
    vec![0]
}
fn time_budget() -> f64 {
    120.0
}
fn widths() -> Vec<Width> {
    [8, 4, 3, 2]
        .map(|bits| Width {
            bits,
            per_tensor: false,
        })
        .to_vec()
}
fn roundings() -> Vec<Start> {
    vec![Start::One(crate::quantize::WeightRounding::Nearest, false)]
}
fn methods() -> Vec<Method> {
    let parse = |m: &str| m.parse().expect("the default methods are methods");
    super::DEFAULT_METHODS.split(',').map(parse).collect()
}
fn sweep_strategies() -> Vec<String> {
    vec!["neuron".into()]
}
fn sweep_tops() -> Vec<usize> {
    vec![1, 5, 10, 30, 100, 0]
}
fn sweep_draws() -> u64 {
    5
}
/// Longest suite that is read.
const MAX_BYTES: u64 = 1 << 20;

impl Suite {
    /// Reads a suite from TOML.
    pub fn load(path: &Path) -> Result<Self, UserError> {
        let unreadable = |why: String| {
            UserError::new(
                format!("{}: {why}", path.display()),
                "a suite is a TOML file as those in docs/suites; `qmend bench repair --help` says what it holds",
            )
        };
        let length = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
        if length.len() > MAX_BYTES {
            return Err(unreadable(format!("longer than {MAX_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        let mut suite: Suite =
            toml::from_str(&text).map_err(|e| unreadable(format!("not a suite: {e}")))?;
        suite.folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
        suite.check().map_err(unreadable)?;
        Ok(suite)
    }

    fn check(&self) -> Result<(), String> {
        if self.models.is_empty() {
            return Err("names no model ([[model]])".into());
        }
        self.scales()?;
        for (i, e) in self.models.iter().enumerate() {
            let name = self.name(e);
            let budget = self.budget(e);
            if !(budget > 0.0 && budget < 1e9) {
                return Err(format!(
                    "model {name}: time_budget {budget} is no number of seconds"
                ));
            }
            if self.seeds(e).is_empty() {
                return Err(format!("model {name}: no seeds"));
            }
            if self.models[..i].iter().any(|o| self.name(o) == name) {
                return Err(format!(
                    "two models are called {name}; give one a name of its own"
                ));
            }
            e.data
                .check()
                .map_err(|what| format!("model {name}: {what}"))?;
            if e.quant.is_none() && e.data.calibration.is_none() {
                return Err(format!(
                    "model {name}: no calibration set (data.calibration)"
                ));
            }
        }
        if let Some(s) = &self.localize {
            s.metrics()?;
        }
        Ok(())
    }

    /// How weight scales are chosen, where the suite says so.
    pub fn scales(&self) -> Result<Option<Scales>, String> {
        self.scales
            .as_ref()
            .map(|s| {
                s.parse()
                    .map_err(|e: crate::quantize::QuantizeError| e.to_string())
            })
            .transpose()
    }

    /// A model's name in the report.
    pub fn name(&self, e: &Entry) -> String {
        e.name.clone().unwrap_or_else(|| {
            let path = Path::new(&e.float);
            path.file_stem()
                .unwrap_or(path.as_os_str())
                .to_string_lossy()
                .into_owned()
        })
    }

    /// A model's widths.
    pub fn widths<'a>(&'a self, e: &'a Entry) -> &'a [Width] {
        e.widths.as_deref().unwrap_or(&self.widths)
    }

    /// A model's roundings.
    pub fn roundings<'a>(&'a self, e: &'a Entry) -> &'a [Start] {
        e.roundings.as_deref().unwrap_or(&self.roundings)
    }

    /// A model's methods.
    pub fn methods<'a>(&'a self, e: &'a Entry) -> &'a [Method] {
        e.methods.as_deref().unwrap_or(&self.methods)
    }

    /// A model's seeds.
    pub fn seeds<'a>(&'a self, e: &'a Entry) -> &'a [u64] {
        e.seeds.as_deref().unwrap_or(&self.seeds)
    }

    /// A model's seconds for one repair.
    pub fn budget(&self, e: &Entry) -> f64 {
        e.time_budget.unwrap_or(self.time_budget)
    }

    /// Where a model's float network is.
    pub fn float(&self, e: &Entry) -> Result<PathBuf, UserError> {
        match &e.float_path {
            Some(path) => Ok(path.clone()),
            None => self.path(&e.float),
        }
    }

    /// A path of the suite: variables replaced, and relative to the suite's folder.
    pub fn path(&self, text: &str) -> Result<PathBuf, UserError> {
        Ok(self.folder.join(expand(text, |v| std::env::var(v).ok())?))
    }

    /// Data of the suite: a path as [`Suite::path`] with an optional range.
    pub fn spec(&self, text: &str) -> Result<DataSpec, UserError> {
        let spec: DataSpec = text
            .parse()
            .map_err(|e: crate::data::DataError| UserError::new(e.to_string(), e.help()))?;
        Ok(DataSpec {
            path: self.path(&spec.path.to_string_lossy())?,
            take: spec.take,
        })
    }
}

impl Entry {
    /// Preprocessing as the command line takes it.
    pub fn preprocess(&self) -> PreprocessArgs {
        PreprocessArgs {
            scale: self.scale.map(|f| f.0),
            mean: self.mean.iter().map(|f| f.0).collect(),
            std: self.std.iter().map(|f| f.0).collect(),
        }
    }

    /// How its data are read.
    pub fn read(&self) -> Result<ReadArgs, UserError> {
        if let Some(read) = &self.read {
            return Ok(read.clone());
        }
        Ok(ReadArgs {
            layout: match &self.layout {
                None => Default::default(),
                Some(l) => l.parse().map_err(|e: String| {
                    UserError::new(e, "set layout in the suite to one of them")
                })?,
            },
            x_key: self.x_key.clone(),
            y_key: self.y_key.clone(),
            ..ReadArgs::default()
        })
    }
}

/// Replaces `$NAME` and `${NAME}` by what `value` says.
fn expand(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, UserError> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out += before;
        let (name, end) = match after.strip_prefix('{') {
            Some(inner) => match inner.split_once('}') {
                Some((name, end)) => (name, end),
                None => (inner, ""),
            },
            None => {
                let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
                after.split_at(after.find(|c| !word(c)).unwrap_or(after.len()))
            }
        };
        out += &value(name).ok_or_else(|| {
            UserError::new(
                format!("the suite needs {name} in the environment (for {text:?}), and it is not set"),
                format!("export {name}=FOLDER with the folder of the suite's files, or write the path into the suite"),
            )
        })?;
        rest = end;
    }
    Ok(out + rest)
}

#[cfg(test)]
mod tests {
    use super::super::spec::Set;
    use super::*;

    const TEXT: &str = r#"
        seeds = [0, 1]
        widths = [8, "4-per-tensor"]
        roundings = ["nearest", "best"]
        methods = ["none", "margin:top=5"]

        [[model]]
        float = "a/net.onnx"
        scale = "1/255"
        mean = [0.5, "1/2"]
        methods = ["auto"]
        [model.data]
        pool = "$HERE/x.npz:0..100"
        calibration = "cal.npz:0..9"
        repair = 40
        holdout = 30
        test = "rest"
    "#;

    fn read(text: &str) -> Result<Suite, String> {
        let s: Suite = toml::from_str(text).map_err(|e| e.to_string())?;
        s.check()?;
        Ok(s)
    }

    #[test]
    fn a_suite_reads_as_written_and_models_override_it() {
        let s = read(TEXT).expect("a good suite");
        let e = &s.models[0];
        assert_eq!(s.name(e), "net");
        assert_eq!(s.widths(e)[1].to_string(), "4-bit per tensor");
        assert_eq!(
            s.roundings(e),
            [Start::One(Default::default(), false), Start::Best]
        );
        assert_eq!((s.methods.len(), s.methods(e).len()), (2, 1));
        let pre = e.preprocess();
        assert_eq!((pre.scale, pre.mean), (Some(1.0 / 255.0), vec![0.5, 0.5]));
        assert_eq!(e.data.test, Set::Spec("rest".into()));
        assert!(e.data.shuffle && s.budget(e) == 120.0);
    }

    #[test]
    fn what_a_suite_cannot_mean_is_refused_with_the_reason() {
        for (from, to, why) in [
            ("repair = 40", "repair = 0", "repair set is empty"),
            (
                "pool = \"$HERE/x.npz:0..100\"",
                "",
                "data.pool is not there",
            ),
            ("holdout = 30", "holdout = \"rest\"", "only the test set"),
            ("widths = [8,", "widths = [7,", "8, 4, 3 or 2"),
            ("\"best\"", "\"bset\"", "bset"),
            ("\"none\"", "\"nun\"", "nun"),
            ("calibration = \"cal.npz:0..9\"", "", "no calibration set"),
            ("seeds = [0, 1]", "seed = [0, 1]", "seed"),
            ("seeds = [0, 1]", "time_budget = 0", "time_budget"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let e = read(&TEXT.replace(from, to)).expect_err(to);
            assert!(e.contains(why), "{to}: {e}");
        }
    }

    #[test]
    fn variables_are_replaced_or_asked_for() {
        let value = |v: &str| (v == "A").then(|| "x".to_string());
        for (text, want) in [("$A/b", "x/b"), ("${A}b", "xb"), ("b", "b"), ("b$A", "bx")] {
            assert_eq!(expand(text, value).unwrap(), want);
        }
        let e = expand("$B/c", value).unwrap_err();
        assert!(e.to_string().contains("needs B"), "{e}");
    }
}
