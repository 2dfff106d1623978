//! What people and programs are told: tables, progress, JSON, files that are whole or not there,
//! and the statistics that say how far a difference can be trusted.

mod json;
mod names;
mod progress;
mod stats;
mod table;
mod usage;
mod write;

pub use json::{SCHEMA, document};
pub use names::{fitting, short_name};
pub use progress::{Bar, Progress};
pub use stats::{Proportion, mcnemar_exact};
pub use table::Table;
pub use usage::{cpu_seconds, peak_bytes, reset_peak};
pub use write::{WriteError, check_target, write_atomic, write_private};
