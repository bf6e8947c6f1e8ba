//! What an image was made of, as CycloneDX 1.6: crates with their digests from Cargo.lock, Debian packages, plugins.

use crate::{
    image::{
        config::{Origin, rfc3339},
        debian::{Control, Entry},
    },
    machine::repository,
    run::Run,
};
use anyhow::Context;
use model::id::Digest;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// By its package URL, which is unique and sorts.
    components: BTreeMap<String, Value>,
    /// Names and versions.
    crates: BTreeSet<(String, String)>,
}

impl Parts {
    /// A file of ours: a program or a plugin.
    pub(crate) fn add_file(&mut self, kind: &str, name: &str, version: &str, bytes: &[u8]) {
        let purl = format!("pkg:generic/vteam/{name}@{version}");
        let mut part = part(kind, name, version, &purl);
        part.insert("hashes".to_owned(), hashes(hex(&Digest::of(bytes))));
        part.insert("licenses".to_owned(), licence("Apache-2.0"));
        self.components.insert(purl, Value::Object(part));
    }

    pub(crate) fn add_debian(&mut self, entry: &Entry, control: &Control) {
        let Entry { package, version, digest, .. } = entry;
        let architecture = control.field("Architecture").unwrap_or("all");
        let encoded = version.replace('+', "%2B").replace(':', "%3A");
        let purl = format!(
            "pkg:deb/debian/{}@{encoded}?arch={architecture}&distro=debian-12",
            package.replace('+', "%2B")
        );
        let mut part = part("library", package, version, &purl);
        part.insert("hashes".to_owned(), hashes(hex(digest)));
        if let Some(maintainer) = control.field("Maintainer") {
            part.insert("supplier".to_owned(), json!({"name": maintainer}));
        }
        let source = control.field("Source").unwrap_or(package);
        part.insert("properties".to_owned(), json!([{"name": "debian:source", "value": source}]));
        self.components.insert(purl, Value::Object(part));
    }

    /// What a package of ours links for a target, and the compiler's own library.
    pub(crate) fn add_crates(&mut self, package: &str, target: &str) -> anyhow::Result<()> {
        let flags = ["--edges", "normal", "--prefix", "none", "--format", "{p}|{l}|{r}"];
        let tree = Run::cargo().args(["tree", "--package", package, "--target", target]).args(flags);
        let lock = std::fs::read_to_string(repository().join("Cargo.lock"))?;
        let checksums = checksums(&lock);
        for line in tree.text()?.lines() {
            if let Some(linked) = linked(line) {
                self.crates.insert((linked.name.to_owned(), linked.version.to_owned()));
                let (purl, part) = linked.part(&checksums);
                self.components.insert(purl, part);
            }
        }
        let compiler = Run::new("rustc").arg("--version").dir(repository()).text()?;
        let version = compiler.split(' ').nth(1).context("rustc has a version")?;
        let purl = format!("pkg:generic/rust-std@{version}");
        let mut std = part("library", "rust-std", version, &purl);
        std.insert("licenses".to_owned(), licence("MIT OR Apache-2.0"));
        self.components.insert(purl, Value::Object(std));
        Ok(())
    }

    pub(crate) fn crates(&self) -> &BTreeSet<(String, String)> {
        &self.crates
    }

    pub(crate) fn document(self, name: &str, origin: &Origin) -> anyhow::Result<Vec<u8>> {
        let about = part("container", &format!("vteam-{name}"), &origin.version, name);
        let document = json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "version": 1,
            "metadata": {"timestamp": rfc3339(origin.time), "component": about},
            "components": self.components.into_values().collect::<Vec<_>>(),
        });
        Ok(serde_json::to_vec_pretty(&document)?)
    }
}

fn part(kind: &str, name: &str, version: &str, reference: &str) -> Map<String, Value> {
    let mut part = Map::new();
    part.insert("type".to_owned(), json!(kind));
    part.insert("bom-ref".to_owned(), json!(reference));
    part.insert("name".to_owned(), json!(name));
    part.insert("version".to_owned(), json!(version));
    if reference.starts_with("pkg:") {
        part.insert("purl".to_owned(), json!(reference));
    }
    part
}

fn hashes(hex: &str) -> Value {
    json!([{"alg": "SHA-256", "content": hex}])
}

fn licence(expression: &str) -> Value {
    json!([{"expression": expression}])
}

fn hex(digest: &Digest) -> &str {
    digest.as_str().trim_start_matches("sha256:")
}

/// A line of `cargo tree`.
#[derive(Debug, PartialEq, Eq)]
struct Linked<'a> {
    name: &'a str,
    version: &'a str,
    licence: &'a str,
}

/// Nothing for a macro, which runs in the compiler only.
fn linked(line: &str) -> Option<Linked<'_>> {
    let (package, rest) = line.split_once('|')?;
    let (licence, _) = rest.split_once('|')?;
    let mut words = package.split(' ');
    let (name, version) = (words.next()?, words.next()?.strip_prefix('v')?);
    let is_macro = words.any(|word| word == "(proc-macro)");
    (!is_macro).then_some(Linked { name, version, licence })
}

impl Linked<'_> {
    fn part(&self, checksums: &BTreeMap<(&str, &str), &str>) -> (String, Value) {
        let Self { name, version, licence: expression } = *self;
        let purl = format!("pkg:cargo/{name}@{version}");
        let mut part = part("library", name, version, &purl);
        if let Some(checksum) = checksums.get(&(name, version)) {
            part.insert("hashes".to_owned(), hashes(checksum));
        }
        if !expression.is_empty() {
            // The old way of writing "or".
            part.insert("licenses".to_owned(), licence(&expression.replace('/', " OR ")));
        }
        (purl, Value::Object(part))
    }
}

/// Of each package from a registry, by name and version.
fn checksums(lock: &str) -> BTreeMap<(&str, &str), &str> {
    let package = |text: &'static str| move |line: &&str| line.starts_with(text);
    let value = |line: &'_ str| -> Option<usize> { line.find('"').map(|at| at + 1) };
    let mut found = BTreeMap::new();
    for text in lock.split("[[package]]") {
        let read = |key: &'static str| {
            let line = text.lines().find(package(key))?;
            line.get(value(line)?..line.len().checked_sub(1)?)
        };
        if let (Some(name), Some(version), Some(checksum)) =
            (read("name = "), read("version = "), read("checksum = "))
        {
            found.insert((name, version), checksum);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Linked, Parts, checksums, linked};
    use crate::image::config::Origin;

    #[test]
    fn lines_of_a_tree() {
        let serde = Linked { name: "serde", version: "1.0.0", licence: "MIT OR Apache-2.0" };
        assert_eq!(linked("serde v1.0.0|MIT OR Apache-2.0|https://x (*)"), Some(serde));
        let ours = Linked { name: "model", version: "0.1.0", licence: "Apache-2.0" };
        assert_eq!(linked("model v0.1.0 (/a/b)|Apache-2.0|"), Some(ours));
        assert_eq!(linked("serde_derive v1.0.0 (proc-macro)|MIT|"), None);
        assert_eq!(linked(""), None);
    }

    #[test]
    fn checksums_of_a_lock_file() {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\nsource = \"registry\"\nchecksum = \"abc\"\n\n[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        assert_eq!(checksums(lock).into_iter().collect::<Vec<_>>(), [(("a", "1.0.0"), "abc")]);
    }

    #[test]
    fn parts_are_sorted_and_old_licences_are_expressions() {
        let mut parts = Parts::default();
        parts.add_file("application", "vteam", "0.1.0", b"x");
        let (purl, part) = linked("b v1.0.0|MIT/Apache-2.0|").unwrap().part(&checksums(""));
        parts.components.insert(purl, part);
        let origin = Origin { version: "0.1.0".to_owned(), revision: None, time: 0 };
        let text = parts.document("server", &origin).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(document["metadata"]["timestamp"], "1970-01-01T00:00:00Z");
        let names: Vec<_> =
            document["components"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
        assert_eq!(names, ["b", "vteam"]);
        assert_eq!(document["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
    }
}
