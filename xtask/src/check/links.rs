//! What a process must not contain, by what its package depends on in a build of its own.

use crate::run::Run;
use anyhow::bail;

/// Package, what it must not link, why.
const BANS: &[(&str, &str, &str)] = &[
    ("runner", "cranelift-codegen", "the runner has no compiler: native code comes from vteam-compile only"),
    ("runner", "wasmtime-internal-cranelift", "the runner has no compiler"),
    ("runner", "rusqlite", "the runner has no database"),
    ("runner", "reqwest", "the runner does not dial out but to its server"),
    ("server", "wasmtime", "the server runs no plugin"),
    ("cli", "wasmtime", "the command runs no plugin"),
    ("confine", "tokio", "the launcher is one small static program"),
    ("confine", "wasmtime", "the launcher runs programs, not plugins"),
    ("compile", "tokio-tungstenite", "the compiler talks to nobody"),
    ("operator", "rusqlite", "the operator has no database"),
    ("operator", "wasmtime", "the operator runs no plugin"),
    ("resources", "kube-core", "the types serve one machine too"),
    ("model", "tokio", "the vocabulary is pure"),
];

pub(super) fn check() -> anyhow::Result<()> {
    let mut broken = Vec::new();
    for (package, banned, why) in BANS {
        if links(package, banned)? {
            broken.push(format!("{package} links {banned}: {why}"));
        }
    }
    if !broken.is_empty() {
        bail!("{}", broken.join("\n"));
    }
    Ok(())
}

fn links(package: &str, banned: &str) -> anyhow::Result<bool> {
    let flags = ["tree", "--package", package, "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let tree = Run::cargo().args(flags).text()?;
    Ok(tree.lines().any(|line| line.split(' ').next() == Some(banned)))
}
