//! The command line as a user calls it: the example's own files through every command, and what
//! happens when something is wrong.

mod bad_data;
mod bad_networks;
mod bench;
mod boards;
mod certificates;
mod demo;
mod device_checks;
mod devices;
mod export;
mod formats;
mod help;
mod images;
#[cfg(unix)]
mod interrupt;
mod localize;
mod output;
mod probes;
mod quantize;
mod repair_tflite;
mod road;
mod signing;
mod support;
mod usage;
