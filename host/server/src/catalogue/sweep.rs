//! Takes away components and native code that nobody needs any more: not in use, not last good, not of a session.

use super::{Catalogue, lock};
use crate::sessions::Sessions;
use model::id::Digest;
use std::{
    collections::BTreeSet,
    io,
    time::{Duration, Instant},
};
use telemetry::Shutdown;

/// How long a component stays for a session that was given it and may not have written that down yet.
const GIVEN: Duration = Duration::from_secs(60 * 60);
/// After something changed: a project that changes its plugins all the time must not fill the volume.
const SOON: Duration = Duration::from_secs(30);
/// Sessions go, too.
const LATER: Duration = Duration::from_secs(60 * 60);

impl Catalogue {
    /// A session is given it.
    pub(super) fn give(&self, digest: &Digest) {
        lock(&self.0.given).insert(digest.clone(), Instant::now());
    }

    /// Sweeps from time to time, until shutdown.
    pub(crate) async fn keep_swept(self, sessions: Sessions, shutdown: Shutdown) {
        let mut changes = self.changes();
        let next = async |changes: &mut tokio::sync::watch::Receiver<u64>| {
            tokio::select! {
                _ = changes.changed() => tokio::time::sleep(SOON).await,
                () = tokio::time::sleep(LATER) => {}
            }
        };
        while shutdown.or(next(&mut changes)).await.is_some() {
            if let Err(error) = self.sweep(&sessions).await {
                tracing::warn!(%error, "plugins that nobody needs are not removed for now");
            }
        }
    }

    async fn sweep(&self, sessions: &Sessions) -> io::Result<()> {
        let catalogue = self.clone();
        let idle = tokio::task::spawn_blocking(move || catalogue.idle()).await??;
        if idle.is_empty() {
            return Ok(());
        }
        let records = sessions.store().sessions(None).await.map_err(io::Error::other)?;
        let pinned: BTreeSet<Digest> =
            records.into_iter().flat_map(|record| record.state.pins).map(|pin| pin.digest).collect();
        let catalogue = self.clone();
        let remove = move || catalogue.remove_all(&idle, &pinned);
        tokio::task::spawn_blocking(remove).await?
    }

    /// What is kept and not in use.
    fn idle(&self) -> io::Result<BTreeSet<Digest>> {
        let mut idle = self.0.kept.digests()?;
        let used = lock(&self.0.shelf).digests();
        let mut given = lock(&self.0.given);
        given.retain(|_, at| at.elapsed() < GIVEN);
        let first = self.0.first.iter().map(|plugin| &plugin.digest);
        idle.retain(|digest| {
            !used.contains(digest)
                && !given.contains_key(digest)
                && !first.clone().any(|first| first == digest)
        });
        Ok(idle)
    }

    fn remove_all(&self, idle: &BTreeSet<Digest>, pinned: &BTreeSet<Digest>) -> io::Result<()> {
        // Nothing is admitted meanwhile. What came back since is idle no more.
        let shelf = lock(&self.0.shelf);
        let used = shelf.digests();
        for digest in idle.difference(pinned).filter(|digest| !used.contains(digest)) {
            self.0.native.forget(digest)?;
            self.0.kept.remove(digest)?;
            tracing::info!(%digest, "a plugin that nobody needs is removed");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Added, Key, Origin, Package, Places, Scope};
    use serde_json::json;
    use std::path::Path;
    use telemetry::Health;

    /// The smallest admissible component of this version.
    fn component(id: &str, version: &str) -> Vec<u8> {
        let export = b"vteam:plugin/tool@0.1.0";
        // (component (instance) (export "vteam:plugin/tool@0.1.0" (instance 0)))
        let mut bytes = vec![0, b'a', b's', b'm', 0x0d, 0, 1, 0, 5, 3, 1, 1, 0];
        bytes.extend([
            11,
            u8::try_from(export.len() + 6).unwrap(),
            1,
            0,
            u8::try_from(export.len()).unwrap(),
        ]);
        bytes.extend(export);
        bytes.extend([5, 0, 0]);
        let manifest = json!({"manifest": 1, "id": id, "version": version, "kind": "tool", "description": "d",
            "tools": [{"name": "Try", "description": "d", "inputSchema": {"type": "object"}}]});
        manifest::embed(&bytes, &serde_json::from_value(manifest).unwrap()).unwrap()
    }

    fn open(dir: &Path) -> Catalogue {
        let places = Places {
            first_party: dir.join("first"),
            added: Added::Elsewhere("elsewhere"),
            native: dir.join("native"),
            compiler: dir.join("no-compiler"),
        };
        Catalogue::open(places, Key::open(&dir.join("key")).unwrap(), Health::new()).unwrap()
    }

    fn stock(catalogue: &Catalogue, content: &[u8]) {
        let content = bytes::Bytes::copy_from_slice(content);
        let stamp = Digest::of(&content).to_string();
        let package = Package { name: "map/a.wasm".to_owned(), stamp, read: Box::new(|| Ok(content)) };
        catalogue.stock(&scope(), vec![package]);
    }

    fn scope() -> Scope {
        Scope::Project("p".parse().unwrap())
    }

    #[test]
    fn what_nobody_needs_goes_and_what_a_session_has_stays() {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = open(dir.path());
        let versions = ["1.0.0", "1.1.0", "1.2.0", "1.3.0"].map(|version| component("acme.a", version));
        let [unused, given, pinned, used] = versions.each_ref().map(|bytes| Digest::of(bytes));
        for bytes in &versions {
            stock(&catalogue, bytes);
            if Digest::of(bytes) == given {
                catalogue.give(&given);
            }
        }
        let idle = catalogue.idle().unwrap();
        assert_eq!(idle, BTreeSet::from([unused.clone(), pinned.clone()]));
        // Its native code was finished after it went.
        let orphan = Digest::of(b"orphan");
        let orphaned = dir.path().join(format!("native/{}.json", orphan.hex()));
        std::fs::write(&orphaned, "{}").unwrap();
        let idle = catalogue.idle().unwrap();
        assert!(idle.contains(&orphan));
        catalogue.remove_all(&idle, &BTreeSet::from([pinned.clone()])).unwrap();
        assert!(!orphaned.exists());
        let there = |digest: &Digest| catalogue.by_digest(&"p".parse().unwrap(), digest).is_some();
        assert_eq!([&unused, &given, &pinned, &used].map(there), [false, true, true, true]);
        // A bad one in its place: the last good one is needed, also by the next server.
        stock(&catalogue, b"cut");
        assert!(!catalogue.idle().unwrap().contains(&used));
        let next = open(dir.path());
        assert!(!next.idle().unwrap().contains(&used));
        stock(&next, b"cut");
        let verdict = next.verdicts(&scope()).remove("map/a.wasm").unwrap();
        assert!(verdict.refused.is_some());
        assert_eq!(verdict.used.map(|plugin| plugin.digest.clone()), Some(used.clone()));
        // What is taken away is not last good for what comes later under its name.
        next.stock(&scope(), vec![]);
        assert!(next.idle().unwrap().contains(&used));
        stock(&next, b"cut");
        assert_eq!(next.verdicts(&scope()).remove("map/a.wasm").unwrap().used, None);
    }

    #[test]
    fn a_session_keeps_what_was_first_party_when_it_began() {
        let dir = tempfile::tempdir().unwrap();
        let first = dir.path().join("first");
        std::fs::create_dir(&first).unwrap();
        let (old, new) = (component("vteam.a", "1.0.0"), component("vteam.a", "1.1.0"));
        std::fs::write(first.join("a.wasm"), &old).unwrap();
        drop(open(dir.path()));
        std::fs::write(first.join("a.wasm"), &new).unwrap();
        let upgraded = open(dir.path());
        let found = upgraded.by_digest(&"p".parse().unwrap(), &Digest::of(&old)).unwrap();
        assert_eq!(found.origin, Origin::FirstParty);
        assert_eq!(upgraded.idle().unwrap(), BTreeSet::from([Digest::of(&old)]), "sessions decide");
    }

    #[test]
    fn a_projects_plugin_is_seen_by_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let catalogue = open(dir.path());
        stock(&catalogue, &component("acme.a", "1.0.0"));
        let (mine, others) = ("p".parse().unwrap(), "q".parse().unwrap());
        let id = "acme.a".parse().unwrap();
        assert!(catalogue.plugin(&mine, &id).is_some() && catalogue.plugin(&others, &id).is_none());
        stock(&catalogue, b"cut");
        assert_eq!((catalogue.refused(&mine).len(), catalogue.refused(&others).len()), (1, 0));
        let told = catalogue.0.health.degraded();
        let names_it = |(part, why): (&String, &String)| {
            format!("{part} {why}").contains("project p") || why.contains("map/a.wasm")
        };
        assert!(!told.iter().any(names_it), "{told:?}");
        catalogue.keep_projects(&BTreeSet::from([others]));
        assert!(catalogue.plugin(&mine, &id).is_none());
    }
}
