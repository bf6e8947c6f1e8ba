//! How `vteam-compile` confines itself.

use crate::domain::Domain;
use crate::seccomp::{self, Profile};
use crate::{ConfineError, Confined, Features, privileges};
use rustix::process::Resource;

const ADDRESS_SPACE_BYTES: u64 = 4 << 30;
const CPU_SECONDS: u64 = 120;

/// Confines the calling process for good. Call it on the only thread, after the component was read from standard input.
///
/// Afterwards there are no files, no sockets and no programs; open descriptors, memory (4 GiB of address space),
/// threads and two minutes of processor time stay.
///
/// # Errors
/// When a step fails. The process must end then.
pub fn compiler(features: Features) -> Result<Confined, ConfineError> {
    let bounding_set_empty = privileges::give_up().map_err(ConfineError::Privileges)?;
    privileges::hide().map_err(ConfineError::Privileges)?;
    for (resource, most) in [
        (Resource::As, ADDRESS_SPACE_BYTES),
        (Resource::Cpu, CPU_SECONDS),
        (Resource::Core, 0),
        (Resource::Nofile, 64),
    ] {
        privileges::limit(resource, most).map_err(ConfineError::Limits)?;
    }
    Domain::default().enter(features.landlock_abi).map_err(ConfineError::Landlock)?;
    if features.seccomp {
        seccomp::allow_only(Profile::Compiler)
            .and_then(|filter| seccomp::install(&filter))
            .map_err(ConfineError::Seccomp)?;
    }
    Ok(Confined { landlock_abi: features.landlock_abi, bounding_set_empty })
}
