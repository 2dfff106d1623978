//! `qmend sign`

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::json;

use super::context::{Context, Done, UserError};
use super::models;
use crate::export::signature::{SigningKey, VerifyingKey, check};

/// Sign an integer model, for devices that take signed models only
///
/// The result is the image with a block behind it: length, CRC-32 and SHA-512 of the image, the
/// version, and the Ed25519 signature of these. Every command reads it as the model that it is;
/// `flash` and `diff` hand the signature on, `inspect --key` verifies it. A device with rollback
/// protection takes no version below the highest that it has had.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The integer model (.qmend, int8 .tflite); a signature that it has is replaced
    model: PathBuf,
    /// The private key, of `qmend keygen`
    #[arg(long, short, value_name = "FILE")]
    key: PathBuf,
    /// The signed model to write; by default the model's name with .signed.qmend
    #[arg(long, short, value_name = "FILE.qmend")]
    output: Option<PathBuf>,
    /// Which version of the model this is, from 1: give each release a higher one
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    version: u32,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let output = match &args.output {
        Some(output) => output.clone(),
        None => args.model.with_extension("signed.qmend"),
    };
    context.check_targets([&output], &[&args.model, &args.key], args.force)?;
    let key = signing_key(&args.key, context)?;
    let file = models::load_integer(&args.model)?;
    let block = key.sign(&file.image, args.version)?;
    // What is handed on has been verified once.
    check(&file.image, &block, Some(&key.public()))?;
    let bytes = [&file.image[..], &block.to_bytes()].concat();
    context.write(&output, &bytes, args.force)?;
    let id = key.public().id();
    context.say(format_args!(
        "wrote {}: version {}, signed with key {id}",
        output.display(),
        args.version
    ));
    Ok(Done::new(json!({
        "model": args.model,
        "output": output,
        "version": args.version,
        "key_id": id,
        "image_bytes": file.image.len(),
        "bytes": bytes.len(),
    })))
}

/// Reads a private key's file.
fn signing_key(path: &Path, context: &Context) -> Result<SigningKey> {
    let text = key_text(path)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_or(0, |m| m.permissions().mode());
        if mode & 0o077 != 0 {
            context.warn(format_args!(
                "{}: others can read this private key; `chmod 600` it",
                path.display()
            ));
        }
    }
    #[cfg(not(unix))]
    let _ = context;
    Ok(SigningKey::from_pem(&text).map_err(|e| {
        UserError::new(
            format!("{}: {e}", path.display()),
            "give the private key that `qmend keygen -o FILE` wrote",
        )
    })?)
}

/// Reads a public key's file.
pub fn verifying_key(path: &Path) -> Result<VerifyingKey> {
    let text = key_text(path)?;
    Ok(VerifyingKey::from_pem(&text).map_err(|e| {
        UserError::new(
            format!("{}: {e}", path.display()),
            "give the public key that `qmend keygen` wrote beside the private one (.pub)",
        )
    })?)
}

/// A key file has a few hundred bytes; of a longer one, the beginning says that it is none.
fn key_text(path: &Path) -> Result<String> {
    use std::io::Read;
    let shown = || path.display().to_string();
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(1 << 14).read_to_end(&mut bytes))
        .with_context(shown)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
