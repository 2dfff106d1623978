//! Boards behind a debug probe, in builds with the feature `probe`; in others, how to get one.

use std::path::Path;

use anyhow::Result;

use super::args::ProbeArgs;
use super::context::Context;
use crate::device::{LinkDevice, Transport};

/// A device behind a probe.
pub type Device = LinkDevice<Box<dyn Transport>>;

#[cfg(feature = "probe")]
mod built_in {
    use anyhow::Context as _;

    use super::*;
    use crate::cli::stages::PORT_LIMIT;
    use crate::device::probe::{Attached, ProbeOptions};
    use crate::export::elf::read_elf;

    /// Attaches to the chip; writes `firmware` first where it is given.
    pub fn open(args: &ProbeArgs, firmware: Option<&Path>, context: &Context) -> Result<Device> {
        let options = ProbeOptions {
            chip: args.chip.clone().unwrap_or_default(),
            probe: args.probe.clone(),
            protocol: args.protocol.clone(),
            speed: args.speed,
            connect_under_reset: args.connect_under_reset,
            chip_description_path: args.chip_description_path.clone(),
        };
        // What cannot be read is said before the probe is asked for.
        let parts = match firmware {
            Some(path) => {
                let shown = || path.display().to_string();
                let file = std::fs::read(path).with_context(shown)?;
                Some(read_elf(&file).with_context(shown)?.0)
            }
            None => None,
        };
        let mut attached = options.attach()?;
        if let Some(parts) = parts {
            let total = parts.iter().map(|p| p.1.len() as u64).sum();
            let bar = context.progress.start("firmware", total);
            let mut done = 0;
            attached.flash(&parts, |bytes| {
                done += bytes;
                bar.update(done, "");
            })?;
            bar.finish(&format!("{total} bytes written and verified"));
        }
        connect(attached)
    }

    /// Attaches to the chip as the environment says.
    pub fn open_chip(chip: &str) -> Result<Device> {
        connect(ProbeOptions::from_env(chip)?.attach()?)
    }

    fn connect(attached: Attached) -> Result<Device> {
        let transport: Box<dyn Transport> = Box::new(attached.rtt()?);
        Ok(LinkDevice::connect(transport, PORT_LIMIT, None)?)
    }
}

#[cfg(feature = "probe")]
pub use built_in::{open, open_chip};

#[cfg(not(feature = "probe"))]
mod left_out {
    use super::*;
    use crate::cli::context::UserError;

    fn missing(chip: &str) -> UserError {
        UserError::new(
            format!("{chip}: this build has no support for debug probes"),
            "build one with `cargo build --release --features probe`, or let the probe's GDB server (OpenOCD, pyOCD, probe-rs, J-Link) do it: --gdb HOST:PORT, --device gdb:HOST:PORT",
        )
    }

    /// Refuses.
    pub fn open(args: &ProbeArgs, _: Option<&Path>, _: &Context) -> Result<Device> {
        Err(missing(args.chip.as_deref().unwrap_or_default()).into())
    }

    /// Refuses.
    pub fn open_chip(chip: &str) -> Result<Device> {
        Err(missing(chip).into())
    }
}

#[cfg(not(feature = "probe"))]
pub use left_out::{open, open_chip};
