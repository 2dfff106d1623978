//! `qmend keygen`

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

use super::context::{Context, Done};
use crate::export::signature::SigningKey;
use crate::report::write_private;

/// Make a key pair for signed models: `sign` takes the private key, firmware the public one
///
/// Ed25519, in the files of OpenSSL: the private key (PKCS#8, readable for its owner alone) and,
/// beside it with `.pub` behind its name, the public one. Firmware that is built with the public key
/// (QMEND_PUBLIC_KEY=key.pub firmware/build.sh) takes nothing that the private key has not signed;
/// without the private key, its models can never be changed again over the link.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The private key to write; the public one gets the same name with .pub behind it
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// Replace files that exist: what the old key signed is of no use to devices with the new one
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let public = beside(&args.output);
    context.check_targets([&args.output, &public], &[], args.force)?;
    let key = SigningKey::generate()?;
    write_private(&args.output, key.to_pem().as_bytes(), args.force)?;
    context.write(&public, key.public().to_pem().as_bytes(), args.force)?;
    let id = key.public().id();
    context.say(format_args!(
        "wrote the private key to {} (keep it secret) and the public key, {id}, to {}",
        args.output.display(),
        public.display()
    ));
    Ok(Done::new(json!({
        "output": args.output,
        "public": public,
        "key_id": id,
    })))
}

fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".pub");
    name.into()
}
