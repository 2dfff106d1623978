//! What people and programs are told: tables, progress, JSON, files that are whole or not there,
//! and the statistics that say how far a difference can be trusted.

mod json;
mod memory;
mod names;
mod progress;
mod stats;
mod table;
mod write;

pub use json::{SCHEMA, document};
pub use memory::{peak_bytes, reset_peak};
pub use names::{fitting, short_name};
pub use progress::{Bar, Progress};
pub use stats::{Proportion, mcnemar_exact};
pub use table::Table;
pub use write::{WriteError, check_target, write_atomic};
