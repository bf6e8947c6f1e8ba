//! The `vteam` command.

fn main() -> std::process::ExitCode {
    cli::main()
}
