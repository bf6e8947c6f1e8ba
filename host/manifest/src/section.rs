//! The outermost level of a component: its manifest section and what it imports and exports. Nested modules and
//! components are skipped, not read: what stands in them is not the component's own word.

use crate::{Manifest, ManifestError, SECTION, parse};
use wasm_encoder::{CustomSection, Encode as _};
use wasmparser::{BinaryReaderError, Chunk, Encoding, Parser, Payload};

#[derive(Debug, thiserror::Error)]
pub enum SectionError {
    #[error("this is not WebAssembly: give a component, as `vteam plugins build` makes them")]
    NotWasm(#[source] BinaryReaderError),
    #[error(
        "this is not WebAssembly, or it is cut off: give a whole component, as `vteam plugins build` makes them"
    )]
    Cut,
    #[error("this is a core WebAssembly module, not a component: build for wasm32-wasip2")]
    CoreModule,
    #[error("the component has no manifest: build it with `vteam plugins build`")]
    NoManifest,
    #[error("the component has more than one manifest")]
    TwoManifests,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Names at the outermost level, such as `wasi:cli/stdout@0.2.6`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Names {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

/// Reads the manifest of a component.
///
/// # Errors
/// When there is not exactly one valid manifest.
pub fn extract(component: &[u8]) -> Result<Manifest, SectionError> {
    let mut found = None;
    for part in parts(component)? {
        if let Payload::CustomSection(section) = part.payload
            && section.name() == SECTION
            && found.replace(section.data()).is_some()
        {
            return Err(SectionError::TwoManifests);
        }
    }
    let text = String::from_utf8_lossy(found.ok_or(SectionError::NoManifest)?);
    Ok(parse(&text)?)
}

/// The component with this manifest in place of any that it had.
///
/// # Errors
/// When `component` is none, or the manifest breaks its rules.
pub fn embed(component: &[u8], manifest: &Manifest) -> Result<Vec<u8>, SectionError> {
    let text = serde_json::to_string(manifest).map_err(ManifestError::Json)?;
    parse(&text)?;
    let mut bytes = Vec::with_capacity(component.len() + text.len() + 32);
    for part in parts(component)? {
        if !matches!(&part.payload, Payload::CustomSection(section) if section.name() == SECTION) {
            bytes.extend_from_slice(part.bytes);
        }
    }
    bytes.push(0); // the id of a custom section
    CustomSection { name: SECTION.into(), data: text.as_bytes().into() }.encode(&mut bytes);
    Ok(bytes)
}

/// What a component imports and exports.
///
/// # Errors
/// When it is not a component.
pub fn names(component: &[u8]) -> Result<Names, SectionError> {
    let mut names = Names::default();
    for part in parts(component)? {
        match part.payload {
            Payload::ComponentImportSection(section) => {
                for import in section {
                    names.imports.push(import.map_err(SectionError::NotWasm)?.name.full_name().to_string());
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    names.exports.push(export.map_err(SectionError::NotWasm)?.name.full_name().to_string());
                }
            }
            _ => {}
        }
    }
    Ok(names)
}

struct Part<'a> {
    payload: Payload<'a>,
    /// All bytes of it: a nested module's too.
    bytes: &'a [u8],
}

fn parts(component: &[u8]) -> Result<Vec<Part<'_>>, SectionError> {
    let mut parser = Parser::new(0);
    let mut rest = component;
    let mut parts = Vec::new();
    loop {
        let (payload, consumed) = match parser.parse(rest, true).map_err(SectionError::NotWasm)? {
            Chunk::Parsed { payload, consumed } => (payload, consumed),
            Chunk::NeedMoreData(_) => return Err(SectionError::Cut),
        };
        let nested = match &payload {
            Payload::Version { encoding: Encoding::Module, .. } => return Err(SectionError::CoreModule),
            Payload::ModuleSection { unchecked_range, .. }
            | Payload::ComponentSection { unchecked_range, .. } => {
                usize::try_from(unchecked_range.end.saturating_sub(unchecked_range.start))
                    .unwrap_or(usize::MAX)
            }
            _ => 0,
        };
        let end = matches!(payload, Payload::End(_));
        let length = consumed.saturating_add(nested);
        let (bytes, after) = rest.split_at_checked(length).ok_or(SectionError::Cut)?;
        parts.push(Part { payload, bytes });
        rest = after;
        if end {
            return Ok(parts);
        }
    }
}
