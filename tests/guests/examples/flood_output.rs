//! Answers with many bytes; the input is their number.

guests::guest!("flood-output", [], |input, _| guests::done("x".repeat(input.trim().parse().unwrap_or(0))));
