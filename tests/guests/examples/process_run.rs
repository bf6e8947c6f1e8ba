//! Runs the program of the input and answers with its output, or detaches it.

#[cfg(target_os = "wasi")]
use guests::bindings::vteam::plugin::process::{self, Event, Next, StartError};

guests::guest!("process-run", ["process"], |input, _| {
    let argv: Vec<String> = input.split(' ').map(str::to_owned).collect();
    let options = [("cwd".to_owned(), "\"src\"".to_owned()), ("env".to_owned(), r#"{"A":"b"}"#.to_owned())];
    let child = match process::start(&argv, &options) {
        Ok(child) => child,
        Err(StartError::Denied(denial)) => return guests::denied(denial),
        Err(error) => return guests::failed(error),
    };
    let mut output = String::new();
    loop {
        match child.next(None) {
            Next::Event(Event::Stdout(bytes) | Event::Stderr(bytes)) => {
                output += &String::from_utf8_lossy(&bytes)
            }
            Next::Event(Event::Other(_)) | Next::Quiet => {}
            Next::End => break,
        }
    }
    guests::done(format!("{output} {:?}", child.exit()))
});
