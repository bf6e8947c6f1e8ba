//! `cluster`: a Kubernetes of one node on this machine, real down to runc, that leaves nothing behind.
//!
//! Everything runs in one process tree with network, mount and PID namespaces of its own and below one cgroup. Inside,
//! `/run`, `/var/lib` and `/var/log` are folders of the state folder, so all programs use their usual paths and the
//! machine's stay as they are. Killing what is in the cgroup ends processes, mounts and links at once: that is why
//! [`down`] needs no list of what was started and works after a crash at any point.

mod binaries;
mod cgroup;
mod check;
mod components;
mod down;
mod files;
mod image;
mod init;
mod kubectl;
mod layout;
mod lock;
mod network;
mod node;
mod pki;
mod requirements;
mod status;
mod up;

use crate::run::say;
use clap::Subcommand;
use layout::Layout;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Start it, or see that it runs; says how to reach it.
    Up {
        /// Image archives (OCI or docker) to import.
        images: Vec<PathBuf>,
    },
    /// End it and remove all that it left, also after a crash.
    Down,
    /// What runs and what answers.
    Status {
        #[arg(long)]
        json: bool,
    },
    /// Import image archives (OCI or docker); pods then use them with `imagePullPolicy: Never`.
    LoadImages {
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Prove what is promised of it: starts it, uses it, breaks it, ends it.
    Check,
    /// The cluster's outermost process.
    #[command(hide = true)]
    Node {
        #[arg(long)]
        binaries: PathBuf,
    },
    /// The first process inside.
    #[command(hide = true)]
    Init {
        #[arg(long)]
        binaries: PathBuf,
    },
}

impl Verb {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let layout = Layout::default();
        match self {
            Self::Up { images } => up_and_say(&images),
            Self::Down => down::down(&layout),
            Self::Status { json } => status::show(&layout, json),
            Self::LoadImages { files } => image::load(&layout, &files),
            Self::Check => check::run(&layout),
            Self::Node { binaries } => node::run(&binaries),
            Self::Init { binaries } => init::run(&layout, &binaries),
        }
    }
}

/// A cluster to test against.
pub(crate) struct Cluster {
    /// As `KUBECONFIG` has it; may be a list of files.
    pub(crate) kubeconfig: OsString,
    /// Whether it is the one of this module; else images are the business of whoever made it.
    pub(crate) ours: bool,
}

/// The cluster that `KUBECONFIG` names where it names another one, else ours, started if need be, with these images.
pub(crate) fn ensure(images: &[PathBuf]) -> anyhow::Result<Cluster> {
    let layout = Layout::default();
    let kubeconfig = layout.kubeconfig().into_os_string();
    let named = std::env::var_os("KUBECONFIG").filter(|named| !named.is_empty() && *named != kubeconfig);
    if let Some(kubeconfig) = named {
        return Ok(Cluster { kubeconfig, ours: false });
    }
    up::up(&layout, images)?;
    Ok(Cluster { kubeconfig, ours: true })
}

/// The folder of the cluster's programs, `kubectl` among them.
pub(crate) fn programs() -> anyhow::Result<PathBuf> {
    binaries::folder()
}

/// `PATH` with them first.
pub(crate) fn with_programs(programs: &Path) -> OsString {
    let mut path = programs.as_os_str().to_owned();
    if let Some(rest) = std::env::var_os("PATH") {
        path.push(":");
        path.push(rest);
    }
    path
}

#[expect(clippy::print_stdout, reason = "the lines that a shell evaluates")]
fn up_and_say(images: &[PathBuf]) -> anyhow::Result<()> {
    let cluster = ensure(images)?;
    if cluster.ours {
        // `kubectl`, of the same version, is among them.
        println!("export PATH=\"{}:$PATH\"", programs()?.display());
    } else {
        say("KUBECONFIG names another cluster: that one is used, nothing is started");
    }
    println!("export KUBECONFIG=\"{}\"", cluster.kubeconfig.display());
    Ok(())
}
