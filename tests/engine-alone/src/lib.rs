//! The host's integer engine and what it stands on, compiled from the host crate's own files.
#![allow(dead_code, missing_docs)]

#[path = "../../../host/src/engine/mod.rs"]
pub mod engine;
#[path = "../../../host/src/graph/mod.rs"]
pub mod graph;
#[path = "../../../host/src/model/mod.rs"]
pub mod model;
