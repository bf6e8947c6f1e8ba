//! Answers with its input.

guests::guest!("echo", [], |input, _| guests::done(input));
