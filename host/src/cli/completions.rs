//! `qmend completions`

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::context::Done;

/// Print shell completions
///
/// For bash: `qmend completions bash > ~/.local/share/bash-completion/completions/qmend`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell to write them for
    shell: Shell,
}

pub fn run(args: &Args) -> anyhow::Result<Done> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "qmend", &mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(Done {
        fields: serde_json::json!({"shell": args.shell.to_string(), "script": text}),
        holds: true,
        plain: Some(text),
    })
}
