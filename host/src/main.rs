//! The `qmend` command.
fn main() {}
