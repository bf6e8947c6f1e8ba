//! Plugins as the ConfigMaps that a cluster is given: whole where they fit, else compressed, else in parts.

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use std::io::{self, Write as _};

/// Bytes under one key. A ConfigMap holds 1 MiB with its keys, and a request that applies it some more.
const MOST: usize = 900 << 10;
/// What says that there are plugins in it.
const LABEL: &str = "vteam.ambient-code/plugins";

/// The ConfigMaps that hold a component: `name` is of the first, the key is `NAME.wasm`, `NAME.wasm.gz` or `NAME.wasm.gz.0` and on.
///
/// # Errors
/// When it cannot be compressed.
pub fn config_maps(name: &str, component: &[u8]) -> io::Result<Vec<Value>> {
    maps(name, component, MOST)
}

fn maps(name: &str, component: &[u8], most: usize) -> io::Result<Vec<Value>> {
    if component.len() <= most {
        return Ok(vec![map(name, &format!("{name}.wasm"), component)]);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(component)?;
    let packed = encoder.finish()?;
    if packed.len() <= most {
        return Ok(vec![map(name, &format!("{name}.wasm.gz"), &packed)]);
    }
    let part =
        |(at, bytes): (usize, &[u8])| map(&format!("{name}.{at}"), &format!("{name}.wasm.gz.{at}"), bytes);
    Ok(packed.chunks(most).enumerate().map(part).collect())
}

fn map(name: &str, key: &str, bytes: &[u8]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {LABEL: "true"}},
        "binaryData": {key: base64(bytes)},
    })
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    /// The names and keys of a component's ConfigMaps, which hold it together.
    fn check(component: &[u8], most: usize, expected: &[(&str, &str)]) {
        use base64::Engine as _;
        let maps = maps("acme.a", component, most).unwrap();
        let mut stored = Vec::new();
        let mut keys = Vec::new();
        for map in &maps {
            assert_eq!(map["metadata"]["labels"][LABEL], "true");
            let (key, bytes) = map["binaryData"].as_object().unwrap().iter().next().unwrap();
            let bytes = base64::engine::general_purpose::STANDARD.decode(bytes.as_str().unwrap()).unwrap();
            assert!(bytes.len() <= most);
            stored.extend(bytes);
            keys.push((map["metadata"]["name"].as_str().unwrap(), key.as_str()));
        }
        assert_eq!(keys, expected);
        if !keys[0].1.ends_with(".wasm") {
            let mut unpacked = Vec::new();
            flate2::read::GzDecoder::new(stored.as_slice()).read_to_end(&mut unpacked).unwrap();
            stored = unpacked;
        }
        assert_eq!(stored, component);
    }

    #[test]
    fn whole_where_it_fits() {
        let component: Vec<u8> = (0..2000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        check(&component, component.len(), &[("acme.a", "acme.a.wasm")]);
        check(&component, component.len() - 1, &[("acme.a", "acme.a.wasm.gz")]);
        let parts = [("acme.a.0", "acme.a.wasm.gz.0"), ("acme.a.1", "acme.a.wasm.gz.1")];
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&component).unwrap();
        let packed = encoder.finish().unwrap().len();
        check(&component, packed.div_ceil(2), &parts);
    }
}
