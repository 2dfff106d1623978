//! The command line: one file a subcommand, shared arguments in [`args`].
//!
//! Words for people go to the standard error stream; with `--json` a command prints exactly one
//! object on the standard output, `error` in it where it failed. Exit codes: 0 done, 1 a check failed (outputs differ, a
//! certificate does not hold), 2 an error.

mod args;
mod bench;
mod compare;
mod completions;
mod context;
mod demo;
mod diff;
mod eval;
mod export;
mod flash;
mod inspect;
mod interrupt;
mod keygen;
mod layers;
mod localize;
mod models;
mod on_device;
mod pair;
mod probe;
mod quantize;
mod repair;
mod sign;
mod stages;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

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
Data: .npz, .npy, IDX, CSV (each of the last two also as .gz) or a folder with one sub-folder of \
png, jpeg or bmp images a class. Any of them may be cut: FILE:0..2500 takes the first 2,500 samples, \
so one file can be split into disjoint calibration, repair, holdout and test sets.

With --json a command prints one object on the standard output: `schema`, `command`, and its own \
keys, or `error` with `message` and `help`.

Exit codes: 0 done, 1 a check failed, 2 an error, 130 ended by a second Ctrl-C.";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::Args),
    Quantize(quantize::Args),
    Localize(localize::Args),
    Repair(Box<repair::Args>),
    Eval(eval::Args),
    Compare(compare::Args),
    Export(export::Args),
    Inspect(inspect::Args),
    Verify(verify::Args),
    Diff(diff::Args),
    Flash(flash::Args),
    Keygen(keygen::Args),
    Sign(sign::Args),
    Bench(bench::Args),
    Completions(completions::Args),
}

/// Runs the command line and says how it ended.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    let context = Context::new(&cli.global);
    let (name, result) = match start(&cli.global) {
        Err(e) => ("", Err(e)),
        Ok(()) => match &cli.command {
            Command::Demo(a) => ("demo", demo::run(a, &context)),
            Command::Quantize(a) => ("quantize", quantize::run(a, &context)),
            Command::Localize(a) => ("localize", localize::run(a, &context)),
            Command::Repair(a) => ("repair", repair::run(a, &context)),
            Command::Eval(a) => ("eval", eval::run(a, &context)),
            Command::Compare(a) => ("compare", compare::run(a, &context)),
            Command::Export(a) => ("export", export::run(a, &context)),
            Command::Inspect(a) => ("inspect", inspect::run(a, &context)),
            Command::Verify(a) => ("verify", verify::run(a, &context)),
            Command::Diff(a) => ("diff", diff::run(a, &context)),
            Command::Flash(a) => ("flash", flash::run(a, &context)),
            Command::Keygen(a) => ("keygen", keygen::run(a, &context)),
            Command::Sign(a) => ("sign", sign::run(a, &context)),
            Command::Bench(a) => ("bench", bench::run(a, &context)),
            Command::Completions(a) => ("completions", completions::run(a)),
        },
    };
    match result.and_then(|done| finish(name, done, &context)) {
        Ok(code) => code,
        Err(e) => {
            context::print_error(&e);
            if context.json {
                // Where even this cannot be written, the error above has said so.
                let _ = print_json(name, context::error_json(&e));
            }
            ExitCode::from(2)
        }
    }
}

/// Help and version, which clap hands over as errors, and arguments that are wrong.
fn usage(e: &clap::Error) -> ExitCode {
    let _ = e.print();
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    if e.use_stderr() && args.iter().any(|a| a == "--json") {
        let cli = Cli::command();
        let name = args.iter().find_map(|a| cli.find_subcommand(a));
        let text = e.render().to_string();
        let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
        let fields = serde_json::json!({"error": {"message": message, "help": null}});
        let _ = print_json(name.map_or("", clap::Command::get_name), fields);
    }
    ExitCode::from(if e.use_stderr() { 2 } else { 0 })
}

/// Prints the object of a command.
fn print_json(name: &str, fields: serde_json::Value) -> std::io::Result<()> {
    print(&format!("{:#}\n", crate::report::document(name, fields)))
}

fn print(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
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
    let printed = match done.plain {
        Some(text) if !context.json => print(&text),
        _ if context.json => print_json(name, done.fields),
        _ => Ok(()),
    };
    match printed {
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
