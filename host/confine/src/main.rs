//! `vteam-exec`: see [`confine::launch`].

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    confine::launch::main(&arguments)
}
