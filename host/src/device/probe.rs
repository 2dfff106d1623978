//! A board behind a debug probe, by probe-rs: its agent is flashed through the debug port and speaks
//! by RTT. Options have the names of probe-rs's own tools.

use std::path::PathBuf;
use std::time::Duration;

use probe_rs::config::{Registry, RegistryError};
use probe_rs::flashing::{DownloadOptions, FlashError, FlashProgress, ProgressEvent};
use probe_rs::probe::list::Lister;
use probe_rs::probe::{DebugProbeSelector, WireProtocol};
use probe_rs::{MemoryInterface, Permissions, Session, Target};

use super::DeviceError;
use super::rtt::{Memory, RttTransport};

/// How long an agent may take to set up its control block after a reset.
const PATIENCE: Duration = Duration::from_secs(5);
/// Where the RAM of a chip is looked at, at most, in bytes from its start.
const MAX_RAM: u64 = 1 << 20;

/// Which chip, behind which probe, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProbeOptions {
    /// The chip, as probe-rs calls it (`probe-rs chip list`).
    pub chip: String,
    /// The probe: VID:PID or VID:PID:SERIAL; by default the only one.
    pub probe: Option<String>,
    /// swd or jtag; by default what the probe takes.
    pub protocol: Option<String>,
    /// Speed in kHz; by default the probe's.
    pub speed: Option<u32>,
    /// Attach while the chip is held in reset.
    pub connect_under_reset: bool,
    /// A file that describes chips which are not built in, in probe-rs's format (YAML).
    pub chip_description_path: Option<PathBuf>,
}

impl ProbeOptions {
    /// This chip, with what the environment says of the rest (PROBE_RS_PROBE, PROBE_RS_PROTOCOL,
    /// PROBE_RS_SPEED, PROBE_RS_CONNECT_UNDER_RESET, PROBE_RS_CHIP_DESCRIPTION_PATH, as for probe-rs's tools).
    ///
    /// # Errors
    /// [`DeviceError::Probe`] where a variable has no value of its kind.
    pub fn from_env(chip: &str) -> Result<Self, DeviceError> {
        const SPEED: &str = "PROBE_RS_SPEED";
        let text = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let speed = text(SPEED)
            .map(|v| {
                v.parse().map_err(|_| DeviceError::Probe {
                    problem: format!("{SPEED} is {v}"),
                    help: "it is a number, the speed in kHz".into(),
                })
            })
            .transpose()?;
        Ok(Self {
            chip: chip.into(),
            probe: text("PROBE_RS_PROBE"),
            protocol: text("PROBE_RS_PROTOCOL"),
            speed,
            connect_under_reset: text("PROBE_RS_CONNECT_UNDER_RESET")
                .is_some_and(|v| !["0", "false", "no", "off"].contains(&v.to_lowercase().as_str())),
            chip_description_path: text("PROBE_RS_CHIP_DESCRIPTION_PATH").map(PathBuf::from),
        })
    }

    /// The chip as probe-rs knows it.
    fn target(&self) -> Result<Target, DeviceError> {
        let mut registry = Registry::from_builtin_families();
        if let Some(path) = &self.chip_description_path {
            let shown = path.display();
            let help = "--chip-description-path takes a file as `target-gen` makes it";
            let wrong = |problem: String| DeviceError::Probe {
                problem: format!("{shown}: {problem}"),
                help: help.into(),
            };
            let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
            registry
                .add_target_family_from_yaml(&text)
                .map_err(|e| wrong(e.to_string()))?;
        }
        registry
            .get_target_by_name(&self.chip)
            .map_err(|e| match e {
                RegistryError::ChipNotFound(name) => DeviceError::Probe {
                    problem: format!("no chip {name} is known"),
                    help: format!(
                        "names that are near: {}; --chip-description-path takes chips that are not built in",
                        near(&name, &registry).join(", ")
                    ),
                },
                RegistryError::ChipNotUnique(name, names) => DeviceError::Probe {
                    problem: format!("several chips have names that begin with {name}"),
                    help: format!("give one: {names}"),
                },
                e => fail(&e, "check --chip"),
            })
    }

    fn protocol(&self) -> Result<Option<WireProtocol>, DeviceError> {
        self.protocol
            .as_ref()
            .map(|name| {
                name.to_lowercase().parse().map_err(|_| DeviceError::Probe {
                    problem: format!("{name} is no protocol"),
                    help: "--protocol takes swd and jtag".into(),
                })
            })
            .transpose()
    }

    /// Opens the probe and attaches to the chip.
    ///
    /// # Errors
    /// [`DeviceError::Probe`], with what to do.
    pub fn attach(&self) -> Result<Attached, DeviceError> {
        // What is wrong whatever is attached is said first.
        let target = self.target()?;
        let protocol = self.protocol()?;
        let lister = Lister::new();
        let selector = self
            .probe
            .as_ref()
            .map(|text| text.parse::<DebugProbeSelector>())
            .transpose()
            .map_err(|e| fail(&e, "a probe is VID:PID or VID:PID:SERIAL, in hexadecimal"))?;
        let found = lister.list(selector.as_ref());
        let info = match (&found[..], &selector) {
            ([], None) => {
                return Err(DeviceError::Probe {
                    problem: "no debug probe is attached".into(),
                    help: "plug one in (CMSIS-DAP v2, J-Link, ST-Link, and what else probe-rs knows); on Linux its udev rules must allow you to use it, see https://probe.rs/docs/getting-started/probe-setup/".into(),
                });
            }
            ([], Some(selector)) => {
                return Err(DeviceError::Probe {
                    problem: format!("no debug probe {selector} is attached"),
                    help: "plug it in, or leave out --probe to take the one that is there".into(),
                });
            }
            ([one], _) => one,
            (many, _) => {
                let names: Vec<String> = many.iter().map(ToString::to_string).collect();
                return Err(DeviceError::Probe {
                    problem: format!(
                        "{} debug probes are attached: {}",
                        many.len(),
                        names.join("; ")
                    ),
                    help: "name one with --probe VID:PID:SERIAL".into(),
                });
            }
        };
        let mut probe = info.open().map_err(|e| {
            fail(
                &e,
                "close other programs that use it; on Linux check its udev rules",
            )
        })?;
        if let Some(protocol) = protocol {
            probe
                .select_protocol(protocol)
                .map_err(|e| fail(&e, "take the other --protocol"))?;
        }
        if let Some(speed) = self.speed {
            probe
                .set_speed(speed)
                .map_err(|e| fail(&e, "give another --speed, in kHz"))?;
        }
        let help = "check --chip, power and wiring; --connect-under-reset helps where the program turns the debug port off";
        let session = if self.connect_under_reset {
            probe.attach_under_reset(target, Permissions::default())
        } else {
            probe.attach(target, Permissions::default())
        };
        Ok(Attached {
            session: session.map_err(|e| fail(&e, help))?,
        })
    }
}

/// The names of chips that differ least from `name`, the nearest first.
fn near(name: &str, registry: &Registry) -> Vec<String> {
    const SHOWN: usize = 5;
    let name = name.to_lowercase();
    let mut names: Vec<(usize, String)> = registry
        .families()
        .iter()
        .flat_map(|family| &family.variants)
        .flat_map(|chip| chip.package_variants())
        .map(|known| {
            (
                strsim::damerau_levenshtein(&name, &known.to_lowercase()),
                known.clone(),
            )
        })
        .collect();
    names.sort();
    names.dedup();
    names.truncate(SHOWN);
    names.into_iter().map(|(_, name)| name).collect()
}

fn fail(error: &(dyn std::error::Error + 'static), help: &str) -> DeviceError {
    let mut problem = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        problem += &format!(": {next}");
        cause = next.source();
    }
    DeviceError::Probe {
        problem,
        help: help.into(),
    }
}

/// A chip that the probe is attached to.
pub struct Attached {
    session: Session,
}

impl Attached {
    /// Writes these parts (address and bytes) into flash with probe-rs's algorithm for the chip, what
    /// lies around them in their sectors is kept, and verifies them; then starts the program.
    ///
    /// # Errors
    /// [`DeviceError::Probe`].
    pub fn flash(
        &mut self,
        parts: &[(u32, Vec<u8>)],
        mut progress: impl FnMut(u64),
    ) -> Result<(), DeviceError> {
        let help = "is the firmware for this chip? (`probe-rs chip info` shows its memory)";
        let flash = |e: FlashError| fail(&e, help);
        let mut loader = self.session.target().flash_loader();
        for (address, bytes) in parts {
            loader.add_data(u64::from(*address), bytes).map_err(flash)?;
        }
        let mut options = DownloadOptions::default();
        options.keep_unwritten_bytes = true;
        options.verify = true;
        options.progress = FlashProgress::new(|event| {
            if let ProgressEvent::Progress { size, .. } = event {
                progress(size);
            }
        });
        loader.commit(&mut self.session, options).map_err(flash)?;
        let mut core = self.session.core(0).map_err(|e| fail(&e, help))?;
        core.reset().map_err(|e| fail(&e, help))
    }

    /// The chip's agent, which speaks by RTT.
    ///
    /// # Errors
    /// Where there is none.
    pub fn rtt(self) -> Result<RttTransport<ProbeMemory>, DeviceError> {
        let ram = self
            .session
            .target()
            .memory_map
            .iter()
            .filter_map(|region| region.as_ram_region())
            .map(|ram| ram.range.start..ram.range.end.min(ram.range.start + MAX_RAM))
            // Agents have their data in the RAM of Arm's memory map, not in a core-coupled one.
            .min_by_key(|range| range.start.abs_diff(0x2000_0000))
            .unwrap_or(0x2000_0000..0x2010_0000);
        let (start, end) = (ram.start as u32, ram.end as u32);
        RttTransport::find(ProbeMemory(self.session), start..end, PATIENCE)
    }
}

/// The chip's memory, which is read and written while its program runs.
pub struct ProbeMemory(Session);

impl Memory for ProbeMemory {
    fn read(&mut self, address: u32, out: &mut [u8]) -> Result<(), DeviceError> {
        let help = "check the wiring, or give a lower --speed";
        let mut core = self.0.core(0).map_err(|e| fail(&e, help))?;
        core.read(u64::from(address), out)
            .map_err(|e| fail(&e, help))
    }

    fn write(&mut self, address: u32, bytes: &[u8]) -> Result<(), DeviceError> {
        let help = "check the wiring, or give a lower --speed";
        let mut core = self.0.core(0).map_err(|e| fail(&e, help))?;
        core.write_8(u64::from(address), bytes)
            .and_then(|()| core.flush())
            .map_err(|e| fail(&e, help))
    }
}
