//! Answers with many bytes; the input is their number, or an object for 3 MiB.

guests::guest!("flood-output", [], |input, _| guests::done(
    "x".repeat(input.trim().parse().unwrap_or(3 << 20))
));
