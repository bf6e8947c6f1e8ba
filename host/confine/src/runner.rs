//! How `vteam-runner` confines itself.

use crate::domain::Domain;
use crate::seccomp::{self, Profile};
use crate::{ConfineError, Confined, Features, privileges};
use std::path::PathBuf;

/// What of the file system a runner keeps. Everything else is out of reach, its own binary included.
#[derive(Debug, Clone)]
pub struct RunnerPaths {
    /// Workspace, journal, temporary folder.
    pub read_write: Vec<PathBuf>,
    /// Such as the folder in which the runner's token is replaced from time to time.
    pub read_only: Vec<PathBuf>,
    pub dial: Dial,
}

/// How the runner reaches its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// A Unix socket. No other family can be opened afterwards.
    Unix,
    /// TCP to this port, for a pod, and Unix sockets, for the launcher's. Below version 4 of Landlock (Linux 6.7) any port.
    Tcp(u16),
}

/// Confines the calling process for good. Call it on the only thread, after the engine's pool was made (that opens
/// `/proc/self/pagemap`) and before any runtime starts: Landlock binds the calling thread and what it starts.
///
/// Afterwards it starts no process and traces none, mounts nothing, makes no namespace, and opens no socket but to
/// dial; threads can still be started. A kernel without Landlock leaves files unrestricted, which the answer says.
///
/// # Errors
/// When a step fails. The process must end then: what it holds is neither the old nor the new state.
pub fn runner(paths: &RunnerPaths, features: Features) -> Result<Confined, ConfineError> {
    let bounding_set_empty = privileges::give_up().map_err(ConfineError::Privileges)?;
    privileges::hide().map_err(ConfineError::Privileges)?;
    privileges::limit(rustix::process::Resource::Core, 0).map_err(ConfineError::Limits)?;
    let tcp_connect = match paths.dial {
        Dial::Unix => Vec::new(),
        Dial::Tcp(port) => vec![port],
    };
    let domain = Domain {
        read: paths.read_only.clone(),
        write: paths.read_write.clone(),
        tcp_connect,
        ..Domain::default()
    };
    domain.enter(features.landlock_abi).map_err(ConfineError::Landlock)?;
    if features.seccomp {
        let profile = Profile::Runner { tcp: matches!(paths.dial, Dial::Tcp(_)) };
        seccomp::allow_only(profile)
            .and_then(|filter| seccomp::install(&filter))
            .map_err(ConfineError::Seccomp)?;
    }
    Ok(Confined { landlock_abi: features.landlock_abi, bounding_set_empty })
}
