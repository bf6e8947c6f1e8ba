//! Runners whose session is gone. The cluster's garbage collector ends them; here go those that somebody took away from
//! it, by deleting the session without what it owns or by writing their pod's owner away.

use super::{Sessions, pod, seen::PodSeen, turn::Delete};
use crate::calls::CallError;
use kube::{ResourceExt, core::DynamicObject, runtime::reflector::Store};
use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};
use telemetry::field::chain;
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks. One that is found once may be of a session that the watch has not brought yet.
const EVERY: Duration = Duration::from_secs(30);

impl Sessions {
    pub(super) async fn end_orphans(&self, store: &Store<DynamicObject>) {
        let mut found = HashSet::new();
        let mut looks = interval(EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let there: HashSet<String> = store.state().iter().filter_map(|object| object.uid()).collect();
            let mut orphans: BTreeMap<String, Vec<PodSeen>> = BTreeMap::new();
            for pod in self.pods.all().into_iter().filter(|pod| is_orphan(pod, &there)) {
                orphans.entry(pod.namespace.clone()).or_default().push(pod);
            }
            let before = std::mem::replace(
                &mut found,
                orphans.values().flatten().map(|pod| pod.uid.clone()).collect(),
            );
            for (namespace, mut pods) in orphans {
                pods.retain(|pod| before.contains(&pod.uid));
                if let Err(error) = self.end(&namespace, &pods).await {
                    tracing::warn!(namespace, error = %chain(&error), "pods without a session stay for now");
                }
            }
        }
    }

    /// Those of which the API server knows no session either.
    async fn end(&self, namespace: &str, pods: &[PodSeen]) -> Result<(), CallError> {
        if pods.is_empty() {
            return Ok(());
        }
        let there = self.hands.sessions(namespace).await?;
        for pod in pods.iter().filter(|pod| !there.contains(&pod.session)) {
            tracing::warn!(namespace, pod = pod.name, uid = pod.session, "its session is gone: it is ended");
            match self.hands.delete(namespace, &Delete::of(pod, None)).await? {
                Some(ending) => self.pods.ends(ending),
                None => self.pods.gone(&pod.session, &pod.uid),
            }
        }
        Ok(())
    }
}

/// Whoever labels a pod of their own has it left alone: it is not called as ours are.
fn is_orphan(seen: &PodSeen, sessions: &HashSet<String>) -> bool {
    let ours = seen.name == pod::name(&seen.session, model::id::Epoch(seen.epoch));
    ours && !seen.owned && seen.ending.is_none() && !sessions.contains(&seen.session)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::pod::{EPOCH_LABEL, SESSION_LABEL};
    use serde_json::{Value, json};

    #[test]
    fn a_runner_that_was_taken_from_its_session_is_an_orphan() {
        let there = HashSet::from(["there".to_owned()]);
        let check = |session: &str, name: &str, more: Value, expected: bool| {
            let labels = json!({SESSION_LABEL: session, EPOCH_LABEL: "2"});
            let mut metadata = json!({"name": name, "uid": "1", "labels": labels});
            metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let pod = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            let seen = PodSeen::read(&pod).unwrap();
            assert_eq!(is_orphan(&seen, &there), expected, "{session} {name} {more}");
        };
        let owner = |uid: &str, controller: bool| json!({"ownerReferences": [{"apiVersion": "v", "kind": "k", "name": "n", "uid": uid, "controller": controller}]});
        check("gone", "vteam-s-gone-2", json!({}), true);
        check("gone", "vteam-s-gone-2", owner("gone", false), true);
        check("gone", "vteam-s-gone-2", owner("other", true), true);
        check("gone", "vteam-s-gone-2", owner("gone", true), false);
        check("gone", "vteam-s-gone-2", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), false);
        check("there", "vteam-s-there-2", json!({}), false);
        check("gone", "vteam-s-gone-3", json!({}), false);
        check("gone", "database-0", json!({}), false);
    }
}
