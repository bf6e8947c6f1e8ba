//! One image as one file: an OCI image layout in a tar, which `ctr images import`, `skopeo copy oci-archive:` and
//! `podman load` read.

use crate::image::config::{MANIFEST, architecture, descriptor};
use model::id::Digest;
use serde_json::json;
use std::collections::BTreeMap;
use tar::{Builder, EntryType, Header};

/// The reference that an import gives the image: repository and tag.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) repository: String,
    pub(crate) tag: String,
}

/// The archive of a manifest and the blobs that it names.
pub(crate) fn archive(reference: &Reference, manifest: &[u8], blobs: &[&[u8]]) -> anyhow::Result<Vec<u8>> {
    let mut files = BTreeMap::new();
    files.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    files.insert("index.json".to_owned(), index(reference, manifest)?);
    for blob in blobs.iter().chain(std::iter::once(&manifest)) {
        let digest = Digest::of(blob);
        files.insert(format!("blobs/{}", digest.as_str().replace(':', "/")), blob.to_vec());
    }
    let mut tar = Builder::new(Vec::new());
    for folder in ["blobs/", "blobs/sha256/"] {
        tar.append_data(&mut header(EntryType::Directory, 0o755, 0), folder, std::io::empty())?;
    }
    for (path, bytes) in &files {
        let mut header = header(EntryType::Regular, 0o644, bytes.len() as u64);
        tar.append_data(&mut header, path, bytes.as_slice())?;
    }
    Ok(tar.into_inner()?)
}

/// Two annotations for one name: the specification's holds the tag, containerd's the whole.
fn index(reference: &Reference, manifest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let Reference { repository, tag } = reference;
    let mut entry = descriptor(MANIFEST, manifest);
    if let Some(entry) = entry.as_object_mut() {
        entry.insert("platform".to_owned(), json!({"architecture": architecture(), "os": "linux"}));
        let names = json!({
            "io.containerd.image.name": format!("{repository}:{tag}"),
            "org.opencontainers.image.ref.name": tag,
        });
        entry.insert("annotations".to_owned(), names);
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    Ok(serde_json::to_vec(&index)?)
}

/// Without a time: nobody unpacks the archive itself, and the image's digest does not hold it.
fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header
}

#[cfg(test)]
mod tests {
    use super::{Reference, archive};
    use model::id::Digest;
    use std::io::Read;

    #[test]
    fn a_layout_with_every_blob_under_its_digest() {
        let reference = Reference { repository: "localhost/vteam/x".to_owned(), tag: "1".to_owned() };
        let bytes = archive(&reference, b"{}", &[b"layer", b"config"]).unwrap();
        assert_eq!(bytes, archive(&reference, b"{}", &[b"config", b"layer"]).unwrap());
        let mut names = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut text = Vec::new();
            entry.read_to_end(&mut text).unwrap();
            if let Some(hex) = name.strip_prefix("blobs/sha256/").filter(|hex| !hex.is_empty()) {
                assert_eq!(Digest::of(&text).as_str(), format!("sha256:{hex}"));
            }
            if name == "index.json" {
                let index: serde_json::Value = serde_json::from_slice(&text).unwrap();
                let names = index.pointer("/manifests/0/annotations").unwrap();
                assert_eq!(names["io.containerd.image.name"], "localhost/vteam/x:1");
            }
            names.push(name);
        }
        assert_eq!(names.len(), 2 + 3 + 2);
        assert_eq!(names.last().map(String::as_str), Some("oci-layout"));
    }
}
