//! `qmend diff`

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::context::{Context, Done};
use super::models;
use crate::export::patch::{apply_patch, changed_ranges, write_patch};

/// Write what changed between two integer models as a patch, which `flash --patch` sends to a
/// device
///
/// The patch holds the lengths and CRCs of both images and the changed bytes alone: what a repair
/// changes goes over a slow link in seconds. It applies to exactly the image of BASE, and gives
/// exactly that of TARGET. Where TARGET is signed, its signature lies behind the patch.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The integer model that the device has (.qmend, int8 .tflite)
    base: PathBuf,
    /// The integer model that it is to have
    target: PathBuf,
    /// The patch to write (.qpatch)
    #[arg(long, short, value_name = "FILE.qpatch")]
    output: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    context.check_targets([&args.output], &[&args.base, &args.target], args.force)?;
    let base = models::load_integer(&args.base)?.image;
    let signed = models::load_integer(&args.target)?;
    let target = &signed.image[..];
    let mut patch = write_patch(&base, target)?;
    // What is sent to a device has been applied once.
    let same = apply_patch(&base, &patch)? == target;
    anyhow::ensure!(
        same,
        "the patch does not give the target: please report this"
    );
    let bare = patch.len();
    // Who signed the target has signed what the patch gives.
    let block = signed.signed_image().split_off(target.len());
    patch.extend(&block);
    context.write(&args.output, &patch, args.force)?;
    let ranges = changed_ranges(&base, target);
    let changed: usize = ranges.iter().map(|r| r.1).sum();
    let share = patch.len() as f64 / target.len().max(1) as f64;
    context.say(format_args!(
        "{changed} bytes differ, in {} ranges; wrote {} ({} bytes, {:.1} % of the image's {})",
        ranges.len(),
        args.output.display(),
        patch.len(),
        100.0 * share,
        target.len()
    ));
    let listed: Vec<_> = ranges
        .iter()
        .map(|(offset, bytes)| json!({"offset": offset, "bytes": bytes}))
        .collect();
    Ok(Done::new(json!({
        "base": args.base,
        "target": args.target,
        "output": args.output,
        "base_bytes": base.len(),
        "target_bytes": target.len(),
        "changed_bytes": changed,
        "ranges": listed,
        "patch_bytes": patch.len(),
        "signed": patch.len() > bare,
        "share": share,
    })))
}
