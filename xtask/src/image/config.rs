//! An image's configuration and manifest, as the OCI image specification 1.1 writes them.

use crate::image::{layer::Layer, tree::USER};
use model::id::Digest;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// What a container of the image runs unless told otherwise.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) entrypoint: &'static [&'static str],
    pub(crate) arguments: &'static [&'static str],
    pub(crate) environment: &'static [&'static str],
    pub(crate) folder: &'static str,
}

/// Where an image comes from.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) version: String,
    /// The commit; none outside a checkout.
    pub(crate) revision: Option<String>,
    /// Seconds since 1970: of the commit, or `SOURCE_DATE_EPOCH`.
    pub(crate) time: u64,
}

pub(crate) struct About<'a> {
    pub(crate) name: &'a str,
    pub(crate) description: &'a str,
    pub(crate) process: &'a Process,
    pub(crate) licences: &'a str,
}

pub(crate) fn labels(about: &About<'_>, origin: &Origin) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<&str, String> = BTreeMap::from([
        ("title", format!("vteam {}", about.name)),
        ("description", about.description.to_owned()),
        ("version", origin.version.clone()),
        ("created", rfc3339(origin.time)),
        ("licenses", about.licences.to_owned()),
        ("vendor", "vteam".to_owned()),
    ]);
    if let Some(revision) = &origin.revision {
        labels.insert("revision", revision.clone());
    }
    labels.into_iter().map(|(key, value)| (format!("org.opencontainers.image.{key}"), value)).collect()
}

pub(crate) fn config(about: &About<'_>, origin: &Origin, layers: &[Layer]) -> Value {
    let Process { entrypoint, arguments, environment, folder } = about.process;
    let created = rfc3339(origin.time);
    let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.diff_id).collect();
    let history: Vec<Value> =
        layers.iter().map(|_| json!({"created": created, "created_by": "cargo xtask image"})).collect();
    let mut process = Map::new();
    process.insert("User".to_owned(), json!(format!("{USER}:{USER}")));
    process.insert("Env".to_owned(), json!(environment));
    if !entrypoint.is_empty() {
        process.insert("Entrypoint".to_owned(), json!(entrypoint));
    }
    process.insert("Cmd".to_owned(), json!(arguments));
    process.insert("WorkingDir".to_owned(), json!(folder));
    process.insert("Labels".to_owned(), json!(labels(about, origin)));
    json!({
        "created": created,
        "architecture": architecture(),
        "os": "linux",
        "config": process,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    })
}

pub(crate) fn manifest(config: &[u8], layers: &[Layer], labels: &BTreeMap<String, String>) -> Value {
    let layers: Vec<Value> = layers.iter().map(|layer| descriptor(LAYER, &layer.compressed)).collect();
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": layers,
        "annotations": labels,
    })
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len()})
}

/// As Go names it, which is what image configurations hold.
pub(crate) fn architecture() -> &'static str {
    match crate::machine::architecture() {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

pub(crate) fn rfc3339(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

#[cfg(test)]
mod tests {
    use super::{About, Origin, Process, config, labels, manifest};
    use crate::image::{layer::layer, tree::Tree};
    use flate2::Compression;

    const PROCESS: Process =
        Process { entrypoint: &["/bin/x"], arguments: &[], environment: &["A=b"], folder: "/" };

    fn about() -> About<'static> {
        About { name: "server", description: "d", process: &PROCESS, licences: "Apache-2.0" }
    }

    fn origin(revision: Option<&str>) -> Origin {
        Origin { version: "1.2.3".to_owned(), revision: revision.map(str::to_owned), time: 0 }
    }

    #[test]
    fn nobody_is_root_and_everything_is_labelled() {
        let layers = [layer(&Tree::default(), 0, Compression::fast()).unwrap()];
        let config = config(&about(), &origin(Some("abc")), &layers);
        assert_eq!(config.pointer("/config/User").unwrap(), "65532:65532");
        assert_eq!(config.pointer("/created").unwrap(), "1970-01-01T00:00:00Z");
        assert_eq!(config.pointer("/config/Labels/org.opencontainers.image.revision").unwrap(), "abc");
        assert_eq!(config.pointer("/rootfs/diff_ids/0").unwrap(), layers[0].diff_id.as_str());
        assert!(labels(&about(), &origin(None)).keys().all(|key| !key.ends_with("revision")));
    }

    #[test]
    fn a_manifest_names_the_compressed_layer() {
        let layers = [layer(&Tree::default(), 0, Compression::fast()).unwrap()];
        let manifest = manifest(b"{}", &layers, &labels(&about(), &origin(None)));
        let digest = model::id::Digest::of(&layers[0].compressed);
        assert_eq!(manifest.pointer("/layers/0/digest").unwrap(), digest.as_str());
        assert_eq!(manifest.pointer("/config/size").unwrap(), 2);
    }
}
