//! Which of the admitted plugins are in use together: pure.
//!
//! First-party ids, tool names and persona keys are reserved; among the others, the file that comes first by name has
//! them. Nothing shadows anything.

use super::{Plugin, Refused, folder::File};
use model::id::PluginId;
use std::{collections::BTreeMap, sync::Arc};

/// What publishes first-party plugins.
const RESERVED: &str = "vteam.";

#[derive(Debug, Default, PartialEq)]
pub(super) struct Ruled {
    pub(super) plugins: BTreeMap<PluginId, Arc<Plugin>>,
    pub(super) refused: Vec<Refused>,
}

pub(super) fn rule(first: &[Arc<Plugin>], files: Vec<File>) -> Ruled {
    let mut ruled = Ruled::default();
    for File { name: file, good, bad } in files {
        let taken = ruled.plugins.values();
        let against = good.as_ref().and_then(|plugin| clash(first, taken, plugin));
        let kept = match (good, &against) {
            (Some(plugin), None) => {
                let digest = plugin.digest.clone();
                ruled.plugins.insert(plugin.manifest.id.clone(), plugin);
                Some(digest)
            }
            _ => None,
        };
        match (bad, against) {
            (Some(why), _) => ruled.refused.push(Refused { file, why, kept }),
            (None, Some(why)) => ruled.refused.push(Refused { file, why, kept: None }),
            (None, None) => {}
        }
    }
    ruled
}

/// Why this plugin may not join those of these files.
pub(super) fn against(first: &[Arc<Plugin>], files: &[File], plugin: &Plugin) -> Option<String> {
    clash(first, files.iter().filter_map(|file| file.good.as_ref()), plugin)
}

fn clash<'a>(
    first: &'a [Arc<Plugin>],
    taken: impl Iterator<Item = &'a Arc<Plugin>>,
    plugin: &Plugin,
) -> Option<String> {
    let new = &plugin.manifest;
    if new.id.as_str().starts_with(RESERVED) {
        return Some(format!("the id {} is reserved: ids of {RESERVED}* are first-party plugins'", new.id));
    }
    first.iter().chain(taken).find_map(|other| {
        let old = &other.manifest;
        if old.id == new.id {
            return Some(format!("another file offers {} already: keep one of them", new.id));
        }
        let tool = new.tools.iter().find(|tool| old.tools.iter().any(|other| other.name == tool.name));
        if let Some(tool) = tool {
            return Some(format!("its tool {} has the name of a tool of {}: rename it", tool.name, old.id));
        }
        let (new, key) = (new.persona.as_ref()?, &old.persona.as_ref()?.key);
        (new.key == *key).then(|| format!("its persona {key} has the key of {}'s: rename it", old.id))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Origin;
    use serde_json::json;

    fn plugin(id: &str, tool: &str, origin: Origin) -> Arc<Plugin> {
        let manifest = serde_json::from_value(json!({
            "manifest": 1, "id": id, "version": "1.0.0", "kind": "tool", "description": "d",
            "tools": [{"name": tool, "description": "d", "inputSchema": {"type": "object"}}],
        }));
        let digest = model::id::Digest::of(id.as_bytes());
        Arc::new(Plugin { digest, manifest: manifest.unwrap(), origin, component: bytes::Bytes::new() })
    }

    fn check(name: &str, files: &[(&str, &str, Option<&str>)], in_use: &[&str], refused: &[&str]) {
        let first = [plugin("vteam.files", "Read", Origin::FirstParty)];
        let files = files.iter().enumerate().map(|(at, (id, tool, bad))| File {
            name: format!("{at}.wasm"),
            good: (!id.is_empty()).then(|| plugin(id, tool, Origin::Dropped)),
            bad: bad.map(str::to_owned),
        });
        let ruled = rule(&first, files.collect());
        assert_eq!(ruled.plugins.keys().map(PluginId::as_str).collect::<Vec<_>>(), in_use, "{name}");
        assert_eq!(ruled.refused.len(), refused.len(), "{name}: {:?}", ruled.refused);
        for (got, part) in ruled.refused.iter().zip(refused) {
            assert!(got.why.contains(part), "{name}: {got:?}");
        }
    }

    #[test]
    fn nothing_shadows_anything() {
        check("a plugin", &[("acme.a", "A", None)], &["acme.a"], &[]);
        check("a reserved id", &[("vteam.new", "A", None)], &[], &["is reserved"]);
        check("a first-party tool's name", &[("acme.a", "Read", None)], &[], &["its tool Read"]);
        check(
            "the same id",
            &[("acme.a", "A", None), ("acme.a", "B", None)],
            &["acme.a"],
            &["offers acme.a already"],
        );
        check("the same tool", &[("acme.a", "A", None), ("acme.b", "A", None)], &["acme.a"], &["its tool A"]);
        check("a bad update", &[("acme.a", "A", Some("cut"))], &["acme.a"], &["cut"]);
        check("a bad file", &[("", "", Some("cut"))], &[], &["cut"]);
    }
}
