//! The process `vteam-exec`: makes the session's sandbox, tries to break it, then runs programs in it for the runner.
//!
//! On one machine it is started beside the runner with one end of a socket, and ends with it. In a pod it is the first
//! process of the container `tools` and listens at a path that the runner sees too; runners come and go, and when one goes
//! its programs go. Namespaces of its own are then rarely to be had, and Landlock and seccomp hold programs alone:
//!
//! ```text
//! vteam-exec --listen /run/vteam/exec.sock --workspace /workspace --home /home/vteam --tmp /tmp
//! ```
//!
//! It has one thread: it forks for every program, and what a fork of a process with threads may do is next to nothing.

mod args;
mod call;
mod calls;
mod canary;
mod door;
mod inbox;
mod init;
mod namespaces;
mod probe;
mod programs;
mod root;
mod sandbox;
mod serve;
mod usage;

pub use args::{BadArguments, Meeting, Options};

use crate::Features;
use sandbox::{Folders, Sandbox};
use std::process::ExitCode;

/// What `vteam-exec` does with these arguments (without the program's name).
#[must_use]
pub fn main(arguments: &[String]) -> ExitCode {
    if let Some((first, rest)) = arguments.split_first()
        && first == probe::VERB
    {
        return probe::main(rest);
    }
    match Options::parse(arguments).map_err(LaunchError::from).and_then(launch) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LaunchError {
    #[error(transparent)]
    Arguments(#[from] BadArguments),
    #[error("{what}")]
    Setup {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("the system call filters could not be made")]
    Filters(#[from] crate::seccomp::FilterError),
}

fn launch(options: Options) -> Result<(), LaunchError> {
    let failed = |what| move |source| LaunchError::Setup { what, source };
    let door =
        door::Door::open(&options.meeting).map_err(failed("the socket is not open or cannot be made"))?;
    let folders = Folders::real(&options).map_err(failed("a folder of the session is not there"))?;
    let features = Features::of_this_host(&options.masks);
    let sentinel = canary::Sentinel::place(&folders, &options.meeting)
        .map_err(failed("the canaries need a file outside and cannot make one"))?;
    let place = namespaces::enter(&folders, features, &door).map_err(failed("no child could be started"))?;
    let sandbox = Sandbox::new(place, folders, features, options.limits)?;
    serve::serve(door, sandbox, sentinel).map_err(failed("the connection to the runner broke"))
}

#[expect(clippy::print_stderr, reason = "the launcher's log is its standard error")]
pub(crate) fn complain(error: &dyn std::error::Error) {
    eprintln!("vteam-exec: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because {error}");
        cause = error.source();
    }
}
