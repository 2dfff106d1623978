//! What every command shares: where words go, how it ends, how errors are printed.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::args::GlobalArgs;
use crate::data::DataError;
use crate::report::{Progress, WriteError, check_target, write_atomic};

/// Where words go.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// One JSON object on the standard output, and nothing but warnings elsewhere.
    pub json: bool,
    /// How progress is shown.
    pub progress: Progress,
}

impl Context {
    pub fn new(global: &GlobalArgs) -> Self {
        Context {
            json: global.json,
            progress: Progress::detect(global.json || global.quiet),
        }
    }

    /// Words for people; none with `--json`.
    pub fn say(&self, text: impl Display) {
        if !self.json {
            to_stderr(text);
        }
    }

    /// Words that people must see even where a program reads the result.
    pub fn warn(&self, text: impl Display) {
        to_stderr(format_args!("warning: {text}"));
    }

    /// Refuses at once what [`Context::write`] would refuse after the work, and, with or without
    /// `force`, two results in one file and a result in the place of one of `inputs`.
    pub fn check_targets<'a>(
        &self,
        targets: impl IntoIterator<Item = &'a PathBuf>,
        inputs: &[&Path],
        force: bool,
    ) -> anyhow::Result<()> {
        let mut taken: Vec<PathBuf> = Vec::new();
        let inputs: Vec<PathBuf> = inputs.iter().map(|p| identity(p)).collect();
        for target in targets {
            let own = identity(target);
            if inputs.contains(&own) {
                return Err(UserError::new(
                    format!("{}: is read here, and would be replaced", target.display()),
                    "give the result another name",
                )
                .into());
            }
            check_target(target, force)?;
            if taken.contains(&own) {
                return Err(UserError::new(
                    format!("{}: two results would go to this file", target.display()),
                    "give each a name of its own",
                )
                .into());
            }
            taken.push(own);
        }
        Ok(())
    }

    /// Writes a file whole or not at all.
    pub fn write(&self, path: &Path, bytes: &[u8], force: bool) -> Result<(), WriteError> {
        write_atomic(path, bytes, force)
    }
}

/// The one path of a file, whatever way leads to it, existing or not.
fn identity(path: &Path) -> PathBuf {
    let parent = || {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = std::fs::canonicalize(parent.unwrap_or(Path::new("."))).ok()?;
        Some(folder.join(path.file_name()?))
    };
    std::fs::canonicalize(path)
        .ok()
        .or_else(parent)
        .unwrap_or_else(|| path.to_path_buf())
}

fn to_stderr(text: impl Display) {
    // A closed error stream is no reason to stop.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    /// Keys of the JSON object.
    pub fields: Value,
    /// Whether what was checked holds (exit code 0) or not (1).
    pub holds: bool,
    /// Printed on the standard output in any case (shell completions).
    pub plain: Option<String>,
}

impl Done {
    /// All went well.
    pub fn new(fields: Value) -> Self {
        Done {
            fields,
            holds: true,
            plain: None,
        }
    }
}

/// An error of usage with its remedy.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct UserError {
    what: String,
    help: String,
}

impl UserError {
    pub fn new(what: impl Into<String>, help: impl Into<String>) -> Self {
        UserError {
            what: what.into(),
            help: help.into(),
        }
    }
}

/// Prints an error, its causes, and what to do.
pub fn print_error(error: &anyhow::Error) {
    let mut text = format!("error: {}", message(error));
    if let Some(help) = error.chain().find_map(help) {
        text += &format!("\nhelp: {help}");
    }
    to_stderr(text);
}

/// An error for programs: `error` with its `message` and, where there is a remedy, `help`.
pub fn error_json(error: &anyhow::Error) -> Value {
    json!({"error": {"message": message(error), "help": error.chain().find_map(help)}})
}

/// An error with its causes in one line.
fn message(error: &anyhow::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Transparent wrappers, and messages that quote their source, would say it twice.
        if !said.iter().any(|s| s.contains(&text)) {
            said.push(text);
        }
    }
    said.join(": ")
}

fn help(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(e) = cause.downcast_ref::<UserError>() {
        return Some(e.help.clone());
    }
    if let Some(e) = cause.downcast_ref::<DataError>() {
        return Some(e.help());
    }
    cause.downcast_ref::<WriteError>().map(WriteError::help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn results_replace_neither_each_other_nor_what_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let context = Context {
            json: true,
            progress: Progress::detect(true),
        };
        let at = |name: &str| dir.path().join(name);
        std::fs::write(at("m.onnx"), "x").unwrap();
        let check = |targets: &[PathBuf], inputs: &[PathBuf]| {
            let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
            context.check_targets(targets, &inputs, true)
        };
        assert!(check(&[at("a"), at("b")], &[at("m.onnx")]).is_ok());
        let e = check(&[at("a"), at("./a")], &[]).unwrap_err();
        assert!(e.to_string().contains("two results"), "{e}");
        let e = check(&[at("./m.onnx")], &[at("m.onnx")]).unwrap_err();
        assert!(e.to_string().contains("is read here"), "{e}");
    }

    #[test]
    fn an_error_has_its_causes_once_and_its_remedy() {
        let inner: anyhow::Result<()> = Err(DataError::Empty {
            path: "x.npz".into(),
        }
        .into());
        let e = inner.context("the holdout set").unwrap_err();
        assert_eq!(
            error_json(&e),
            json!({"error": {
                "message": "the holdout set: x.npz: holds no samples",
                "help": "give a file with at least one sample",
            }})
        );
        let e = anyhow::Error::from(UserError::new("no", "do so"));
        assert_eq!(
            error_json(&e),
            json!({"error": {"message": "no", "help": "do so"}})
        );
        let e = anyhow::anyhow!("by itself");
        assert_eq!(
            error_json(&e),
            json!({"error": {"message": "by itself", "help": null}})
        );
    }
}
