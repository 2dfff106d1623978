//! Arguments that commands share.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::context::UserError;
use crate::data::{DataSpec, Labels, Layout, LoadOptions};
use crate::device::{Machine, PortName, qemu};
use crate::float::Backend;
use crate::model::Preprocess;

/// Arguments of every command.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "General")]
pub struct GlobalArgs {
    /// Print the result as one JSON object on the standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Show no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Threads to use; by default one a core
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
}

/// How data files are read.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Reading data")]
pub struct ReadArgs {
    /// Order of the axes in the data: nhwc (height, width, channels), nchw (channels first), or
    /// auto to take the one that fits the model
    ///
    /// Samples are [n, features], [n, height, width] (one channel), [n, height, width, channels] or
    /// [n, channels, height, width]. The model sees the same values either way.
    #[arg(long, default_value = "auto", value_name = "auto|nhwc|nchw")]
    pub layout: Layout,
    /// Name of the samples' array in an .npz file; by default images, x, input and the like
    #[arg(long, value_name = "NAME")]
    pub x_key: Option<String>,
    /// Name of the labels' array in an .npz file; by default labels, y and the like
    #[arg(long, value_name = "NAME")]
    pub y_key: Option<String>,
    /// Labels of --data in a file of their own (.npy, IDX, or text with one a line), or `none`; by
    /// default those in the data file or beside it
    ///
    /// Labels are class indices from 0, one-hot rows, or names. Beside images-idx3-ubyte.gz,
    /// labels-idx1-ubyte.gz is found; beside x_test.npy, y_test.npy.
    #[arg(long, value_name = "FILE|none")]
    pub labels: Option<String>,
    /// Column of the labels in a CSV file: a name from its header, an index from 0, or `none`; by
    /// default the last, and none where there are only as many columns as the model has inputs
    #[arg(long, value_name = "NAME|INDEX|none")]
    pub label_column: Option<String>,
    /// Class names in the order of the model's outputs, for data whose labels are names (image
    /// folders, text labels); by default those stored in the model, else in alphabetical order
    #[arg(long, value_delimiter = ',', value_name = "A,B,...")]
    pub classes: Vec<String>,
    /// Scale the images of a folder to this height and width
    #[arg(long, value_name = "HxW", value_parser = parse_size)]
    pub resize: Option<[usize; 2]>,
    /// Shuffle the samples by this seed before a range cuts them: the same seed gives the same
    /// order everywhere
    #[arg(long, value_name = "SEED")]
    pub shuffle: Option<u64>,
}

impl ReadArgs {
    /// Options for a model that takes `expected` and knows `classes`.
    pub fn options(&self, expected: Option<[usize; 3]>, classes: &[String]) -> LoadOptions {
        LoadOptions {
            x_key: self.x_key.clone(),
            y_key: self.y_key.clone(),
            labels: match self.labels.as_deref() {
                None => Labels::Auto,
                Some("none") => Labels::None,
                Some(file) => Labels::File(file.into()),
            },
            label_column: self.label_column.clone(),
            layout: self.layout,
            expected,
            resize: self.resize,
            classes: if self.classes.is_empty() {
                classes.to_vec()
            } else {
                self.classes.clone()
            },
            shuffle: self.shuffle,
            take: None,
        }
    }
}

fn parse_size(s: &str) -> Result<[usize; 2], String> {
    let size = s
        .split_once(['x', 'X'])
        .and_then(|(h, w)| Some([h.parse().ok()?, w.parse().ok()?]));
    match size {
        Some([h, w]) if (1..=8192).contains(&h) && (1..=8192).contains(&w) => Ok([h, w]),
        _ => Err("a size is HEIGHTxWIDTH, as 32x32".into()),
    }
}

/// Reads a path with an optional range.
pub fn spec_parser() -> impl TypedValueParser<Value = DataSpec> {
    // A path that is not text is a path all the same; ranges are text.
    OsStringValueParser::new().try_map(|s| match s.to_str() {
        Some(text) => text
            .parse::<DataSpec>()
            .map_err(|e| format!("{e}; {}", e.help())),
        None => Ok(DataSpec {
            path: s.into(),
            take: None,
        }),
    })
}

/// From raw data to what the float network takes: real = (raw * scale - mean) / std.
#[derive(Clone, Debug, Default, Args)]
#[command(
    next_help_heading = "Preprocessing: real = (raw * scale - mean) / std, as in training; a .qmend brings its own"
)]
pub struct PreprocessArgs {
    /// Factor on every raw value, a number or a fraction: 1/255 where the network was trained on
    /// pixels from 0 to 1; by default 1
    #[arg(long, value_name = "FACTOR", allow_hyphen_values = true, value_parser = parse_factor)]
    pub scale: Option<f32>,
    /// Subtracted after scaling: one number for all channels, or one a channel; by default 0
    #[arg(long, value_name = "A,B,C", allow_hyphen_values = true, value_delimiter = ',', value_parser = parse_factor)]
    pub mean: Vec<f32>,
    /// Divisor after that: one number for all channels, or one a channel; by default 1
    #[arg(long, value_name = "A,B,C", allow_hyphen_values = true, value_delimiter = ',', value_parser = parse_factor)]
    pub std: Vec<f32>,
}

impl PreprocessArgs {
    /// Whether nothing was given.
    pub fn is_empty(&self) -> bool {
        self.scale.is_none() && self.mean.is_empty() && self.std.is_empty()
    }

    /// The preprocessing for a network with `channels` input channels.
    ///
    /// # Errors
    /// A factor or divisor of zero, or as many numbers as there are no channels.
    pub fn preprocess(&self, channels: usize) -> Result<Preprocess, UserError> {
        for (name, v) in [("--mean", &self.mean), ("--std", &self.std)] {
            if v.len() > 1 && v.len() != channels {
                return Err(UserError::new(
                    format!(
                        "{name} has {} numbers, but the model's input has {channels} channels",
                        v.len()
                    ),
                    "give one number for all channels, or one a channel, separated by commas",
                ));
            }
        }
        if self.scale == Some(0.0) || self.std.contains(&0.0) {
            return Err(UserError::new(
                "--scale and --std cannot be 0",
                "give the numbers that the training used",
            ));
        }
        Ok(Preprocess {
            scale: self.scale.unwrap_or(1.0),
            mean: self.mean.clone(),
            std: self.std.clone(),
        })
    }

    /// Refuses preprocessing where the model brings its own.
    ///
    /// # Errors
    /// [`UserError`] where any was given.
    pub fn refuse_for(&self, model: &std::path::Path) -> Result<(), UserError> {
        if self.is_empty() {
            return Ok(());
        }
        Err(UserError::new(
            format!(
                "{}: the preprocessing is stored in the model, so --scale, --mean and --std do not apply",
                model.display()
            ),
            "leave them out; to change them, quantize the float network again",
        ))
    }
}

/// A finite number, or a fraction such as 1/255.
pub fn parse_factor(s: &str) -> Result<f32, String> {
    let number = |t: &str| t.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    let value = match s.split_once('/') {
        Some((a, b)) => number(a)
            .zip(number(b))
            .filter(|(_, b)| *b != 0.0)
            .map(|(a, b)| a / b),
        None => number(s),
    };
    value
        .map(|v| v as f32)
        .filter(|v| v.is_finite())
        .ok_or_else(|| "not a number or a fraction".to_string())
}

/// What runs the float network.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Float network")]
pub struct BackendArgs {
    /// Burn backend that runs the float network: flex, or ndarray in a build with that feature
    #[arg(long, default_value = "flex", value_name = "flex|ndarray", value_parser = parse_backend)]
    pub backend: Backend,
}

fn parse_backend(s: &str) -> Result<Backend, String> {
    s.parse()
        .map_err(|e: crate::float::FloatError| e.to_string())
}

/// What runs an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DeviceArg {
    /// The device's engine on this machine.
    #[default]
    Host,
    /// The firmware on an emulated board.
    Qemu(Machine),
    /// A board at a port.
    Port(PortName),
    /// A board behind a debug probe, by RTT: its chip.
    Probe(String),
    /// A board behind a debugger with a GDB server, by RTT: HOST:PORT.
    Gdb(String),
}

impl std::fmt::Display for DeviceArg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceArg::Host => f.write_str("host"),
            DeviceArg::Qemu(m) if *m == qemu::MPS2_AN386 => f.write_str("qemu"),
            DeviceArg::Qemu(m) => write!(f, "qemu:{}", m.name),
            DeviceArg::Port(name) => write!(f, "serial:{name}"),
            DeviceArg::Probe(chip) => write!(f, "probe:{chip}"),
            DeviceArg::Gdb(address) => write!(f, "gdb:{address}"),
        }
    }
}

impl std::str::FromStr for DeviceArg {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s.split_once(':') {
            None if s == "host" => Ok(DeviceArg::Host),
            None if s == "qemu" => Ok(DeviceArg::Qemu(qemu::MPS2_AN386)),
            Some(("qemu", name)) => parse_machine(name).map(DeviceArg::Qemu),
            Some(("serial", name)) => name.parse().map(DeviceArg::Port),
            Some(("probe", chip)) if !chip.is_empty() => Ok(DeviceArg::Probe(chip.into())),
            Some(("gdb", address)) if address.contains(':') => Ok(DeviceArg::Gdb(address.into())),
            _ => Err(
                "devices are host, qemu, qemu:MACHINE, serial:PORT, serial:tcp:HOST:PORT, gdb:HOST:PORT and probe:CHIP".into(),
            ),
        }
    }
}

/// A machine by QEMU's name for it.
pub fn parse_machine(name: &str) -> Result<Machine, String> {
    let names = qemu::MACHINES.map(|m| m.name).join(", ");
    qemu::MACHINES
        .into_iter()
        .find(|m| m.name == name)
        .ok_or_else(|| format!("the machines are {names}"))
}

/// A debug probe: names and meanings as in probe-rs's own tools.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Debug probe (in builds with the feature `probe`)")]
pub struct ProbeArgs {
    /// The chip behind the probe, as `probe-rs chip list` names it; its agent speaks by RTT
    /// (firmware/build.sh --rtt)
    #[arg(long, value_name = "CHIP")]
    pub chip: Option<String>,
    /// Which probe, where there are several: VID:PID or VID:PID:SERIAL
    #[arg(long, value_name = "VID:PID[:SERIAL]", requires = "chip")]
    pub probe: Option<String>,
    /// The wires' protocol
    #[arg(long, value_name = "swd|jtag", requires = "chip", ignore_case = true, value_parser = ["swd", "jtag"])]
    pub protocol: Option<String>,
    /// Speed of the wires in kHz
    #[arg(long, value_name = "KHZ", requires = "chip")]
    pub speed: Option<u32>,
    /// Attach while the chip is held in reset: where its program turns the debug port off
    #[arg(long, requires = "chip")]
    pub connect_under_reset: bool,
    /// A file that describes chips which are not built in, as probe-rs's `target-gen` makes it
    #[arg(long, value_name = "FILE.yaml", requires = "chip")]
    pub chip_description_path: Option<PathBuf>,
}

/// Where an image is written.
#[derive(Clone, Debug, Args)]
pub struct ImageOutputArgs {
    /// The file to write: an image (.qmend) or, where a command says so, a .tflite
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
    /// Replace files that exist
    #[arg(long)]
    pub force: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_may_be_fractions() {
        assert_eq!(parse_factor("1/255"), Ok(1.0 / 255.0));
        assert_eq!(parse_factor("-0.5"), Ok(-0.5));
        for bad in ["", "1/0", "a", "nan", "inf", "1/2/3", "1e300"] {
            assert!(parse_factor(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn preprocessing_must_fit_the_channels() {
        let p = PreprocessArgs {
            mean: vec![0.1, 0.2],
            ..Default::default()
        };
        assert!(
            p.preprocess(3)
                .unwrap_err()
                .to_string()
                .contains("2 numbers")
        );
        assert_eq!(p.preprocess(2).unwrap().mean, [0.1, 0.2]);
        assert!(
            PreprocessArgs {
                std: vec![0.0],
                ..Default::default()
            }
            .preprocess(1)
            .is_err()
        );
        assert!(
            PreprocessArgs::default()
                .preprocess(1)
                .unwrap()
                .is_identity()
        );
    }

    #[test]
    fn devices_read_back_as_they_are_shown() {
        for name in [
            "host",
            "qemu",
            "qemu:microbit",
            "serial:/dev/ttyACM0",
            "serial:tcp:a:1",
            "gdb:localhost:3333",
            "probe:STM32F405RGTx",
        ] {
            assert_eq!(
                name.parse::<DeviceArg>().map(|d| d.to_string()),
                Ok(name.into())
            );
        }
        for bad in ["", "qemu:", "qemu:nothing", "host:1", "serial:", "gdb"] {
            assert!(bad.parse::<DeviceArg>().is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_height_by_width() {
        assert_eq!(parse_size("32x48"), Ok([32, 48]));
        for bad in ["32", "0x3", "axb", "9999x1"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
