//! Two places for an image in flash, and the record that says which of them counts.
//!
//! Each slot has room for an image and, in erase sectors of its own, for commit [`Record`]s, which
//! are appended. [`select`] takes the newest record whose image is whole and sound. An [`Update`]
//! writes the *other* slot, reads it back, and appends that slot's record last: whatever operation
//! the power is cut in, one of the two images counts and has been checked. `FORMAT.md` is the book.
//!
//! - [`Storage`]: flash as a board gives it,
//! - [`Layout`]: where slots and records lie,
//! - [`Record`], [`select`], [`Selected`]: what counts,
//! - [`boards`]: those that are known here,
//! - [`Update`], [`apply_patch`], [`roll_back`]: the three ways to change it,
//! - [`Candidate`], [`select_trusted`], `..._signed`: the same where only signed images count.

pub mod boards;
mod error;
mod layout;
mod patch;
mod record;
mod select;
mod storage;
mod update;

pub use error::SlotError;
pub use layout::{Layout, Region, SlotLayout};
pub use patch::{apply_patch, apply_signed_patch};
pub use record::{RECORD_BYTES, Record};
pub use select::{
    Candidate, Selected, highest_version, other_candidate, other_image, other_record, roll_back,
    roll_back_signed, select, select_trusted,
};
pub use storage::{Sector, Storage, StorageError, WRITE_UNIT_MAX};
pub use update::Update;
