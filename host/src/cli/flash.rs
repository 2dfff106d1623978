//! `qmend flash`

use std::path::{Path, PathBuf};

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use qmend_shared::link::SlotStatus;
use qmend_shared::link::frame::crc32;
use qmend_shared::slot::Record;
use qmend_shared::slot::boards::{BOARDS, Board};
use serde_json::{Value, json};

use super::args::{ProbeArgs, parse_machine};
use super::context::{Context, Done, UserError};
use super::export::intel_hex;
use super::stages::PORT_LIMIT;
use super::{models, probe};
use crate::device::port::BAUD;
use crate::device::{
    Device, FlashReport, Gdb, LinkDevice, Machine, Port, PortName, Qemu, QemuOptions, Transport,
};
use crate::export::elf::{overlap, read_elf, write_elf};
use crate::export::signature;
use crate::report::Bar;

/// Put an integer model on a device, safely: until it is there, whole and checked, the old one runs
///
/// The device has two slots. The model goes into the one that is not in use, erase sector by erase
/// sector (those that hold the right bytes already are left alone); it is read back and checked;
/// then one record makes it count. A power cut at any point leaves the old model or the new one.
/// What does not fit (flash, memory, format, operators) is refused before anything is erased.
///
/// A signed model (`qmend sign`) or patch is announced by its signature first; a device with a key
/// takes no other.
///
/// --patch sends only what `qmend diff` found changed. --rollback goes back to the model before.
/// --out writes flash contents to a file, for a programmer.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["model", "patch", "rollback"])))]
#[command(group(clap::ArgGroup::new("where").required(true).args(["port", "qemu", "gdb", "chip", "out"])))]
pub struct Args {
    /// The integer model (.qmend, int8 .tflite)
    model: Option<PathBuf>,
    /// Send this patch (.qpatch, of `qmend diff`) to a device that has the model it was made for
    #[arg(long, value_name = "FILE.qpatch")]
    patch: Option<PathBuf>,
    /// Let the device run the model that it had before
    #[arg(long)]
    rollback: bool,
    /// The device's port: a serial port such as /dev/ttyACM0 or COM3, or tcp:HOST:PORT
    #[arg(long, value_name = "PORT")]
    port: Option<PortName>,
    /// Speed of a serial port in bits per second
    #[arg(long, value_name = "N", default_value_t = BAUD, requires = "port")]
    baud: u32,
    /// A board behind a debugger with a GDB server (OpenOCD, pyOCD, probe-rs, J-Link), whose agent
    /// speaks by RTT (firmware/build.sh --rtt)
    #[arg(long, value_name = "HOST:PORT")]
    gdb: Option<String>,
    /// An emulated board, whose flash is empty at the start: to try whether a model fits and runs
    #[arg(long, value_name = "MACHINE", value_parser = parse_machine)]
    qemu: Option<Machine>,
    /// Write the flash contents (slot 0 with its commit record) to this file instead: .hex, .uf2, .elf,
    /// or .bin, which starts at the address that is printed
    #[arg(long, value_name = "FILE", requires = "board", conflicts_with_all = ["patch", "rollback"])]
    out: Option<PathBuf>,
    /// The board that --out is for
    #[arg(long, value_name = "BOARD", value_parser = parse_board, requires = "out")]
    board: Option<Board>,
    /// With --out: put this firmware (.elf, as `firmware/build.sh` makes it) into the file too. With
    /// --chip: write it with the probe first
    #[arg(long, value_name = "FILE.elf", conflicts_with_all = ["port", "qemu", "gdb"])]
    with_firmware: Option<PathBuf>,
    /// Replace the file of --out if it exists
    #[arg(long, requires = "out")]
    force: bool,
    #[command(flatten)]
    probe: ProbeArgs,
}

fn parse_board(name: &str) -> Result<Board, String> {
    let names = BOARDS.map(|b| b.name).join(", ");
    BOARDS
        .into_iter()
        .find(|b| b.name == name)
        .ok_or_else(|| format!("the boards are {names}"))
}

/// What is to be done.
enum What {
    Image(Vec<u8>),
    Patch(Vec<u8>),
    RollBack,
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let what = match (&args.model, &args.patch) {
        (Some(model), _) => What::Image(models::load_integer(model)?.signed_image()),
        (None, Some(patch)) => {
            let bytes = std::fs::read(patch).with_context(|| patch.display().to_string())?;
            What::Patch(bytes)
        }
        (None, None) => What::RollBack,
    };
    if args.probe.chip.is_some() {
        let device = probe::open(&args.probe, args.with_firmware.as_deref(), context)?;
        return on_device(args, context, device, &what);
    }
    if let Some(address) = &args.gdb {
        let device = Gdb::device(address, PORT_LIMIT)?;
        return on_device(args, context, device, &what);
    }
    match (&args.port, args.qemu, &args.out, args.board, what) {
        (Some(port), _, _, _, what) => {
            let device = Port::connect(port, args.baud, PORT_LIMIT)?;
            on_device(args, context, device, &what)
        }
        (None, Some(machine), _, _, what) => {
            let device = Qemu::start(&QemuOptions {
                machine,
                ..QemuOptions::default()
            })?;
            on_device(args, context, device, &what)
        }
        (None, None, Some(out), Some(board), What::Image(image)) => {
            to_file(args, context, out, &board, &image)
        }
        _ => Err(UserError::new(
            "nothing to do",
            "give a model, --patch or --rollback, and --port, --gdb, --chip, --qemu or --out with --board",
        )
        .into()),
    }
}

fn on_device<T: Transport>(
    args: &Args,
    context: &Context,
    mut device: LinkDevice<T>,
    what: &What,
) -> Result<Done> {
    let identity = device.identity().clone();
    context.say(format_args!(
        "{} ({}), firmware {} of {} bytes; room for a model of {} bytes",
        identity.name, identity.core, identity.firmware, identity.code_bytes, identity.slot_bytes
    ));
    let before = device.slots()?;
    let total = match what {
        What::Image(bytes) | What::Patch(bytes) => bytes.len() as u64,
        What::RollBack => 0,
    };
    let bar = context.progress.start("flash", total);
    let mut progress = |done: usize, _: usize| bar.update(done as u64, "");
    let report = match what {
        What::Image(image) => Some(device.flash(image, &mut progress)?),
        What::Patch(patch) => Some(device.flash_patch(patch, &mut progress)?),
        What::RollBack => {
            device.roll_back()?;
            None
        }
    };
    finish(bar, report.as_ref());
    let after = device.slots()?;
    // What counts is also ready to run.
    let (loaded, _, crc) = device.open()?;
    context.say(format_args!(
        "it runs: CRC {crc:08x}, {} operators, {} bytes of memory for tensors",
        loaded.operators,
        loaded.arena_bytes + loaded.input_len + loaded.output_len
    ));
    Ok(Done::new(json!({
        "model": args.model,
        "patch": args.patch,
        "device": identity,
        "before": status_json(&before),
        "after": status_json(&after),
        "flashed": report,
    })))
}

fn finish(bar: Bar, report: Option<&FlashReport>) {
    bar.finish(&match report {
        None => "rolled back".to_string(),
        Some(r) if r.already_there => "the model was there already".to_string(),
        Some(r) if r.sectors == 0 => {
            format!("{} bytes sent and applied, slot {}", r.bytes_sent, r.slot)
        }
        Some(r) => format!(
            "{} of {} sectors written ({} bytes), slot {}",
            r.sectors_sent, r.sectors, r.bytes_sent, r.slot
        ),
    });
}

fn status_json(status: &SlotStatus) -> Value {
    json!({
        "selected": status.selected.map(|s| json!({
            "slot": s.slot, "sequence": s.sequence, "bytes": s.len, "crc": s.crc,
        })),
        "other": status.other.map(|(bytes, crc)| json!({"bytes": bytes, "crc": crc})),
    })
}

/// Slot 0 with a first record.
fn to_file(args: &Args, context: &Context, out: &Path, board: &Board, file: &[u8]) -> Result<Done> {
    let (image, signature) = signature::take(file)?;
    let read = args.model.iter().chain(&args.with_firmware);
    let inputs: Vec<&Path> = read.map(PathBuf::as_path).collect();
    context.check_targets([&out.to_path_buf()], &inputs, args.force)?;
    let slot = board.layout.slots[0];
    if image.len() as u64 > u64::from(board.layout.capacity()) {
        return Err(UserError::new(
            format!(
                "the model has {} bytes, and a slot of {} holds {}",
                image.len(),
                board.name,
                board.layout.capacity()
            ),
            "quantize to fewer bits, or take another board",
        )
        .into());
    }
    let record = Record {
        slot: 0,
        sequence: 1,
        len: image.len() as u32,
        crc: crc32(image),
        version: signature.map_or(0, |s| s.version),
    };
    // Firmware with a key looks for the signature directly before the record.
    let mut records = signature.map_or(Vec::new(), |s| s.to_bytes().to_vec());
    records.extend(record.to_bytes());
    let mut parts = vec![
        (board.address + slot.image.start, image.to_vec()),
        (board.address + slot.records.start, records),
    ];
    let mut entry = 0;
    if let Some(path) = &args.with_firmware {
        let shown = || path.display().to_string();
        let file = std::fs::read(path).with_context(shown)?;
        let (firmware, start) = read_elf(&file).with_context(shown)?;
        parts.extend(firmware);
        entry = start;
        if let Some((a, b)) = overlap(&parts) {
            return Err(UserError::new(
                format!(
                    "{}: what lies at {a:#010x} reaches into what lies at {b:#010x}",
                    path.display()
                ),
                format!("take the firmware of {}, or another --board", board.name),
            )
            .into());
        }
    }
    parts.sort_by_key(|p| p.0);
    let extension = out.extension().unwrap_or_default().to_ascii_lowercase();
    let bytes = match extension.to_str() {
        Some("hex") => hex(&parts)?.into_bytes(),
        Some("uf2") => {
            let family = board.uf2_family.ok_or_else(|| {
                UserError::new(
                    format!("{} takes no UF2 files", board.name),
                    "write a .hex, which its bridge takes",
                )
            })?;
            uf2(&parts, family)
        }
        Some("bin") => flat(&parts)?,
        Some("elf") => write_elf(&parts, entry),
        _ => {
            return Err(UserError::new(
                format!("{}: not one of the known forms", out.display()),
                "give a name that ends in .hex, .uf2, .elf or .bin",
            )
            .into());
        }
    };
    context.write(out, &bytes, args.force)?;
    let address = parts[0].0;
    context.say(format_args!(
        "wrote {} ({} bytes): image at {:#010x}, record at {:#010x}; erase both slots' records first if the board had other models",
        out.display(),
        bytes.len(),
        board.address + slot.image.start,
        board.address + slot.records.start
    ));
    Ok(Done::new(json!({
        "model": args.model,
        "output": out,
        "board": board.name,
        "bytes": bytes.len(),
        "image_bytes": image.len(),
        "image_crc": record.crc,
        "version": record.version,
        "address": address,
        "firmware": args.with_firmware,
        "image_address": board.address + slot.image.start,
        "record_address": board.address + slot.records.start,
    })))
}

fn hex(parts: &[(u32, Vec<u8>)]) -> Result<String, UserError> {
    const END: &str = ":00000001FF\n";
    let mut text = String::new();
    for (address, bytes) in parts {
        let part = intel_hex(bytes, *address)?;
        text += part.strip_suffix(END).unwrap_or(&part);
    }
    Ok(text + END)
}

/// From the first address to the last byte, 0xFF between the parts.
fn flat(parts: &[(u32, Vec<u8>)]) -> Result<Vec<u8>, UserError> {
    let start = parts.first().map_or(0, |p| p.0);
    let mut bytes = Vec::new();
    for (address, part) in parts {
        let at = (address - start) as usize;
        // RAM is no place for a programmer to write to, and far away.
        if at > MAX_FLAT {
            return Err(UserError::new(
                format!("from {start:#010x} to {address:#010x} a .bin would be mostly empty"),
                "write a .hex or .elf",
            ));
        }
        bytes.resize(at, 0xff);
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// The longest gap-filled file: more than any microcontroller's flash.
const MAX_FLAT: usize = 64 << 20;

/// UF2 (Microsoft, "USB Flashing Format"): blocks of 512 bytes with 256 of data each.
fn uf2(parts: &[(u32, Vec<u8>)], family: u32) -> Vec<u8> {
    const FAMILY_PRESENT: u32 = 0x2000;
    // Bootloaders take whole pages of 256 bytes, each once.
    let mut pages: BTreeMap<u32, [u8; 256]> = BTreeMap::new();
    for (address, part) in parts {
        for (at, byte) in (*address..).zip(part) {
            pages.entry(at & !255).or_insert([0xff; 256])[at as usize & 255] = *byte;
        }
    }
    let mut file = Vec::with_capacity(pages.len() * 512);
    for (number, (address, page)) in pages.iter().enumerate() {
        let mut block = Vec::with_capacity(512);
        for word in [
            0x0A32_4655,
            0x9E5D_5157,
            FAMILY_PRESENT,
            *address,
            256,
            number as u32,
            pages.len() as u32,
            family,
        ] {
            block.extend_from_slice(&u32::to_le_bytes(word));
        }
        block.extend_from_slice(page);
        block.resize(508, 0);
        block.extend_from_slice(&0x0AB1_6F30u32.to_le_bytes());
        file.extend(block);
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_hold_every_part_at_its_address() {
        let parts = [(0x0800_FFF0u32, vec![1u8; 300]), (0x0801_1000, vec![2; 32])];
        let bin = flat(&parts).expect("near each other");
        assert_eq!(bin.len(), 0x1010 + 32);
        assert_eq!((bin[299], bin[300], bin[0x1010]), (1, 0xff, 2));

        let blocks = uf2(&parts, 0x5775_5a57);
        // From 0x0800_FFF0 on, the 300 bytes touch three pages.
        assert_eq!(blocks.len(), 4 * 512);
        let word = |block: usize, at: usize| {
            let at = 512 * block + at;
            u32::from_le_bytes(blocks[at..at + 4].try_into().expect("four bytes"))
        };
        assert_eq!(
            [0, 1, 2, 3].map(|b| word(b, 12)),
            [0x0800_FF00, 0x0801_0000, 0x0801_0100, 0x0801_1000]
        );
        assert_eq!([0, 1, 2, 3].map(|b| word(b, 20)), [0, 1, 2, 3]);
        assert_eq!(word(2, 24), 4);
        assert_eq!((word(1, 0), word(1, 508)), (0x0A32_4655, 0x0AB1_6F30));
        // The end of the first page and the beginning of the third.
        let data = |block: usize, at: usize| blocks[512 * block + 32 + at];
        assert_eq!([data(0, 239), data(0, 240), data(0, 255)], [0xff, 1, 1]);
        assert_eq!([data(2, 27), data(2, 28)], [1, 0xff]);

        let text = hex(&parts).expect("below 2^32");
        assert_eq!(text.matches(":00000001FF").count(), 1);
        assert!(text.ends_with(":00000001FF\n"));
        assert_eq!(text.matches(":02000004").count(), 3);
    }
}
