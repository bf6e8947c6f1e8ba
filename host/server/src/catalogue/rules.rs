//! Which of the admitted plugins are in use together: pure.
//!
//! First-party ids, tool names and persona keys are reserved; among the others, who comes first by scope and name has
//! them. Nothing shadows anything. Only where the system is installed may a newer first-party plugin take the place of the
//! one that came with the binaries.

use super::{
    Plugin,
    shelf::{Offer, Scope, Slot},
};
use manifest::{VersionChange, compare};
use model::id::ProjectName;
use std::{collections::BTreeMap, sync::Arc};

/// What publishes first-party plugins.
const RESERVED: &str = "vteam.";

/// What became of a package.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// What is in use of it: what is in it now, or its last good version.
    pub used: Option<Arc<Plugin>>,
    /// Why what is in it now is not in use.
    pub refused: Option<String>,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Ruled {
    /// In use in all projects, first-party ones first.
    pub(super) common: Vec<Arc<Plugin>>,
    /// In use in one project.
    pub(super) projects: BTreeMap<ProjectName, Vec<Arc<Plugin>>>,
    pub(super) verdicts: BTreeMap<Slot, Verdict>,
}

/// `offers` are in the order of their slots.
pub(super) fn rule(first: &[Arc<Plugin>], offers: Vec<Offer>) -> Ruled {
    let mut ruled = Ruled { common: first.to_vec(), ..Ruled::default() };
    for Offer { slot, good, bad } in offers {
        let verdict = match good {
            None => Verdict { used: None, refused: bad },
            Some(plugin) => match ruled.join(first, &slot.scope, plugin) {
                Ok(used) => Verdict { used: Some(used), refused: bad },
                Err(why) => Verdict { used: None, refused: Some(bad.unwrap_or(why)) },
            },
        };
        ruled.verdicts.insert(slot, verdict);
    }
    ruled
}

/// Why this plugin may not join those of these offers.
pub(super) fn against(
    first: &[Arc<Plugin>],
    offers: Vec<Offer>,
    scope: &Scope,
    plugin: &Arc<Plugin>,
) -> Option<String> {
    rule(first, offers).join(first, scope, Arc::clone(plugin)).err()
}

impl Ruled {
    /// What is in use of it, or why it is not.
    fn join(
        &mut self,
        first: &[Arc<Plugin>],
        scope: &Scope,
        plugin: Arc<Plugin>,
    ) -> Result<Arc<Plugin>, String> {
        let own = first.iter().find(|own| own.manifest.id == plugin.manifest.id);
        match (scope, own) {
            (Scope::System, Some(own)) if own.digest == plugin.digest => return Ok(Arc::clone(own)),
            (Scope::System, Some(own)) => {
                newer(own, &plugin)?;
                // Another one of this scope may have taken its place already.
                clash(self.common.iter().filter(|other| other.digest != own.digest), &plugin)?;
                self.common.retain(|other| other.digest != own.digest);
            }
            (Scope::System, None) => clash(self.common.iter(), &plugin)?,
            (Scope::Folder, _) => {
                reserved(&plugin)?;
                clash(self.common.iter(), &plugin)?;
            }
            (Scope::Project(project), _) => {
                reserved(&plugin)?;
                let here = self.projects.get(project);
                clash(self.common.iter().chain(here.into_iter().flatten()), &plugin)?;
            }
        }
        let joined = match scope {
            Scope::System | Scope::Folder => &mut self.common,
            Scope::Project(project) => self.projects.entry(project.clone()).or_default(),
        };
        joined.push(Arc::clone(&plugin));
        Ok(plugin)
    }
}

fn newer(own: &Plugin, plugin: &Plugin) -> Result<(), String> {
    if compare(&own.manifest, &plugin.manifest).version == VersionChange::Newer {
        return Ok(());
    }
    let (id, version) = (&own.manifest.id, &own.manifest.version);
    Err(format!("{id} {version} comes with the server: only a newer version takes its place"))
}

fn reserved(plugin: &Plugin) -> Result<(), String> {
    let id = &plugin.manifest.id;
    if id.as_str().starts_with(RESERVED) {
        return Err(format!("the id {id} is reserved: ids of {RESERVED}* are first-party plugins'"));
    }
    Ok(())
}

fn clash<'a>(taken: impl Iterator<Item = &'a Arc<Plugin>>, plugin: &Plugin) -> Result<(), String> {
    let new = &plugin.manifest;
    let mut taken = taken.map(|other| &other.manifest);
    let why = taken.find_map(|old| {
        if old.id == new.id {
            return Some(format!("another one offers {} already: keep one of them", new.id));
        }
        let tool = new.tools.iter().find(|tool| old.tools.iter().any(|other| other.name == tool.name));
        if let Some(tool) = tool {
            return Some(format!("its tool {} has the name of a tool of {}: rename it", tool.name, old.id));
        }
        let (new, key) = (new.persona.as_ref()?, &old.persona.as_ref()?.key);
        (new.key == *key).then(|| format!("its persona {key} has the key of {}'s: rename it", old.id))
    });
    why.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::Origin;
    use serde_json::json;

    fn plugin(id: &str, tool: &str, version: &str, origin: Origin) -> Arc<Plugin> {
        let manifest = serde_json::from_value(json!({
            "manifest": 1, "id": id, "version": version, "kind": "tool", "description": "d",
            "tools": [{"name": tool, "description": "d", "inputSchema": {"type": "object"}}],
        }));
        let digest = model::id::Digest::of(format!("{id} {tool} {version}").as_bytes());
        Arc::new(Plugin { digest, manifest: manifest.unwrap(), origin, component: bytes::Bytes::new() })
    }

    fn project(name: &str) -> Scope {
        Scope::Project(name.parse().unwrap())
    }

    /// A scope, an id (empty: nothing was ever good), its tool, its version, and what is wrong with it now.
    type Row<'a> = (Scope, &'a str, &'a str, &'a str, Option<&'a str>);

    /// `in_use` is what a session of the project p has beside `vteam.files 1.0.0`, and that where it was replaced.
    fn check(name: &str, rows: &[Row<'_>], in_use: &[&str], refused: &[&str]) {
        let first = [plugin("vteam.files", "Read", "1.0.0", Origin::FirstParty)];
        let offers = rows.iter().enumerate().map(|(at, (scope, id, tool, version, bad))| Offer {
            slot: Slot { scope: scope.clone(), name: format!("{at}.wasm") },
            good: (!id.is_empty()).then(|| plugin(id, tool, version, Origin::Dropped)),
            bad: bad.map(str::to_owned),
        });
        let ruled = rule(&first, offers.collect());
        let here = ruled.projects.get(&"p".parse::<ProjectName>().unwrap());
        let known = ruled.common.iter().chain(here.into_iter().flatten());
        let known = known.map(|p| format!("{} {}", p.manifest.id, p.manifest.version));
        let known: Vec<String> = known.filter(|text| text != "vteam.files 1.0.0").collect();
        assert_eq!(known, in_use, "{name}");
        let whys: Vec<&String> = ruled.verdicts.values().filter_map(|v| v.refused.as_ref()).collect();
        assert_eq!(whys.len(), refused.len(), "{name}: {whys:?}");
        for (got, part) in whys.iter().zip(refused) {
            assert!(got.contains(part), "{name}: {got:?}");
        }
    }

    #[test]
    fn nothing_shadows_anything() {
        use Scope::Folder;
        let a = |id, tool| (Folder, id, tool, "1.0.0", None);
        check("a plugin", &[a("acme.a", "A")], &["acme.a 1.0.0"], &[]);
        check("a reserved id", &[a("vteam.new", "A")], &[], &["is reserved"]);
        check("a first-party tool's name", &[a("acme.a", "Read")], &[], &["its tool Read"]);
        check(
            "the same id",
            &[a("acme.a", "A"), a("acme.a", "B")],
            &["acme.a 1.0.0"],
            &["offers acme.a already"],
        );
        check("the same tool", &[a("acme.a", "A"), a("acme.b", "A")], &["acme.a 1.0.0"], &["its tool A"]);
        let bad = |id| (Folder, id, "A", "1.0.0", Some("cut"));
        check("a bad update", &[bad("acme.a")], &["acme.a 1.0.0"], &["cut"]);
        check("a bad file", &[bad("")], &[], &["cut"]);
    }

    #[test]
    fn a_project_has_its_own_beside_what_all_have() {
        let of = |scope: &Scope, id, tool| (scope.clone(), id, tool, "1.0.0", None);
        let (p, q) = (project("p"), project("q"));
        check("its own", &[of(&p, "acme.a", "A")], &["acme.a 1.0.0"], &[]);
        check("another's", &[of(&q, "acme.a", "A")], &[], &[]);
        check("both", &[of(&p, "acme.a", "A"), of(&q, "acme.a", "A")], &["acme.a 1.0.0"], &[]);
        check("a reserved id", &[of(&p, "vteam.files", "A")], &[], &["is reserved"]);
        check("a reserved tool", &[of(&p, "acme.a", "Read")], &[], &["its tool Read"]);
        check(
            "what all have comes first",
            &[of(&Scope::System, "acme.b", "A"), of(&p, "acme.a", "A")],
            &["acme.b 1.0.0"],
            &["its tool A has the name of a tool of acme.b"],
        );
    }

    #[test]
    fn only_the_system_brings_newer_first_party_plugins() {
        let files = |scope, version| (scope, "vteam.files", "Read", version, None);
        check("the same", &[files(Scope::System, "1.0.0")], &[], &[]);
        check("newer", &[files(Scope::System, "1.1.0")], &["vteam.files 1.1.0"], &[]);
        check("older", &[files(Scope::System, "0.9.0")], &[], &["only a newer version"]);
        let other = (Scope::System, "vteam.files", "Write", "1.0.0", None);
        check("other bytes of this version", &[other], &[], &["only a newer version"]);
        check(
            "two of them",
            &[files(Scope::System, "1.1.0"), files(Scope::System, "1.2.0")],
            &["vteam.files 1.1.0"],
            &["another one offers vteam.files"],
        );
        check(
            "one that was not there",
            &[(Scope::System, "vteam.new", "New", "1.0.0", None)],
            &["vteam.new 1.0.0"],
            &[],
        );
        check("in a project", &[files(project("p"), "1.1.0")], &[], &["is reserved"]);
        check("in the folder", &[files(Scope::Folder, "1.1.0")], &[], &["is reserved"]);
    }
}
