//! What lies in a namespace's ConfigMaps: pure.
//!
//! A key is a component (`NAME.wasm`), a compressed one (`NAME.wasm.gz`) or a part of one (`NAME.wasm.gz.0`, `.1` …), whose other
//! parts may be in other ConfigMaps of the namespace. Only compressed ones are split: gzip tells a whole from a part.

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use model::id::Digest;
use server::catalogue::{MAX_COMPONENT_BYTES, Package, Read};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
};

/// Bytes of all components of a namespace, unpacked; of what is stored of them too.
pub(super) const NAMESPACE_BYTES: usize = 64 << 20;
/// Components of a namespace.
const NAMESPACE_PACKAGES: usize = 128;
/// Keys of all its ConfigMaps: of parts, there may be more than of components.
const NAMESPACE_KEYS: usize = 2048;

/// A ConfigMap.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Map {
    pub(super) uid: String,
    /// What it says of itself now.
    pub(super) said: Option<String>,
    pub(super) keys: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Value {
    digest: Digest,
    bytes: Bytes,
}

impl Value {
    pub(super) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { digest: Digest::of(&bytes), bytes }
    }
}

/// What a key is called tells what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key<'a> {
    Plain,
    Compressed,
    Part { of: &'a str, number: usize },
    Other,
}

fn key(name: &str) -> Key<'_> {
    if name.ends_with(".wasm") {
        return Key::Plain;
    }
    if name.ends_with(".wasm.gz") {
        return Key::Compressed;
    }
    match name.rsplit_once('.') {
        Some((of, number)) if of.ends_with(".wasm.gz") => match number.parse() {
            Ok(number) if number < NAMESPACE_PACKAGES => Key::Part { of, number },
            _ => Key::Other,
        },
        _ => Key::Other,
    }
}

/// The package that a key of a ConfigMap is, or is part of.
pub(super) fn package(map: &str, name: &str) -> Option<String> {
    match key(name) {
        Key::Plain | Key::Compressed => Some(format!("{map}/{name}")),
        Key::Part { of, .. } => Some(of.to_owned()),
        Key::Other => None,
    }
}

/// A namespace's ConfigMaps by name.
#[derive(Debug, Default)]
pub(super) struct Maps {
    known: BTreeMap<String, Map>,
    /// Held too much to be taken in, together with the others. Their keys are known, without what they hold.
    full: BTreeSet<String>,
}

impl Maps {
    /// What is beyond the namespace's share is not kept.
    pub(super) fn take(&mut self, name: &str, mut map: Map) {
        self.known.remove(name);
        self.full.remove(name);
        let others = self.known.values().flat_map(|map| map.keys.values());
        let stored: usize = others.chain(map.keys.values()).map(|value| value.bytes.len()).sum();
        let keys = self.known.values().map(|map| map.keys.len()).sum::<usize>() + map.keys.len();
        if stored > NAMESPACE_BYTES || keys > NAMESPACE_KEYS {
            self.full.insert(name.to_owned());
            // Somebody is told, and nothing is kept for the rest.
            map.keys = map.keys.into_iter().take(NAMESPACE_PACKAGES).collect();
            map.keys.values_mut().for_each(|value| value.bytes = Bytes::new());
        }
        self.known.insert(name.to_owned(), map);
    }

    /// Whether there is room now for what there was none for.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        self.full.remove(name);
        self.known.remove(name).is_some() && !self.full.is_empty()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.known.retain(|name, _| keep(name));
        self.full.retain(|name| keep(name));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Map)> {
        self.known.iter()
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Map> {
        self.known.get_mut(name)
    }

    /// All that there is, as the catalogue takes it.
    pub(super) fn packages(&self) -> Vec<Package> {
        let mut found: BTreeMap<String, Vec<Piece<'_>>> = BTreeMap::new();
        for (map, Map { keys, .. }) in &self.known {
            for (name, value) in keys {
                let Some(package) = package(map, name) else { continue };
                let piece = Piece { key: key(name), value, full: self.full.contains(map) };
                found.entry(package).or_default().push(piece);
            }
        }
        let mut left = NAMESPACE_BYTES;
        let within = |(at, (name, pieces)): (usize, (String, Vec<Piece<'_>>))| {
            let stamp = pieces.iter().map(|piece| piece.value.digest.hex()).collect::<Vec<_>>().join(" ");
            let refused = |why: &str| {
                (
                    format!("{stamp} {why}"),
                    Box::new({
                        let why = why.to_owned();
                        || Err(why)
                    }) as Read,
                )
            };
            let (stamp, read) = if at >= NAMESPACE_PACKAGES {
                refused(&format!(
                    "the namespace offers more than {NAMESPACE_PACKAGES} components: take some away"
                ))
            } else {
                match whole(pieces) {
                    Err(why) => refused(&why),
                    Ok(whole) => match left.checked_sub(whole.size()) {
                        None => refused(FULL),
                        Some(rest) => {
                            left = rest;
                            (stamp, Box::new(move || whole.read()) as Read)
                        }
                    },
                }
            };
            Package { name, stamp, read }
        };
        found.into_iter().enumerate().map(within).collect()
    }
}

const FULL: &str =
    "the components of the namespace have more than 64 MiB together, or more than 2048 keys: take some away";

struct Piece<'a> {
    key: Key<'a>,
    value: &'a Value,
    full: bool,
}

/// A component's bytes as they are stored.
#[derive(Debug)]
struct Whole {
    bytes: Bytes,
    compressed: bool,
}

fn whole(mut pieces: Vec<Piece<'_>>) -> Result<Whole, String> {
    if pieces.iter().any(|piece| piece.full) {
        return Err(FULL.to_owned());
    }
    let number = |piece: &Piece<'_>| match piece.key {
        Key::Part { number, .. } => Some(number),
        _ => None,
    };
    pieces.sort_by_key(number);
    if let [only] = pieces.as_slice()
        && number(only).is_none()
    {
        let compressed = only.key == Key::Compressed;
        return Ok(Whole { bytes: only.value.bytes.clone(), compressed });
    }
    if let Some((missing, piece)) = pieces.iter().enumerate().find(|(at, piece)| number(piece) != Some(*at)) {
        let twice = number(piece).is_some_and(|number| number < missing);
        let number = if twice { missing.saturating_sub(1) } else { missing };
        return Err(format!("part {number} {}", if twice { "is there twice" } else { "is missing" }));
    }
    let parts: Vec<&[u8]> = pieces.iter().map(|piece| piece.value.bytes.as_ref()).collect();
    Ok(Whole { bytes: parts.concat().into(), compressed: true })
}

impl Whole {
    /// Bytes of the component, as the archive says it (RFC 1952), which is not true of one that was cut off.
    fn size(&self) -> usize {
        let said = self.bytes.last_chunk::<4>().map_or(0, |said| u32::from_le_bytes(*said) as usize);
        if self.compressed { said.min(MAX_COMPONENT_BYTES) } else { self.bytes.len() }
    }

    fn read(self) -> Result<Bytes, String> {
        if !self.compressed {
            return Ok(self.bytes);
        }
        let mut archive = GzDecoder::new(self.bytes.as_ref());
        let mut component = Vec::with_capacity(self.size());
        // The archive's end is read, and its checksum compared, only past the last byte.
        match archive.by_ref().take(MAX_COMPONENT_BYTES as u64 + 1).read_to_end(&mut component) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err("it ends early: where it is split, apply all of its parts".to_owned())
            }
            Err(error) => Err(format!("it cannot be unpacked: {error}")),
            Ok(_) if component.len() > MAX_COMPONENT_BYTES => {
                Err(format!("unpacked it has more than {MAX_COMPONENT_BYTES} bytes"))
            }
            Ok(_) if !archive.into_inner().is_empty() => Err("it is more than one gzip archive".to_owned()),
            Ok(_) => Ok(component.into()),
        }
    }
}

#[cfg(test)]
mod tests;
