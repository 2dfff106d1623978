//! What every command shares: where words go, how it ends, how errors are printed.

use std::fmt::Display;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

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

    /// Refuses at once what [`Context::write`] would refuse after the work.
    pub fn check_targets<'a>(
        &self,
        paths: impl IntoIterator<Item = &'a PathBuf>,
        force: bool,
    ) -> Result<(), WriteError> {
        paths.into_iter().try_for_each(|p| check_target(p, force))
    }

    /// Writes a file whole or not at all.
    pub fn write(&self, path: &Path, bytes: &[u8], force: bool) -> Result<(), WriteError> {
        write_atomic(path, bytes, force)
    }
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
    to_stderr(render(error));
}

fn render(error: &anyhow::Error) -> String {
    let mut said: Vec<String> = Vec::new();
    for cause in error.chain() {
        let text = cause.to_string();
        // Transparent wrappers, and messages that quote their source, would say it twice.
        if !said.iter().any(|s| s.contains(&text)) {
            said.push(text);
        }
    }
    let mut text = format!("error: {}", said.join(": "));
    if let Some(help) = error.chain().find_map(help) {
        text += &format!("\nhelp: {help}");
    }
    text
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
    fn an_error_is_printed_with_its_causes_once_and_its_remedy() {
        let inner: anyhow::Result<()> = Err(DataError::Empty {
            path: "x.npz".into(),
        }
        .into());
        let e = inner.context("the holdout set").unwrap_err();
        assert_eq!(
            render(&e),
            "error: the holdout set: x.npz: holds no samples\nhelp: give a file with at least one sample"
        );
        let e = anyhow::Error::from(UserError::new("no", "do so"));
        assert_eq!(render(&e), "error: no\nhelp: do so");
    }
}
