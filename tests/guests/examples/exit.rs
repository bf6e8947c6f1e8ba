//! Exits instead of answering.

guests::guest!("exit", [], |_, _| std::process::exit(3));
