//! Prints and logs without end of it, and still answers.

guests::guest!("flood-log", [], |_, _| {
    for line in 0..2000 {
        println!("{line} {}", "x".repeat(100));
        eprintln!("{line} {}", "y".repeat(100));
        guests::bindings::vteam::plugin::log::write(
            guests::bindings::vteam::plugin::log::Level::Info,
            &"z".repeat(100),
        );
    }
    guests::done("still here")
});
