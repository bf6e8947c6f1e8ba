//! Core modules become components, and components become plugins.

use manifest::Manifest;
use wasm_encoder::Encode;
use wasmparser::BinaryReader;
use wit_component::ComponentEncoder;

/// Why there is no plugin.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("this is no core module that carries its world: {0}")]
    Encode(String),
    #[error("this is not a component: {0}")]
    NotAComponent(#[from] wasmparser::BinaryReaderError),
    #[error("the plugin's own description is not a manifest")]
    Describe(#[source] manifest::ManifestError),
    #[error("the manifest cannot be embedded")]
    Embed(#[source] manifest::SectionError),
}

/// Makes a component of a core module that holds its `component-type` section, as bindings generators leave it.
///
/// # Errors
/// When it is no such module.
pub fn encode(core: &[u8]) -> Result<Vec<u8>, BuildError> {
    let mut encoder = ComponentEncoder::default();
    let encoded = encoder.validate(true).module(core).and_then(|e| e.encode());
    encoded.map_err(|error| BuildError::Encode(format!("{error:#}")))
}

/// Makes a component a plugin: embeds what its `describe` said as the manifest, and leaves out what only debuggers read.
///
/// # Errors
/// When it is no component, or the description no valid manifest.
pub fn finish(component: &[u8], describe_json: &str) -> Result<Vec<u8>, BuildError> {
    let manifest: Manifest = manifest::parse(describe_json).map_err(BuildError::Describe)?;
    manifest::embed(&strip(component)?, &manifest).map_err(BuildError::Embed)
}

const CUSTOM: u8 = 0;
/// Sections of a component that hold a core module or a component.
const NESTED: [u8; 2] = [1, 4];

/// Without names, producers and debug information, at every depth.
fn strip(wasm: &[u8]) -> Result<Vec<u8>, BuildError> {
    let mut reader = BinaryReader::new(wasm, 0);
    let header = reader.read_bytes(8)?;
    let is_component = header == b"\0asm\x0d\0\x01\0";
    let mut out = header.to_vec();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()? as usize;
        let body = reader.read_bytes(length)?;
        if id == CUSTOM && is_for_debuggers(BinaryReader::new(body, 0).read_string()?) {
            continue;
        }
        out.push(id);
        if is_component && NESTED.contains(&id) {
            strip(body)?.encode(&mut out)
        } else {
            body.encode(&mut out)
        }
    }
    Ok(out)
}

fn is_for_debuggers(section: &str) -> bool {
    matches!(section, "name" | "component-name" | "producers" | "target_features")
        || section.starts_with(".debug")
}
