//! `qmend export`

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::args::{PreprocessArgs, ReadArgs, spec_parser};
use super::context::{Context, Done, UserError};
use super::{models, stages};
use crate::data::DataSpec;
use crate::engine::Engine;
use crate::export::self_test::with_self_tests;
use crate::export::tflite::write_tflite;
use crate::model::QuantizedModel;

/// Write an integer model in the form that a build takes
///
/// By the extension of the file to write: .tflite for TFLite for Microcontrollers, with the same
/// bits (weights of fewer than 8 bits are stored as int8); the bytes that the device runs as .bin,
/// as an array in a C header (.h), as Intel HEX for --address (.hex), or as they are (.qmend).
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The integer model (.qmend, int8 .tflite)
    quant: PathBuf,
    /// The file to write: .tflite, .bin, .h, .hex or .qmend
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Where the image lies in flash, for .hex: decimal, or 0x and hexadecimal
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    address: Option<u32>,
    /// For .tflite: where no float32 scale gives a multiplier that repair has changed, take the
    /// nearest, although some outputs may then differ by one
    #[arg(long)]
    round_multipliers: bool,
    /// Put the first samples of these data (say FILE:0..8) into the image with the outputs that the
    /// model gives for them: `verify --self-test` lets a device run them. Not for .tflite
    #[arg(long, value_name = "DATA", value_parser = spec_parser())]
    self_test: Option<DataSpec>,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    preprocess: PreprocessArgs,
    #[command(flatten)]
    read: ReadArgs,
}

fn parse_address(s: &str) -> Result<u32, String> {
    let parsed = match s.strip_prefix("0x").or_else(|| s.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => s.parse(),
    };
    parsed.map_err(|_| "not an address below 2^32, such as 0x08040000".to_string())
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    context.check_targets([&args.output], &[&args.quant], args.force)?;
    let extension = args
        .output
        .extension()
        .map(|e| e.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    if args.address.is_some() && extension != "hex" {
        return Err(
            UserError::new("--address belongs to .hex", "leave it out, or write a .hex").into(),
        );
    }
    let mut source = models::load_integer(&args.quant)?;
    if let Some(spec) = &args.self_test {
        if extension == "tflite" {
            return Err(UserError::new(
                "a .tflite holds no self-tests",
                "leave out --self-test, or write a .qmend",
            )
            .into());
        }
        let (read, pre) = (&args.read, (&args.preprocess, args.quant.as_path()));
        let data = stages::integer_data(context, spec, read, &mut source, pre)?;
        let inputs = data.model_inputs(&source.model);
        let outputs = Engine::new(&source.model)?.run(&inputs);
        source.image = with_self_tests(&source.image, &inputs, &outputs)?;
    }
    let image = &source.image;
    let mut rounded = 0;
    let bytes = match extension.as_str() {
        "tflite" => {
            say_of_narrow_weights(&source.model, context);
            let written = write_tflite(&source.model, args.round_multipliers)?;
            rounded = written.rounded;
            written.bytes
        }
        "bin" | "qmend" => image.clone(),
        "h" => header(image, &args.output).into_bytes(),
        "hex" => {
            let address = args.address.ok_or_else(|| {
                UserError::new(
                    "a .hex needs to know where the image lies",
                    "give --address, such as --address 0x08040000",
                )
            })?;
            intel_hex(image, address)?.into_bytes()
        }
        _ => {
            return Err(UserError::new(
                format!("{}: not one of the known forms", args.output.display()),
                "give a name that ends in .tflite, .bin, .h, .hex or .qmend",
            )
            .into());
        }
    };
    context.write(&args.output, &bytes, args.force)?;
    if rounded > 0 {
        context.warn(format_args!(
            "the multipliers of {rounded} channels were rounded; some outputs may differ by one"
        ));
    }
    context.say(format_args!(
        "wrote {} ({} bytes)",
        args.output.display(),
        bytes.len()
    ));
    Ok(Done::new(json!({
        "model": args.quant,
        "output": args.output,
        "bytes": bytes.len(),
        "image_bytes": image.len(),
        "rounded_multipliers": rounded,
    })))
}

/// Says that TFLite has no narrower weights than int8.
fn say_of_narrow_weights(model: &QuantizedModel, context: &Context) {
    let widths: BTreeSet<u8> = model.linears().map(|(_, l)| l.bits).collect();
    let narrow: Vec<String> = widths
        .iter()
        .filter(|b| **b < 8)
        .map(u8::to_string)
        .collect();
    if !narrow.is_empty() {
        context.warn(format_args!(
            "weights of {} bits are stored as int8, with the same bits of output but as many bytes as an 8-bit model; the narrow ones stay narrow in an image (.bin, .h, .hex)",
            narrow.join(" and ")
        ));
    }
}

/// An image as a C array, named after the file.
fn header(image: &[u8], path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut name: String = stem
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic()) {
        name.insert_str(0, "model_");
    }
    let guard = format!("{}_H", name.to_ascii_uppercase());
    let mut text = format!(
        "/* A qmend image of {} bytes. */\n#ifndef {guard}\n#define {guard}\n\n#include <stdint.h>\n\n\
         #define {}_SIZE {}u\n\n#if defined(__GNUC__)\n__attribute__((aligned(16)))\n#endif\n\
         static const uint8_t {name}[{}] = {{\n",
        image.len(),
        name.to_ascii_uppercase(),
        image.len(),
        image.len()
    );
    for line in image.chunks(16) {
        let numbers: Vec<String> = line.iter().map(|b| format!("0x{b:02x}")).collect();
        let _ = writeln!(text, "    {},", numbers.join(", "));
    }
    text + &format!("}};\n\n#endif /* {guard} */\n")
}

/// An image as Intel HEX (32-bit addresses, 16 bytes a record).
///
/// # Errors
/// Where the image would reach beyond the address space.
pub(super) fn intel_hex(image: &[u8], address: u32) -> Result<String, UserError> {
    if u64::from(address) + image.len() as u64 > 1 << 32 {
        return Err(UserError::new(
            format!("{} bytes at {address:#x} reach beyond 2^32", image.len()),
            "give a lower --address",
        ));
    }
    let record = |kind: u8, offset: u16, data: &[u8]| {
        let [high, low] = offset.to_be_bytes();
        let mut bytes = vec![data.len() as u8, high, low, kind];
        bytes.extend_from_slice(data);
        let sum = bytes.iter().fold(0u8, |a, b| a.wrapping_add(*b));
        bytes.push(sum.wrapping_neg());
        let digits: String = bytes.iter().map(|b| format!("{b:02X}")).collect();
        format!(":{digits}\n")
    };
    let mut text = String::new();
    let mut upper = None;
    let mut at = 0;
    while at < image.len() {
        let here = address.wrapping_add(at as u32);
        let (high, low) = ((here >> 16) as u16, here as u16);
        if upper != Some(high) {
            text += &record(4, 0, &high.to_be_bytes());
            upper = Some(high);
        }
        // A record does not cross into the next 64 KiB.
        let room = (0x1_0000 - usize::from(low)).min(16);
        let end = (at + room).min(image.len());
        text += &record(0, low, &image[at..end]);
        at = end;
    }
    Ok(text + &record(1, 0, &[]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intel_hex_crosses_into_the_next_64_kib_with_an_address_record() {
        let text = intel_hex(&[0x11; 20], 0x0801_FFF8).expect("it fits");
        // Checksums by hand: the sum of all bytes of a record is 0 modulo 256.
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                ":020000040801F1",
                ":08FFF800111111111111111179",
                ":020000040802F0",
                ":0C000000111111111111111111111111 28",
                ":00000001FF",
            ]
            .map(|l| l.replace(' ', ""))
        );
        for line in lines {
            let sum = (1..line.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&line[i..i + 2], 16).expect("hex"))
                .fold(0u8, u8::wrapping_add);
            assert_eq!(sum, 0, "{line}");
        }
        assert!(intel_hex(&[0; 16], 0xFFFF_FFF1).is_err());
        assert!(intel_hex(&[0; 15], 0xFFFF_FFF1).is_ok());
    }

    #[test]
    fn a_header_holds_every_byte_under_a_name_that_c_takes() {
        let text = header(
            &(0..=255).collect::<Vec<u8>>(),
            Path::new("out/4-bit net.h"),
        );
        assert!(text.contains("static const uint8_t model_4_bit_net[256] = {"));
        assert!(text.contains("#define MODEL_4_BIT_NET_SIZE 256u"));
        assert_eq!(text.matches("0x").count(), 256);
        assert!(text.contains("0xff,\n};"));
    }

    #[test]
    fn addresses_are_decimal_or_hexadecimal() {
        assert_eq!(parse_address("0x08040000"), Ok(0x0804_0000));
        assert_eq!(parse_address("4096"), Ok(4096));
        assert!(parse_address("0x1_0000_0000").is_err());
    }
}
