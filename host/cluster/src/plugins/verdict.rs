//! What a ConfigMap is told became of its plugins: as an annotation of it, and as an Event.

use super::packages::{Map, package};
use crate::MANAGER;
use k8s_openapi::api::{
    core::v1::{ConfigMap, ObjectReference},
    events::v1::Event,
};
use kinds::{News, cut};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use server::catalogue::{Plugin, Verdict};
use std::collections::BTreeMap;

/// Where it stands.
pub(super) const ANNOTATION: &str = "vteam.ambient-code/verdict";
/// Characters of one reason.
const WHY: usize = 400;
/// Bytes of the annotation; all annotations of an object have 256 KiB.
const SAID: usize = 32 * 1024;

/// What is said of a ConfigMap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    /// Something in it is not in use as it is.
    pub(super) refused: bool,
}

/// A line for each key.
pub(super) fn said(
    name: &str,
    map: &Map,
    verdicts: &BTreeMap<String, Verdict>,
    problem: impl Fn(&Plugin) -> Option<String>,
) -> Said {
    let mut said = Said { text: String::new(), refused: false };
    for key in map.keys.keys() {
        let verdict = package(name, key).and_then(|package| verdicts.get(&package));
        let (line, refused) = match verdict {
            Some(verdict) => of(verdict, &problem),
            None => ("no component: its name ends neither in .wasm nor in .wasm.gz".to_owned(), false),
        };
        said.refused |= refused;
        said.text.push_str(&format!("{key}: {line}\n"));
    }
    if map.keys.is_empty() {
        said = Said { text: "there is nothing in it\n".to_owned(), refused: true };
    }
    said.text = cut(said.text, SAID);
    said
}

fn of(verdict: &Verdict, problem: impl Fn(&Plugin) -> Option<String>) -> (String, bool) {
    let named = |plugin: &Plugin| {
        let manifest = &plugin.manifest;
        let version = model::render::line(&manifest.version.as_str().into(), 64);
        format!("{} {version} {}", manifest.id, plugin.digest)
    };
    let line = |why: &str| model::render::line(&why.into(), WHY);
    match verdict {
        Verdict { used: Some(plugin), refused: Some(why) } => {
            (format!("refused: {}; {} stays in use", line(why), named(plugin)), true)
        }
        Verdict { used: None, refused } => {
            (format!("refused: {}", line(refused.as_deref().unwrap_or("it is not known yet"))), true)
        }
        Verdict { used: Some(plugin), refused: None } => match problem(plugin) {
            Some(why) => (format!("{} is of no use: {}", named(plugin), line(&why)), true),
            None => {
                let asked = plugin.manifest.asked();
                let asked = asked.iter().map(|effect| effect.as_str()).collect::<Vec<_>>().join(", ");
                let asks = if asked.is_empty() { String::new() } else { format!(", asks for {asked}") };
                (format!("in use: {}{asks}", named(plugin)), false)
            }
        },
    }
}

/// Says it. An Event that is not taken is no reason to say it again: the annotation stays.
pub(super) async fn say(
    client: &Client,
    namespace: &str,
    name: &str,
    uid: &str,
    said: &Said,
) -> Result<(), kube::Error> {
    let body = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        // Another one of this name is not the one that was judged, and none is made where it is gone.
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "annotations": {ANNOTATION: said.text}},
    });
    let params = PatchParams::apply(MANAGER).force();
    let patched = Api::<ConfigMap>::namespaced(client.clone(), namespace)
        .patch_metadata(name, &params, &Patch::Apply(&body))
        .await;
    match patched {
        // Its other annotations leave no room: it will not be otherwise for being tried again.
        Err(kube::Error::Api(answer)) if answer.code == 422 => {
            let why = model::render::line(&answer.message.as_str().into(), WHY);
            tracing::warn!(namespace, name, why, "a ConfigMap takes no verdict");
        }
        patched => drop(patched?),
    }
    let event = event(namespace, name, uid, said);
    let told =
        Api::<Event>::namespaced(client.clone(), namespace).create(&PostParams::default(), &event).await;
    if let Err(error) = told {
        tracing::warn!(namespace, name, error = telemetry::field::chain(&error), "an Event is not taken");
    }
    Ok(())
}

fn event(namespace: &str, name: &str, uid: &str, said: &Said) -> Event {
    // What is wrong is what is looked for.
    let lines = said.text.lines().filter(|line| !said.refused || !line.contains(": in use: "));
    let news = News {
        warning: said.refused,
        reason: if said.refused { "PluginRefused" } else { "PluginAdmitted" }.to_owned(),
        action: "Admit",
        note: lines.collect::<Vec<_>>().join("\n"),
    };
    let of = ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("ConfigMap".to_owned()),
        name: Some(name.to_owned()),
        namespace: Some(namespace.to_owned()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    };
    kinds::event(of, MANAGER, news)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::packages::Value;
    use server::catalogue::Origin;
    use std::sync::Arc;

    fn plugin(asks: serde_json::Value) -> Arc<Plugin> {
        let manifest = serde_json::from_value(json!({
            "manifest": 1, "id": "acme.a", "version": "1.0.0", "kind": "tool", "description": "d", "asks": asks,
        }));
        let digest = model::id::Digest::of(b"a");
        Arc::new(Plugin {
            digest,
            manifest: manifest.unwrap(),
            origin: Origin::Dropped,
            component: bytes::Bytes::new(),
        })
    }

    /// What is said of the one key `a.wasm`, with the digest left out.
    fn check(name: &str, verdict: Option<Verdict>, problem: Option<&str>, text: &str, refused: bool) {
        let keys = BTreeMap::from([("a.wasm".to_owned(), Value::new("x"))]);
        let map = Map { uid: "u".to_owned(), said: None, keys };
        let verdicts = verdict.map(|verdict| ("m/a.wasm".to_owned(), verdict)).into_iter().collect();
        let said = said("m", &map, &verdicts, |_| problem.map(str::to_owned));
        let got = said.text.replace(model::id::Digest::of(b"a").as_str(), "DIGEST");
        assert_eq!((got.as_str(), said.refused), (format!("a.wasm: {text}\n").as_str(), refused), "{name}");
        let event = event("p", "m", "u", &said);
        assert_eq!(event.type_.as_deref(), Some(if refused { "Warning" } else { "Normal" }), "{name}");
        assert!(event.note.unwrap().starts_with("a.wasm: "), "{name}");
    }

    #[test]
    fn people_read_what_became_of_it() {
        let used = |asks| Some(plugin(asks));
        let asks = json!([{"effect": "fs.read", "reason": "to read"}]);
        let verdict =
            |used, refused: Option<&str>| Some(Verdict { used, refused: refused.map(str::to_owned) });
        check("good", verdict(used(json!([])), None), None, "in use: acme.a 1.0.0 DIGEST", false);
        let text = "in use: acme.a 1.0.0 DIGEST, asks for fs.read";
        check("it asks", verdict(used(asks), None), None, text, false);
        check("bad", verdict(None, Some("cut\nshort")), None, r"refused: cut\nshort", true);
        let text = "refused: cut; acme.a 1.0.0 DIGEST stays in use";
        check("the last good one", verdict(used(json!([])), Some("cut")), None, text, true);
        let text = "acme.a 1.0.0 DIGEST is of no use: too large";
        check("not compiled", verdict(used(json!([])), None), Some("too large"), text, true);
    }
}
