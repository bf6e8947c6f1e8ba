//! Reads the file that the input names.

guests::guest!("read", ["fs.read"], |input, _| match std::fs::read(input.trim_matches('"')) {
    Ok(bytes) => guests::done(String::from_utf8_lossy(&bytes)),
    Err(error) => guests::failed(error),
});
