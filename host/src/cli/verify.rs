//! `qmend verify`

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;

use super::args::{ReadArgs, parse_spec};
use super::context::{Context, Done, UserError};
use super::inspect::read_certificate;
use super::{models, stages};
use crate::data::DataSpec;
use crate::device::host::{Difference, compare};
use crate::repair::certificate::sha256_hex;

/// Check that an integer model gives the certified results, bit by bit
///
/// With --certificate: the image's hash, the data's hash, and the class and integer outputs of every
/// repaired test are replayed; --data is the repair data, cut and preprocessed as it was at
/// `repair`. With --data alone: the engine that the device runs (interpreting the image in place)
/// is compared with the engine that repair used, output by output.
///
/// Exit code 1 where anything differs.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The integer model (.qmend)
    quant: PathBuf,
    /// Inputs to run: FILE, FOLDER, or either with a range as in FILE:0..2500
    #[arg(long, value_name = "DATA", value_parser = parse_spec)]
    data: DataSpec,
    /// The certificate (.json) that `qmend repair --certificate` wrote
    #[arg(long, value_name = "FILE.json")]
    certificate: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
}

pub fn run(args: &Args, context: &Context) -> Result<Done> {
    let file = models::load_integer(&args.quant)?;
    let model = &file.model;
    let input = model.tensor(model.input);
    let data = stages::data_for(&args.data, &args.read, input.shape, &model.labels, &model.name)?;
    let inputs = data.model_inputs(model);
    let mut fields = json!({"model": args.quant, "image_sha256": sha256_hex(&file.image)});

    let mut holds = true;
    if let Some(path) = &args.certificate {
        let certificate = read_certificate(path)?;
        if certificate.tests != data.len() {
            return Err(UserError::new(
                format!("{} speaks of {} repair tests, {} holds {}", path.display(), certificate.tests, data.source, data.len()),
                "give the repair data with the same range as at `repair`",
            )
            .into());
        }
        let wrong = certificate.replay(model, &file.image, &inputs)?;
        for line in wrong.iter().take(10) {
            context.say(format_args!("does not hold: {line}"));
        }
        if wrong.is_empty() {
            context.say(format_args!("the certificate holds: {} repaired tests replayed", certificate.repaired.len()));
        } else {
            context.say(format_args!("the certificate does not hold in {} points", wrong.len()));
        }
        fields["certificate"] = json!({"holds": wrong.is_empty(), "replayed": certificate.repaired.len(), "wrong": wrong});
        holds &= wrong.is_empty();
    }

    let bar = context.progress.start("compare", 0);
    let result = compare(model, &file.image, &inputs)?;
    bar.finish(&format!("{} inputs", data.len()));
    match &result.first {
        None => context.say(format_args!("identical: {} inputs, {} output integers", result.inputs, result.outputs)),
        Some(Difference { input, operator, element, expected, found }) => context.say(format_args!(
            "{} of {} inputs differ; the first: input {input}, operator {operator}, element {element}: expected {expected}, found {found}",
            result.differing, result.inputs
        )),
    }
    holds &= result.differing == 0;
    fields["device"] = json!(result);
    Ok(Done { fields, holds, plain: None })
}
