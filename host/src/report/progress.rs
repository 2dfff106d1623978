//! Progress on the standard error stream.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Bars that redraw themselves, for a terminal.
    Bars,
    /// A line when a stage ends (and every ten seconds of a long one), for logs.
    Lines,
    /// Nothing, for programs.
    Silent,
}

impl Progress {
    /// Bars on a terminal, lines elsewhere, nothing when `quiet`.
    pub fn detect(quiet: bool) -> Self {
        match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Progress::Silent,
            (false, true) => Progress::Bars,
            (false, false) => Progress::Lines,
        }
    }

    /// Starts a stage of `total` steps, or of an unknown number (zero).
    pub fn start(self, what: impl Into<String>, total: u64) -> Bar {
        let what = what.into();
        let bar = (self == Progress::Bars).then(|| {
            let bar = if total == 0 {
                ProgressBar::new_spinner()
            } else {
                ProgressBar::new(total)
            };
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(8));
            let template = if total == 0 {
                "{spinner} {prefix} {elapsed} {msg}"
            } else {
                "{prefix} [{bar:24}] {pos}/{len} {elapsed} {msg}"
            };
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(what.clone());
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        let now = Instant::now();
        Bar {
            mode: self,
            what,
            total,
            started: now,
            bar,
            last: Mutex::new(now),
        }
    }
}

/// A running stage. It may be shared by threads.
#[derive(Debug)]
pub struct Bar {
    mode: Progress,
    what: String,
    total: u64,
    started: Instant,
    bar: Option<ProgressBar>,
    last: Mutex<Instant>,
}

impl Bar {
    /// `done` steps of the total are done; `note` says what stands now (it may be empty).
    pub fn update(&self, done: u64, note: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(note.to_string());
        } else if self.mode == Progress::Lines {
            let Ok(mut last) = self.last.lock() else {
                return;
            };
            if last.elapsed() >= Duration::from_secs(10) {
                *last = Instant::now();
                let of = if self.total == 0 {
                    String::new()
                } else {
                    format!("{done} of {}, ", self.total)
                };
                let note = if note.is_empty() {
                    String::new()
                } else {
                    format!("; {note}")
                };
                say(format_args!(
                    "{}: {of}{} so far{note}",
                    self.what,
                    seconds(self.started.elapsed())
                ));
            }
        }
    }

    /// Ends the stage with its result in a few words.
    pub fn finish(self, result: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.mode != Progress::Silent {
            let time = self.started.elapsed();
            let note = if time >= Duration::from_secs(1) {
                format!(" ({})", seconds(time))
            } else {
                String::new()
            };
            say(format_args!("{}: {result}{note}", self.what));
        }
    }
}

/// A line on the standard error stream; one that nobody reads any more is no error.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn seconds(d: Duration) -> String {
    format!("{:.1} s", d.as_secs_f64())
}
