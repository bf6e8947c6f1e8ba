//! What this machine lacks for a cluster. Nothing is installed: whoever runs this decides.

use super::cgroup;
use anyhow::bail;
use std::path::PathBuf;

/// Program, and the Debian package that has it.
const PROGRAMS: &[(&str, &str)] = &[
    ("runc", "runc"),
    ("nft", "nftables"),
    ("iptables-nft", "iptables"),
    ("ipset", "ipset"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("mount", "mount"),
];

/// # Errors
/// All that is missing, in one message.
pub(super) fn check() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    if !rustix::process::geteuid().is_root() {
        missing.push("it must run as root: it makes namespaces, mounts and cgroups".to_owned());
    }
    let controllers = cgroup::missing();
    if !controllers.is_empty() {
        missing.push(format!(
            "the cgroup controllers {} are not there: mount cgroup v2 (or v1) at /sys/fs/cgroup",
            controllers.join(", ")
        ));
    }
    let absent: Vec<_> = PROGRAMS.iter().filter(|(program, _)| find(program).is_none()).collect();
    if !absent.is_empty() {
        let programs: Vec<&str> = absent.iter().map(|(program, _)| *program).collect();
        let packages: Vec<&str> = absent.iter().map(|(_, package)| *package).collect();
        missing.push(format!(
            "not found: {}; on Debian: apt-get install --no-install-recommends {}",
            programs.join(", "),
            packages.join(" ")
        ));
    }
    if !missing.is_empty() {
        bail!("no cluster can be started here:\n  {}", missing.join("\n  "));
    }
    Ok(())
}

/// Where a program is: on PATH, or where administrators' programs are though an ordinary PATH leaves them out.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let more = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// What a process of the cluster has as PATH, besides the cluster's own programs.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The Go toolchain.
pub(super) fn go() -> anyhow::Result<PathBuf> {
    let usual = PathBuf::from("/usr/local/go/bin/go");
    match find("go").or_else(|| usual.is_file().then_some(usual)) {
        Some(go) => Ok(go),
        None => bail!(
            "Go 1.26 or newer is needed once to build the cluster's programs: see https://go.dev/doc/install, \
             or set KUBEBUILDER_ASSETS to a folder that has them"
        ),
    }
}
