//! What a new version of a plugin asks for that the old one did not.

use crate::{Ask, Manifest};
use model::id::{Effect, ToolName};
use semver::Version;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VersionChange {
    Newer,
    Same,
    Older,
}

/// The difference that decides whether somebody has to approve it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    pub version: VersionChange,
    /// Asked for now and not before.
    pub newly_asked: Vec<Ask>,
    pub no_longer_asked: Vec<Effect>,
    pub tools_added: Vec<ToolName>,
    pub tools_removed: Vec<ToolName>,
    /// Of tools that both have: the effects that it declares now and did not before.
    pub effects_added: Vec<(ToolName, Effect)>,
}

impl Changes {
    /// A grant of the old version covers the new one: nothing more is asked.
    #[must_use]
    pub fn within_old_grant(&self) -> bool {
        self.newly_asked.is_empty()
    }
}

/// From `old` to `new`.
#[must_use]
pub fn compare(old: &Manifest, new: &Manifest) -> Changes {
    let (had, has) = (old.asked(), new.asked());
    let version = |manifest: &Manifest| Version::parse(&manifest.version).ok();
    Changes {
        version: match version(new).cmp(&version(old)) {
            std::cmp::Ordering::Greater => VersionChange::Newer,
            std::cmp::Ordering::Equal => VersionChange::Same,
            std::cmp::Ordering::Less => VersionChange::Older,
        },
        newly_asked: new.asks.iter().filter(|ask| !had.contains(&ask.effect)).cloned().collect(),
        no_longer_asked: had.difference(&has).cloned().collect(),
        tools_added: missing(new, old),
        tools_removed: missing(old, new),
        effects_added: effects_added(old, new),
    }
}

fn missing(of: &Manifest, from: &Manifest) -> Vec<ToolName> {
    of.tools
        .iter()
        .map(|tool| &tool.name)
        .filter(|name| from.tool(name.as_str()).is_none())
        .cloned()
        .collect()
}

fn effects_added(old: &Manifest, new: &Manifest) -> Vec<(ToolName, Effect)> {
    let mut added = Vec::new();
    for tool in &new.tools {
        if let Some(before) = old.tool(tool.name.as_str()) {
            added.extend(
                tool.effects.difference(&before.effects).map(|effect| (tool.name.clone(), effect.clone())),
            );
        }
    }
    added
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::tests::tool_manifest;
    use serde_json::json;

    #[test]
    fn what_is_newly_asked_is_named() {
        let old: Manifest = serde_json::from_value(tool_manifest()).unwrap();
        let mut json = tool_manifest();
        json["version"] = json!("1.10.0");
        json["asks"] =
            json!([{"effect": "fs.read", "reason": "r"}, {"effect": "process", "reason": "runs make"}]);
        json["tools"][0]["effects"] = json!(["fs.read", "process"]);
        let more = json["tools"][0].clone();
        json["tools"] = json!([more.clone(), more]);
        json["tools"][1]["name"] = json!("Fix");
        let new: Manifest = serde_json::from_value(json).unwrap();

        let changes = compare(&old, &new);
        assert_eq!(changes.version, VersionChange::Newer);
        assert_eq!(changes.newly_asked.iter().map(|a| a.effect.as_str()).collect::<Vec<_>>(), ["process"]);
        assert_eq!(changes.tools_added.iter().map(ToolName::as_str).collect::<Vec<_>>(), ["Fix"]);
        assert_eq!(changes.effects_added.len(), 1);
        assert!(!changes.within_old_grant());

        let back = compare(&new, &old);
        assert_eq!(back.version, VersionChange::Older);
        assert_eq!(back.no_longer_asked.iter().map(Effect::as_str).collect::<Vec<_>>(), ["process"]);
        assert_eq!(back.tools_removed.len(), 1);
        assert!(back.within_old_grant());
    }
}
