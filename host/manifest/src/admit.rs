//! Whether a component may become a plugin here, decided from its bytes alone.

use crate::{Kind, Manifest, ManifestError, Names, SectionError, extract, names};
use model::{grant::effects, id::Digest};
use wasmparser::{Validator, WasmFeatures};

/// A component that a host may compile. What it may do is decided elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Admissible {
    pub manifest: Manifest,
    /// Of the component's bytes.
    pub digest: Digest,
    pub imports: Vec<String>,
}

/// Why a component is refused; each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NotAdmissible {
    #[error(
        "the component has {bytes} bytes: at most {max} are allowed here; build it for release, without debug information"
    )]
    TooBig { bytes: usize, max: usize },
    #[error(transparent)]
    Component(SectionError),
    #[error(transparent)]
    Manifest(ManifestError),
    #[error("the component is not valid WebAssembly: {0}")]
    Invalid(String),
    #[error(
        "a {kind} plugin exports {wanted}, this component exports {found}: build it against that contract"
    )]
    World { kind: &'static str, wanted: &'static str, found: String },
    #[error("it imports {0}, which this host does not offer: do without it, or update this host")]
    UnknownImport(String),
    #[error("it imports {0}: components have no sockets; use wasi:http and ask for net.fetch")]
    Sockets(String),
    #[error(
        "it imports {import} but its manifest does not ask for {effect}: add it to the asks with a reason, or do not use it"
    )]
    NotAsked { import: String, effect: &'static str },
    #[error("it imports {0}: a persona imports nothing (build it for wasm32-unknown-unknown)")]
    PersonaImports(String),
}

impl From<SectionError> for NotAdmissible {
    fn from(error: SectionError) -> Self {
        match error {
            SectionError::Manifest(error) => Self::Manifest(error),
            error => Self::Component(error),
        }
    }
}

/// Checks everything that can be known without running it.
///
/// # Errors
/// The first reason to refuse it.
pub fn admit(component: &[u8], max_bytes: usize) -> Result<Admissible, NotAdmissible> {
    small_enough(component, max_bytes)?;
    let manifest = extract(component)?;
    let found = names(component)?;
    match &manifest.kind {
        Kind::Tool => world("tool", TOOL, &found.exports)?,
        Kind::Persona => world("persona", PERSONA, &found.exports)?,
        Kind::Other(_) => {}
    }
    for import in &found.imports {
        covered(&manifest, import)?;
    }
    valid(component)?;
    Ok(Admissible { manifest, digest: Digest::of(component), imports: found.imports })
}

/// Checks a component that has no manifest yet: whether it can be asked for one.
///
/// # Errors
/// The first reason to refuse it.
pub fn loadable(component: &[u8], max_bytes: usize) -> Result<Names, NotAdmissible> {
    small_enough(component, max_bytes)?;
    let found = names(component)?;
    if world("persona", PERSONA, &found.exports).is_err() {
        world("tool", TOOL, &found.exports)?;
    }
    for import in &found.imports {
        known(import)?;
    }
    valid(component)?;
    Ok(found)
}

const TOOL: &str = "vteam:plugin/tool@0.1";
const PERSONA: &str = "vteam:plugin/persona@0.1";

const fn small_enough(component: &[u8], max: usize) -> Result<(), NotAdmissible> {
    let bytes = component.len();
    if bytes > max { Err(NotAdmissible::TooBig { bytes, max }) } else { Ok(()) }
}

fn valid(component: &[u8]) -> Result<(), NotAdmissible> {
    let checked = Validator::new_with_features(WasmFeatures::default()).validate_all(component);
    checked.map(drop).map_err(|error| NotAdmissible::Invalid(error.to_string()))
}

fn world(kind: &'static str, wanted: &'static str, exports: &[String]) -> Result<(), NotAdmissible> {
    if exports.iter().any(|export| within(export, wanted)) {
        return Ok(());
    }
    let found = if exports.is_empty() { "nothing".to_owned() } else { exports.join(", ") };
    Err(NotAdmissible::World { kind, wanted, found })
}

/// `wanted` is `name@major.minor`; any patch of it is meant.
fn within(name: &str, wanted: &str) -> bool {
    name.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

fn covered(manifest: &Manifest, import: &str) -> Result<(), NotAdmissible> {
    // The shared vocabulary has types and no function: importing it is how a component names them.
    if manifest.kind == Kind::Persona && !within(import, "vteam:plugin/types@0.1") {
        return Err(NotAdmissible::PersonaImports(import.to_owned()));
    }
    match known(import)? {
        Some(effect) if !manifest.asks.iter().any(|ask| ask.effect.as_str() == effect) => {
            Err(NotAdmissible::NotAsked { import: import.to_owned(), effect })
        }
        _ => Ok(()),
    }
}

fn known(import: &str) -> Result<Option<&'static str>, NotAdmissible> {
    if import.starts_with("wasi:sockets/") {
        return Err(NotAdmissible::Sockets(import.to_owned()));
    }
    effect_of(import).ok_or_else(|| NotAdmissible::UnknownImport(import.to_owned()))
}

/// The effect that an import is covered by: `Some(None)` for one that grants nothing, `None` for an unknown one.
#[must_use]
pub fn effect_of(import: &str) -> Option<Option<&'static str>> {
    let (interface, version) = import.split_once('@')?;
    let line = if interface.starts_with("wasi:") { "0.2" } else { "0.1" };
    if !within(version, line) {
        return None;
    }
    let effect = match interface {
        "vteam:plugin/process" => Some(effects::PROCESS),
        "vteam:plugin/changes" => Some(effects::FS_WRITE),
        "vteam:plugin/state" => Some(effects::STATE),
        "vteam:plugin/model" => Some(effects::MODEL),
        "wasi:http/types" | "wasi:http/outgoing-handler" => Some(effects::NET_FETCH),
        "vteam:plugin/types" | "vteam:plugin/log" | "vteam:plugin/progress" | "vteam:plugin/config" => None,
        _ if BASE.iter().any(|base| interface.starts_with(base)) => None,
        _ => return None,
    };
    Some(effect)
}

/// What every std guest imports. A file system without a preopened folder grants nothing.
const BASE: [&str; 5] = ["wasi:cli/", "wasi:io/", "wasi:clocks/", "wasi:random/", "wasi:filesystem/"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::tests::{persona_manifest, tool_manifest},
        embed,
    };
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use wasm_encoder::{
        Component, ComponentExportKind, ComponentExportSection, ComponentImportSection, ComponentTypeRef,
        ComponentTypeSection, InstanceType, Module, ModuleSection,
    };

    fn component(imports: &[&str], export: &str) -> Vec<u8> {
        let mut component = Component::new();
        let mut types = ComponentTypeSection::new();
        types.instance(&InstanceType::new());
        component.section(&types);
        let mut section = ComponentImportSection::new();
        // What is exported again needs an instance: the first import.
        for name in std::iter::once(&"vteam:plugin/types@0.1.0").chain(imports) {
            section.import(*name, ComponentTypeRef::Instance(0));
        }
        component.section(&section);
        let mut exports = ComponentExportSection::new();
        exports.export(export, ComponentExportKind::Instance, 0, None);
        component.section(&exports);
        component.finish()
    }

    fn with(bytes: &[u8], manifest: &Value) -> Vec<u8> {
        embed(bytes, &serde_json::from_value(manifest.clone()).unwrap()).unwrap()
    }

    fn tool(imports: &[&str]) -> Vec<u8> {
        with(&component(imports, "vteam:plugin/tool@0.1.0"), &tool_manifest())
    }

    fn check(bytes: &[u8], expected: &str) {
        match admit(bytes, 1 << 20) {
            Ok(admitted) => assert_eq!(expected, "", "{:?} was admitted", admitted.manifest.id),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
        }
    }

    #[test]
    fn bad_components_are_refused_with_the_reason() {
        check(&tool(&["wasi:cli/stdout@0.2.6", "vteam:plugin/log@0.1.3"]), "");
        check(b"", "not WebAssembly");
        check(b"#!/bin/sh\necho hello", "not WebAssembly");
        check(&Module::new().finish(), "core WebAssembly module");
        check(&component(&[], "vteam:plugin/tool@0.1.0"), "no manifest");
        check(&tool(&["wasi:sockets/tcp@0.2.6"]), "no sockets");
        check(&tool(&["wasi:keyvalue/store@0.2.0"]), "does not offer");
        check(&tool(&["wasi:cli/stdout@0.3.0"]), "does not offer");
        check(&tool(&["vteam:plugin/teleport@0.1.0"]), "does not offer");
        check(&tool(&["vteam:plugin/process@0.1.0"]), "does not ask for process");
        check(&tool(&["vteam:plugin/changes@0.1.0"]), "does not ask for fs.write");
        check(&tool(&["wasi:http/outgoing-handler@0.2.4"]), "does not ask for net.fetch");
        check(
            &with(&component(&[], "acme:other/world@1.0.0"), &tool_manifest()),
            "this component exports acme:other",
        );
        check(
            &with(&component(&[], "vteam:plugin/tool@0.2.0"), &tool_manifest()),
            "exports vteam:plugin/tool@0.2.0",
        );
        check(
            &with(&component(&[], "vteam:plugin/tool@0.1.0"), &persona_manifest()),
            "a persona plugin exports",
        );
        let pure = component(&[], "vteam:plugin/persona@0.1.0");
        check(&with(&pure, &persona_manifest()), "");
        let importing = component(&["vteam:plugin/log@0.1.0"], "vteam:plugin/persona@0.1.0");
        check(&with(&importing, &persona_manifest()), "a persona imports nothing");
        assert!(loadable(&component(&["wasi:cli/stdout@0.2.6"], "vteam:plugin/tool@0.1.0"), 1 << 20).is_ok());
        assert!(loadable(&component(&[], "acme:other/world@1.0.0"), 1 << 20).is_err());
        assert!(
            loadable(&component(&["wasi:sockets/tcp@0.2.6"], "vteam:plugin/tool@0.1.0"), 1 << 20).is_err()
        );
        assert!(matches!(admit(&tool(&[]), 10), Err(NotAdmissible::TooBig { .. })));
    }

    #[test]
    fn an_ask_covers_an_import() {
        let mut manifest = tool_manifest();
        manifest["asks"] =
            json!([{"effect": "fs.read", "reason": "r"}, {"effect": "process", "reason": "runs make"}]);
        check(&with(&component(&["vteam:plugin/process@0.1.0"], "vteam:plugin/tool@0.1.0"), &manifest), "");
    }

    #[test]
    fn only_the_outermost_manifest_counts() {
        let mut inner = Module::new();
        let text = tool_manifest().to_string();
        inner.section(&wasm_encoder::CustomSection {
            name: crate::SECTION.into(),
            data: text.as_bytes().into(),
        });
        let mut outer = Component::new();
        outer.section(&ModuleSection(&inner));
        let bytes = outer.finish();
        assert!(matches!(extract(&bytes), Err(SectionError::NoManifest)));
        let embedded = with(&bytes, &tool_manifest());
        assert_eq!(extract(&embedded).unwrap().id.as_str(), "acme.linter");
        let mut twice = embedded.clone();
        twice.extend_from_slice(&embedded[bytes.len()..]);
        assert!(matches!(extract(&twice), Err(SectionError::TwoManifests)));
        // Embedding replaces.
        assert_eq!(with(&embedded, &tool_manifest()), embedded);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(noise in proptest::collection::vec(any::<u8>(), 0..512), at in 0usize..4096) {
            let _ = admit(&noise, 1 << 20);
            let mut mutated = tool(&["wasi:cli/stdout@0.2.6"]);
            let at = at % mutated.len();
            for (place, byte) in mutated[at..].iter_mut().zip(&noise) {
                *place = *byte;
            }
            let _ = admit(&mutated, 1 << 20);
            mutated.truncate(at);
            let _ = admit(&mutated, 1 << 20);
        }
    }
}
