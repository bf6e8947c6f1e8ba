//! Prints a little on each stream, the last line without its end.

guests::guest!("print", [], |_, _| {
    println!("to stdout");
    eprintln!("to stderr");
    guests::bindings::vteam::plugin::log::write(
        guests::bindings::vteam::plugin::log::Level::Error,
        "to the log",
    );
    guests::bindings::vteam::plugin::progress::emit("message", "\"half way\"");
    eprint!("unfinished");
    guests::done("printed")
});
