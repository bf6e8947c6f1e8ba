//! Names, addresses and places of the cluster.

use std::path::{Path, PathBuf};

pub(super) const NODE_NAME: &str = "vteam";
/// The machine's end of the link; the node's is [`NODE`].
pub(super) const HOST: &str = "10.250.0.1";
pub(super) const NODE: &str = "10.250.0.2";
pub(super) const LINK_PREFIX: u8 = 24;
pub(super) const PODS: &str = "10.244.0.0/24";
pub(super) const SERVICES: &str = "10.96.0.0/16";
/// The service `kubernetes`: always the first of [`SERVICES`].
pub(super) const API_SERVICE: &str = "10.96.0.1";
pub(super) const API_PORT: u16 = 6443;
pub(super) const LINK: &str = "vteam0";
pub(super) const CGROUP: &str = "vteam-cluster";
pub(super) const PAUSE: &str = "localhost/pause:1";
pub(super) const PROVISIONER: &str = "vteam.dev/folder";

/// The state folder, as the machine sees it. One per machine: addresses, link and cgroup exist only once, too.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) state: PathBuf,
}

impl Default for Layout {
    fn default() -> Self {
        Self { state: "/var/lib/vteam-cluster".into() }
    }
}

/// What of the state folder stands where inside. The last one hides the state folder itself.
pub(super) const INSIDE: &[(&str, &str)] = &[("run", "/run"), ("log", "/var/log"), ("lib", "/var/lib")];

/// Our own files, as the cluster's processes see them.
pub(super) const OURS: &str = "/run/cluster";

impl Layout {
    /// Our own files, as the machine sees them.
    pub(super) fn ours(&self) -> PathBuf {
        self.state.join("run/cluster")
    }

    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.ours().join("admin.kubeconfig")
    }

    pub(super) fn containerd(&self) -> PathBuf {
        self.state.join("run/containerd/containerd.sock")
    }

    pub(super) fn log(&self, of: &str) -> PathBuf {
        self.state.join("log").join(format!("{of}.log"))
    }
}

/// Static configuration of the repository.
pub(super) fn configuration() -> PathBuf {
    crate::machine::repository().join("tests/cluster")
}

/// Where things that outlive a cluster are kept: built binaries.
pub(super) fn cache() -> anyhow::Result<PathBuf> {
    Ok(crate::machine::cache()?.join("cluster"))
}

/// A file's text, without an error: for /proc and the like, where things come and go.
pub(super) fn read(path: impl AsRef<Path>) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_files_agree_with_the_code() {
        let check = |file: &str, words: &[&str]| {
            let text = read(configuration().join(file));
            for word in words {
                assert!(text.contains(word), "{file} does not mention {word}");
            }
        };
        check("Corefile", &[NODE, "/run/cluster/coredns.kubeconfig"]);
        check("cni.conflist", &[PODS]);
        check("containerd.toml", &[PAUSE, "/run/cluster/bin", "/run/cluster/cni"]);
        check("kubelet.yaml", &[NODE, CGROUP, "/run/cluster/pki/ca.crt", "10.96.0.10"]);
        check("objects.yaml", &[NODE, PROVISIONER, "10.96.0.10"]);
    }
}
