//! Images without a registry: archives, and what containerd has of them.

use super::{
    layout::{Layout, PAUSE},
    up,
};
use crate::{binaries, machine::target, run::step};
use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

pub(super) fn load(layout: &Layout, files: &[PathBuf]) -> anyhow::Result<()> {
    ensure!(layout.containerd().exists(), "no cluster runs here: `cargo xtask cluster up` starts one");
    import_all(layout, &up::binaries_of_running()?, files)
}

pub(super) fn import_all(layout: &Layout, binaries: &Path, files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files {
        step(&format!("importing {}", file.display()));
        import(layout, binaries, file, Duration::ZERO)?;
    }
    Ok(())
}

/// Into the namespace that kubelet sees. Waits for a containerd that is just starting.
pub(super) fn import(
    layout: &Layout,
    binaries: &Path,
    file: &Path,
    patience: Duration,
) -> anyhow::Result<()> {
    let file = std::path::absolute(file)?;
    let name = file.display().to_string();
    ensure!(file.is_file(), "there is no {name}");
    let deadline = Instant::now() + patience;
    while !layout.containerd().exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    ctr(layout, binaries, &["images", "import", &name])
        .map(drop)
        .with_context(|| format!("cannot import {name}"))
}

/// Names of the images that are there; containerd also lists them by digest.
pub(super) fn names(layout: &Layout, binaries: &Path) -> anyhow::Result<Vec<String>> {
    let listed = ctr(layout, binaries, &["images", "list", "--quiet"])?;
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    Ok(text.lines().filter(|name| !name.starts_with("sha256:")).map(str::to_owned).collect())
}

fn ctr(layout: &Layout, binaries: &Path, args: &[&str]) -> anyhow::Result<Output> {
    let mut ctr = Command::new(binaries.join("ctr"));
    ctr.arg("--address").arg(layout.containerd()).args(["--namespace", "k8s.io", "--connect-timeout", "5s"]);
    let output = ctr.args(args).stdin(Stdio::null()).output().context("cannot start ctr")?;
    if !output.status.success() {
        bail!("containerd says: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output)
}

/// The image that holds pods' namespaces, and has a program that looks around for `check`.
pub(super) fn pod() -> anyhow::Result<PathBuf> {
    let program = binaries::build_cluster_pod()?;
    let archive = target().join("cluster").join("pod.tar");
    fs::create_dir_all(target().join("cluster"))?;
    write_archive(&archive, PAUSE, &fs::read(program)?)?;
    Ok(archive)
}

/// An OCI image layout in a tar, <https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md>: one layer
/// with one static program, started with `pause` unless a pod says otherwise.
fn write_archive(file: &Path, name: &str, program: &[u8]) -> anyhow::Result<()> {
    let layer = tar_of(&[("pod", program, 0o755)])?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = serde_json::to_vec(&json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Entrypoint": ["/pod"], "Cmd": ["pause"] },
        "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
    }))?;
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }))?;
    let mut described = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    if let Some(described) = described.as_object_mut() {
        described.insert("annotations".into(), json!({ "io.containerd.image.name": name }));
    }
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [described] }))?;
    let blob = |bytes: &[u8]| digest(bytes).replace(':', "/");
    let (layer_at, config_at, manifest_at) = (blob(&layer), blob(&config), blob(&manifest));
    let archive = tar_of(&[
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644),
        ("index.json", &index, 0o644),
        (&format!("blobs/{layer_at}"), &layer, 0o644),
        (&format!("blobs/{config_at}"), &config, 0o644),
        (&format!("blobs/{manifest_at}"), &manifest, 0o644),
    ])?;
    std::io::Write::write_all(&mut File::create(file)?, &archive)?;
    Ok(())
}

/// The same files give the same bytes.
fn tar_of(files: &[(&str, &[u8], u32)]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, bytes, mode) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(bytes.len())?);
        header.set_mode(*mode);
        archive.append_data(&mut header, path, *bytes)?;
    }
    Ok(archive.into_inner()?)
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn descriptor(kind: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": digest(bytes), "size": bytes.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeMap, io::Read};

    #[test]
    fn every_blob_of_an_archive_is_under_its_digest() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a.tar");
        write_archive(&file, "localhost/a:1", b"program").unwrap();
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(File::open(&file).unwrap()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), bytes);
        }
        for (path, bytes) in &files {
            if let Some(named) = path.strip_prefix("blobs/") {
                assert_eq!(named.replace('/', ":"), digest(bytes));
            }
        }
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let manifest = index.pointer("/manifests/0/digest").unwrap().as_str().unwrap();
        assert!(files.contains_key(&format!("blobs/{}", manifest.replace(':', "/"))));
    }
}
