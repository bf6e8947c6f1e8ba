//! The programs of a cluster: from the folder that `KUBEBUILDER_ASSETS` names, else built once from the Go modules below
//! `tests/cluster`, whose `go.sum` pins every source, into a cache.

use super::{
    layout::{cache, configuration, read},
    requirements,
};
use crate::run::{Run, say, step};
use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

struct Module {
    /// Below `tests/cluster`.
    folder: &'static str,
    /// `tool` is what the module's `tool` directives name.
    packages: &'static str,
    programs: &'static [&'static str],
}

const MODULES: &[Module] = &[
    Module {
        folder: "kubernetes",
        packages: "tool",
        programs: &[
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kubelet",
            "kube-proxy",
            "kubectl",
        ],
    },
    Module { folder: "etcd", packages: "tool", programs: &["etcd"] },
    Module {
        folder: "containerd",
        packages: "tool",
        programs: &["containerd", "containerd-shim-runc-v2", "ctr", "host-local", "loopback", "ptp"],
    },
    Module { folder: "coredns", packages: "tool", programs: &["coredns"] },
    Module { folder: "provisioner", packages: ".", programs: &["provisioner"] },
    Module { folder: "router", packages: "tool", programs: &["kube-router"] },
];

/// The folder with all of them; builds them where need be, which takes minutes.
pub(super) fn folder() -> anyhow::Result<PathBuf> {
    if let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").filter(|assets| !assets.is_empty()) {
        let assets = std::path::absolute(assets)?;
        let missing = missing(&assets);
        if !missing.is_empty() {
            let (assets, missing) = (assets.display(), missing.join(", "));
            bail!("KUBEBUILDER_ASSETS names {assets}, which lacks {missing}: unset it to have all built");
        }
        return Ok(assets);
    }
    let folder = cache()?.join(digest()?).join("bin");
    if missing(&folder).is_empty() {
        return Ok(folder);
    }
    build(&folder)?;
    Ok(folder)
}

/// The folder if all is there already.
pub(super) fn built() -> Option<PathBuf> {
    let assets =
        std::env::var_os("KUBEBUILDER_ASSETS").filter(|assets| !assets.is_empty()).map(PathBuf::from);
    let folder = assets.or_else(|| Some(cache().ok()?.join(digest().ok()?).join("bin")))?;
    missing(&folder).is_empty().then_some(folder)
}

fn missing(folder: &Path) -> Vec<&'static str> {
    let programs = MODULES.iter().flat_map(|module| module.programs).copied();
    programs.filter(|program| !folder.join(program).is_file()).collect()
}

/// Names what is built from: another version is another folder.
fn digest() -> anyhow::Result<String> {
    let mut hash = Sha256::new();
    for module in MODULES {
        let folder = configuration().join(module.folder);
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let mut files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        files.sort();
        for file in files {
            let bytes = fs::read(&file)?;
            hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(bytes.len().to_le_bytes());
            hash.update(bytes);
        }
    }
    Ok(hex::encode(hash.finalize()).chars().take(16).collect())
}

fn build(folder: &Path) -> anyhow::Result<()> {
    let go = requirements::go()?;
    let home = folder.parent().context("a folder of binaries is in one")?;
    fs::create_dir_all(home)?;
    let lock = File::create(home.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if missing(folder).is_empty() {
        return Ok(());
    }
    step("building Kubernetes and what it needs from Go modules; once, and it takes minutes");
    for module in MODULES {
        build_module(&go, module, folder)?;
    }
    let missing = missing(folder);
    if !missing.is_empty() {
        bail!("the Go modules did not give {}", missing.join(", "));
    }
    say(&format!("  kept in {}", folder.display()));
    Ok(())
}

fn build_module(go: &Path, module: &Module, folder: &Path) -> anyhow::Result<()> {
    let source = configuration().join(module.folder);
    let beside = folder.with_extension(module.folder);
    fs::create_dir_all(&beside)?;
    let build = Run::new(go)
        .args(["build", "-v", "-trimpath", "-ldflags", &linker_flags(&read(source.join("go.mod")))])
        .arg("-o")
        .arg(&beside)
        .arg(module.packages)
        .dir(&source)
        // Static, whatever C compiler is there.
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly -buildvcs=false");
    watched(build, module.folder)?;
    fs::create_dir_all(folder)?;
    for program in module.programs {
        // etcd's package is called `server`.
        let built = if *program == "etcd" { "server" } else { program };
        fs::rename(beside.join(built), folder.join(program))
            .with_context(|| format!("the build did not give {program}"))?;
    }
    fs::remove_dir_all(&beside)?;
    Ok(())
}

/// Small, and knowing their version: Kubernetes' programs refuse to work with a server of version 0.0.
fn linker_flags(module: &str) -> String {
    let mut required = module.lines().map(|line| line.trim().trim_start_matches("require "));
    let version = required.find_map(|line| line.strip_prefix("k8s.io/kubernetes v")?.split(' ').next());
    let Some(version) = version else { return "-s -w".into() };
    let mut numbers = version.split('.');
    let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let at = "k8s.io/component-base/version";
    format!("-s -w -X {at}.gitVersion=v{version} -X {at}.gitMajor={major} -X {at}.gitMinor={minor}")
}

/// Runs a build that names each package as it is compiled; tells how far it is, and what it said where it fails.
fn watched(build: Run, what: &str) -> anyhow::Result<()> {
    const EVERY: Duration = Duration::from_secs(15);
    let mut child = build.into_command().stderr(Stdio::piped()).spawn().context("cannot start go")?;
    let (started, mut told, mut packages) = (Instant::now(), Instant::now(), 0_u32);
    let mut said = Vec::new();
    say(&format!("  {what}"));
    for line in BufReader::new(child.stderr.take().context("go has no output")?).lines() {
        let line = line?;
        packages += u32::from(!line.starts_with("go: "));
        said.push(line);
        if told.elapsed() > EVERY {
            told = Instant::now();
            say(&format!("  {what}: {packages} packages, {} s", started.elapsed().as_secs()));
        }
    }
    if !child.wait()?.success() {
        let tail = said.iter().rev().take(20).rev().map(String::as_str).collect::<Vec<_>>();
        bail!("{what} could not be built:\n{}", tail.join("\n"));
    }
    say(&format!("  {what}: built in {} s", started.elapsed().as_secs()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_kubernetes_is_linked_in() {
        let check = |module: &str, expected: &str| assert_eq!(linker_flags(module), expected, "{module}");
        let at = "k8s.io/component-base/version";
        check(
            "module m\n\nrequire k8s.io/kubernetes v1.36.3 // indirect\n",
            &format!("-s -w -X {at}.gitVersion=v1.36.3 -X {at}.gitMajor=1 -X {at}.gitMinor=36"),
        );
        check("require (\n\tk8s.io/client-go v0.36.3\n)\n", "-s -w");
    }

    #[test]
    fn every_module_is_pinned() {
        for module in MODULES {
            let sums = read(configuration().join(module.folder).join("go.sum"));
            assert!(sums.contains("h1:"), "{} has no go.sum", module.folder);
        }
    }
}
