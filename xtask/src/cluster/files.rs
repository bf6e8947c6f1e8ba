//! What stands in the state folder before anything is started.

use super::{
    layout::{INSIDE, Layout, configuration},
    pki::{API_CLIENT, Authority, CLIENTS, FRONT_PROXY, Identity, token_key},
};
use anyhow::Context;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// As it stands in the repository, and where below our own files.
const CONFIGURATION: &[(&str, &str)] = &[
    ("containerd.toml", "containerd.toml"),
    ("kubelet.yaml", "kubelet.yaml"),
    ("cni.conflist", "cni/cluster.conflist"),
    ("Corefile", "Corefile"),
];

pub(super) fn write(layout: &Layout) -> anyhow::Result<()> {
    for (folder, _) in INSIDE {
        fs::create_dir_all(layout.state.join(folder))?;
    }
    let ours = layout.ours();
    for folder in ["bin", "cni", "pki", "tmp", "tunables"] {
        fs::create_dir_all(ours.join(folder))?;
    }
    for (from, to) in CONFIGURATION {
        let from = configuration().join(from);
        fs::copy(&from, ours.join(to)).with_context(|| format!("cannot copy {}", from.display()))?;
    }
    identities(&ours)
}

fn identities(ours: &Path) -> anyhow::Result<()> {
    let authority = Authority::new("vteam-cluster")?;
    for client in CLIENTS {
        let file = ours.join(client.file).with_extension("kubeconfig");
        secret(&file, &authority.kubeconfig(client)?)?;
    }
    let front = Authority::new("vteam-cluster-front-proxy")?;
    let pki = ours.join("pki");
    pair(&pki, "ca", &Identity { certificate: authority.certificate(), key: authority.key() })?;
    secret(&pki.join("front-proxy-ca.crt"), &front.certificate())?;
    pair(&pki, "server", &authority.server()?)?;
    pair(&pki, API_CLIENT.file, &authority.client(&API_CLIENT)?)?;
    pair(&pki, FRONT_PROXY.file, &front.client(&FRONT_PROXY)?)?;
    pair(&pki, "tokens", &token_key()?)
}

fn pair(folder: &Path, name: &str, identity: &Identity) -> anyhow::Result<()> {
    secret(&folder.join(name).with_extension("crt"), &identity.certificate)?;
    secret(&folder.join(name).with_extension("key"), &identity.key)
}

/// For its owner alone from the start.
fn secret(file: &Path, text: &str) -> anyhow::Result<()> {
    let mut open = OpenOptions::new();
    let opened = open.write(true).create(true).truncate(true).mode(0o600).open(file);
    let mut opened = opened.with_context(|| format!("cannot write {}", file.display()))?;
    opened.write_all(text.as_bytes())?;
    Ok(())
}
