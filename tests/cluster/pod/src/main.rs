//! `pause` holds a pod's namespaces; `look FILE NAME` resolves a name, writes its address to a file, and ends.

use std::{net::ToSocketAddrs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["pause"] => loop {
            std::thread::park();
        },
        ["look", file, name] => look(Path::new(file), name),
        _ => ExitCode::from(2),
    }
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is what the pod's log is")]
fn look(file: &Path, name: &str) -> ExitCode {
    let looked = (name, 443).to_socket_addrs().and_then(|mut found| {
        let address = found.next().map(|address| address.ip().to_string()).unwrap_or_default();
        std::fs::write(file, &address)?;
        Ok(address)
    });
    match looked {
        Ok(address) => {
            println!("{name} is {address}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}, {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}
