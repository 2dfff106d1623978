//! The `qmend` command.

fn main() -> std::process::ExitCode {
    qmend::cli::main()
}
