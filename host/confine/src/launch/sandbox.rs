//! What every program of a session gets alike.

use super::args::Options;
use super::{programs, root};
use crate::domain::Domain;
use crate::seccomp::{self, Profile, ProgramProfile};
use crate::{Features, ProgramLimits, privileges};
use protocol::exec::Network;
use seccompiler::BpfProgram;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where programs see the workspace, in a mount namespace.
pub(super) const WORKSPACE: &str = "/workspace";
pub(super) const HOME: &str = "/home/vteam";
pub(super) const TMP: &str = "/tmp";
/// Where the sandbox has the launcher's own binary, for its canaries.
pub(super) const SELF: &str = "/run/vteam-exec";

/// Where the launcher runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In namespaces of its own.
    Namespaces,
    /// Beside everything else, with Landlock and seccomp alone.
    Host { why: String },
}

/// The session's folders on the host.
#[derive(Debug, Clone)]
pub(super) struct Folders {
    pub(super) workspace: PathBuf,
    pub(super) home: PathBuf,
    pub(super) tmp: PathBuf,
    pub(super) this_binary: PathBuf,
    /// The workspace is a person's own folder.
    pub(super) in_place: bool,
    /// What of git's is covered in it.
    pub(super) covers: Vec<PathBuf>,
}

impl Folders {
    /// Without links, as mounts and Landlock need them.
    pub(super) fn real(options: &Options) -> io::Result<Self> {
        Ok(Self {
            workspace: options.workspace.canonicalize()?,
            home: options.home.canonicalize()?,
            tmp: options.tmp.canonicalize()?,
            this_binary: std::env::current_exe()?.canonicalize()?,
            in_place: options.in_place,
            covers: match &options.covers {
                Some(kept) => crate::cover::decided(kept).map_err(io::Error::other)?,
                None => vec![],
            },
        })
    }
}

#[derive(Debug)]
pub(super) struct Sandbox {
    pub(super) place: Place,
    pub(super) features: Features,
    pub(super) limits: ProgramLimits,
    /// The session's folders as the launcher and programs see them.
    pub(super) seen: Folders,
    /// Programs by name, in folders that no program of a session can write.
    pub(super) programs: BTreeMap<String, String>,
    no_network: BpfProgram,
    loopback: BpfProgram,
}

impl Sandbox {
    /// Confines the launcher as far as it can do its work, and prepares what programs get.
    pub(super) fn new(
        place: Place,
        folders: Folders,
        features: Features,
        mut limits: ProgramLimits,
    ) -> Result<Self, super::LaunchError> {
        let failed =
            |source| super::LaunchError::Setup { what: "the launcher cannot confine itself", source };
        privileges::hide().map_err(failed)?;
        let namespaces = place == Place::Namespaces;
        if namespaces {
            rustix::thread::set_no_new_privs(true).map_err(|e| failed(e.into()))?;
        } else {
            privileges::give_up().map_err(failed)?;
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
                .map_err(|e| failed(e.into()))?;
        }
        if features.seccomp {
            seccomp::install(&seccomp::allow_only(Profile::Known)?)?;
        }
        let root = rustix::process::geteuid().is_root();
        let filter = |network| seccomp::refuse_to_programs(ProgramProfile { network, namespaces, root });
        let in_place = folders.in_place;
        let seen = if namespaces { Folders { in_place, ..inside() } } else { folders };
        if in_place {
            // What was there before the session is not the session's.
            limits.disk_bytes = limits.disk_bytes.saturating_add(super::usage::bytes_below(&seen.workspace));
        }
        Ok(Self {
            features,
            limits,
            programs: programs::list(),
            no_network: filter(Network::None)?,
            loopback: filter(Network::Loopback)?,
            seen,
            place,
        })
    }

    pub(super) fn in_namespaces(&self) -> bool {
        self.place == Place::Namespaces
    }

    /// Git's metadata of a person's own folder lie open.
    pub(super) fn git_is_open(&self) -> bool {
        self.seen.in_place && !self.in_namespaces()
    }

    /// Enters the domain and the filter of a program: the last two steps before it starts.
    pub(super) fn confine(&self, network: Network) -> Result<(), crate::ConfineError> {
        self.domain(network).enter(self.features.landlock_abi).map_err(crate::ConfineError::Landlock)?;
        if self.features.seccomp {
            let filter = match network {
                Network::None => &self.no_network,
                Network::Loopback => &self.loopback,
            };
            seccomp::install(filter).map_err(crate::ConfineError::Seccomp)?;
        }
        Ok(())
    }

    fn domain(&self, network: Network) -> Domain {
        let Folders { workspace, home, tmp, this_binary, in_place: _, covers: _ } = &self.seen;
        let mut domain = Domain {
            write: vec![workspace.clone(), home.clone(), tmp.clone()],
            devices: root::DEVICES.iter().map(PathBuf::from).collect(),
            tcp_unrestricted: network == Network::Loopback,
            ..Domain::default()
        };
        if self.in_namespaces() {
            // Whatever is there was put there for programs.
            domain.execute = vec![PathBuf::from("/")];
            domain.write.push(PathBuf::from("/dev/shm"));
        } else {
            domain.execute = root::SYSTEM.iter().map(PathBuf::from).collect();
            domain.execute.extend(domain.write.iter().cloned());
            domain.execute.push(this_binary.clone());
            domain.read = root::ETC.iter().map(PathBuf::from).collect();
            domain.read.extend(["/etc/passwd", "/etc/group", "/etc/nsswitch.conf"].map(PathBuf::from));
        }
        domain
    }

    /// A path as the runner writes it, below [`WORKSPACE`], as programs see it here. `None` when it is not there.
    pub(super) fn path_seen(&self, path: &str) -> Option<PathBuf> {
        let below = Path::new(path).strip_prefix(WORKSPACE).ok()?;
        let plain = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        plain.then(|| self.seen.workspace.join(below))
    }

    /// The other way round; a path elsewhere stays what it is.
    pub(super) fn path_said(&self, path: &Path) -> String {
        let said = match path.strip_prefix(&self.seen.workspace) {
            Ok(below) if below.as_os_str().is_empty() => PathBuf::from(WORKSPACE),
            Ok(below) => Path::new(WORKSPACE).join(below),
            Err(_) => path.to_owned(),
        };
        said.to_string_lossy().into_owned()
    }

    /// Variables of every program.
    pub(super) fn variables(&self) -> BTreeMap<String, String> {
        let path = |path: &Path| path.to_string_lossy().into_owned();
        [
            ("HOME", path(&self.seen.home)),
            ("TMPDIR", path(&self.seen.tmp)),
            ("PATH", programs::FOLDERS.join(":")),
            ("LANG", "C.UTF-8".to_owned()),
            ("TERM", "dumb".to_owned()),
            ("USER", "vteam".to_owned()),
            // The host's configuration is out of reach, which git takes for an error where it sees that there is one.
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

fn inside() -> Folders {
    Folders {
        workspace: WORKSPACE.into(),
        home: HOME.into(),
        tmp: TMP.into(),
        this_binary: SELF.into(),
        in_place: false,
        covers: vec![],
    }
}
