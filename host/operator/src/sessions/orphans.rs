//! Runners whose session is gone. The cluster's garbage collector ends them; here go those that somebody took away from
//! it, by deleting the session as an orphan's parent or by writing their pod's owner away.

use super::{Sessions, pod, seen::PodSeen};
use kube::{ResourceExt, core::DynamicObject, runtime::reflector::Store};
use std::{collections::HashSet, time::Duration};
use telemetry::field::chain;
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks. One that is found twice is not about to be collected.
const EVERY: Duration = Duration::from_secs(30);

impl Sessions {
    pub(super) async fn end_orphans(&self, store: &Store<DynamicObject>) {
        let mut found = HashSet::new();
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let there: HashSet<String> = store.state().iter().filter_map(|object| object.uid()).collect();
            let orphans: Vec<PodSeen> =
                self.pods.all().into_iter().filter(|pod| is_orphan(pod, &there)).collect();
            for orphan in orphans.iter().filter(|orphan| found.contains(&orphan.uid)) {
                self.end(orphan).await;
            }
            found = orphans.into_iter().map(|orphan| orphan.uid).collect();
        }
    }

    async fn end(&self, orphan: &PodSeen) {
        let PodSeen { namespace, name, session, .. } = orphan;
        match self.hands.end_orphan(orphan).await {
            Ok(true) => {
                tracing::warn!(
                    namespace,
                    pod = name,
                    uid = session,
                    "its session is gone: the pod is deleted"
                );
            }
            // The watch is behind.
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(namespace, pod = name, error = %chain(&error), "a pod without a session stays for now");
            }
        }
    }
}

/// Whoever labels a pod of their own has it left alone: it is not called as ours are.
fn is_orphan(seen: &PodSeen, sessions: &HashSet<String>) -> bool {
    let ours = seen.name == pod::name(&seen.session, model::id::Epoch(seen.epoch));
    ours && seen.ending.is_none() && !sessions.contains(&seen.session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::pod::{EPOCH_LABEL, SESSION_LABEL};
    use serde_json::json;

    #[test]
    fn a_runner_without_its_session_is_an_orphan() {
        let there = HashSet::from(["there".to_owned()]);
        let check = |session: &str, name: &str, ending: Option<&str>, expected: bool| {
            let labels = json!({SESSION_LABEL: session, EPOCH_LABEL: "2"});
            let metadata = json!({"name": name, "uid": "1", "labels": labels, "deletionTimestamp": ending});
            let pod = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            assert_eq!(
                is_orphan(&PodSeen::read(&pod).unwrap(), &there),
                expected,
                "{session} {name} {ending:?}"
            );
        };
        check("gone", "vteam-s-gone-2", None, true);
        check("gone", "vteam-s-gone-2", Some("2026-01-01T00:00:00Z"), false);
        check("there", "vteam-s-there-2", None, false);
        check("gone", "vteam-s-gone-3", None, false);
        check("gone", "database-0", None, false);
    }
}
