//! The command line: one file a subcommand, shared arguments in [`args`].
//!
//! Words for people go to the standard error stream; with `--json` a command prints exactly one
//! object on the standard output. Exit codes: 0 done, 1 a check failed (outputs differ, a
//! certificate does not hold), 2 an error.

mod args;
mod bench;
mod completions;
mod context;
mod demo;
mod eval;
mod export;
mod inspect;
mod interrupt;
mod localize;
mod models;
mod quantize;
mod repair;
mod stages;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use context::{Context, Done, UserError};

/// Quantize a trained network to integers, repair what quantization broke, and prove that the
/// microcontroller computes the same bits.
///
/// The usual road: `quantize` a float .onnx with a few hundred samples; `repair` the result with
/// samples that the network was not trained on; `eval` both on test data; `verify` the certificate.
/// `qmend demo` walks it on an example of its own.
#[derive(Debug, Parser)]
#[command(name = "qmend", version, max_term_width = 100, arg_required_else_help = true, after_long_help = DATA_HELP)]
pub struct Cli {
    #[command(flatten)]
    global: args::GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

const DATA_HELP: &str = "\
Data: .npz, .npy, IDX, CSV (each of the last two also as .gz) or a folder with one sub-folder of png,
jpeg or bmp images a class. Any of them may be cut: FILE:0..2500 takes the first 2,500 samples, so
one file can be split into disjoint calibration, repair, holdout and test sets.

Exit codes: 0 done, 1 a check failed, 2 an error.";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Quantize(quantize::Args),
    Localize(localize::Args),
    Repair(repair::Args),
    Eval(eval::Args),
    Export(export::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Bench(bench::Args),
    Completions(completions::Args),
}

/// Runs the command line and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = Context::new(&cli.global);
    let (name, result) = match start(&cli.global) {
        Err(e) => ("", Err(e)),
        Ok(()) => match &cli.command {
            Command::Demo(a) => ("demo", demo::run(a, &context)),
            Command::Quantize(a) => ("quantize", quantize::run(a, &context)),
            Command::Localize(a) => ("localize", localize::run(a, &context)),
            Command::Repair(a) => ("repair", repair::run(a, &context)),
            Command::Eval(a) => ("eval", eval::run(a, &context)),
            Command::Export(a) => ("export", export::run(a, &context)),
            Command::Inspect(a) => ("inspect", inspect::run(a, &context)),
            Command::Verify(a) => ("verify", verify::run(a, &context)),
            Command::Bench(a) => ("bench", bench::run(a, &context)),
            Command::Completions(a) => ("completions", completions::run(a)),
        },
    };
    match result.and_then(|done| finish(name, done, &context)) {
        Ok(code) => code,
        Err(e) => {
            context::print_error(&e);
            ExitCode::from(2)
        }
    }
}

fn start(global: &args::GlobalArgs) -> anyhow::Result<()> {
    if let Some(threads) = global.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads as usize)
            .build_global()?;
    }
    Ok(())
}

fn finish(name: &str, done: Done, context: &Context) -> anyhow::Result<ExitCode> {
    let text = match done.plain {
        Some(text) => text,
        None if context.json => format!("{:#}\n", crate::report::document(name, done.fields)),
        None => String::new(),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read our output has seen enough.
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
        Err(e) => {
            return Err(UserError::new(
                format!("the standard output cannot be written: {e}"),
                "send it elsewhere",
            )
            .into());
        }
        Ok(()) => {}
    }
    Ok(if done.holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_argument_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_argument_of_every_command_is_explained() {
        for command in Cli::command().get_subcommands() {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for a in command.get_arguments() {
                let help = a.get_help().map(ToString::to_string).unwrap_or_default();
                assert!(
                    help.len() > 10,
                    "{} {}: {help:?}",
                    command.get_name(),
                    a.get_id()
                );
            }
        }
    }
}
