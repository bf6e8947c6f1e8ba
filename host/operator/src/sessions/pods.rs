//! Sessions' pods as they were last seen, by session: an index of our own, fed by the watch.

use super::seen::PodSeen;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

type Of = HashMap<String, BTreeMap<String, PodSeen>>;

#[derive(Default)]
pub(crate) struct Pods {
    /// By session's uid, then by pod's name.
    of: Mutex<Of>,
    listed: Mutex<Of>,
}

impl Pods {
    /// Takes in what the watch says. Returns the uids of the sessions that it is about.
    pub(crate) fn apply(&self, event: &Event<Pod>) -> Vec<String> {
        match event {
            Event::Init => {
                lock(&self.listed).clear();
                vec![]
            }
            Event::InitApply(pod) => {
                if let Some(pod) = PodSeen::read(pod) {
                    put(&mut lock(&self.listed), pod);
                }
                vec![]
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut *lock(&self.listed));
                let before = std::mem::replace(&mut *lock(&self.of), listed.clone());
                let uids: BTreeSet<String> = before.into_keys().chain(listed.into_keys()).collect();
                uids.into_iter().collect()
            }
            Event::Apply(pod) => PodSeen::read(pod).map(|pod| self.watched(pod)).into_iter().collect(),
            Event::Delete(pod) => PodSeen::read(pod).map(|pod| self.remove(&pod)).into_iter().collect(),
        }
    }

    fn watched(&self, pod: PodSeen) -> String {
        let session = pod.session.clone();
        put(&mut lock(&self.of), pod);
        session
    }

    /// What was made or asked for here: the watch may not have it yet. Where it has, it knows more than the answer does.
    pub(crate) fn put(&self, pod: PodSeen) {
        let mut of = lock(&self.of);
        let known = of.get(&pod.session).and_then(|pods| pods.get(&pod.name));
        if known.is_none_or(|known| known.uid != pod.uid) {
            put(&mut of, pod);
        }
    }

    /// That it ends, as the API server answered. Where the watch has it gone already, it stays so.
    pub(crate) fn ends(&self, pod: PodSeen) {
        let mut of = lock(&self.of);
        if let Some(known) = of.get_mut(&pod.session).and_then(|pods| pods.get_mut(&pod.name))
            && known.uid == pod.uid
        {
            *known = pod;
        }
    }

    pub(crate) fn of(&self, session: &str) -> Vec<PodSeen> {
        lock(&self.of).get(session).map(|pods| pods.values().cloned().collect()).unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Vec<PodSeen> {
        lock(&self.of).values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// As the API server answered: the watch may have said so before it was noted here that there is one.
    pub(crate) fn gone(&self, session: &str, uid: &str) {
        let mut of = lock(&self.of);
        if let Some(pods) = of.get_mut(session) {
            pods.retain(|_, known| known.uid != uid);
            if pods.is_empty() {
                of.remove(session);
            }
        }
    }

    fn remove(&self, pod: &PodSeen) -> String {
        self.gone(&pod.session, &pod.uid);
        pod.session.clone()
    }
}

fn put(of: &mut Of, pod: PodSeen) {
    of.entry(pod.session.clone()).or_default().insert(pod.name.clone(), pod);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sessions::pod::{EPOCH_LABEL, SESSION_LABEL};
    use serde_json::json;

    fn pod(name: &str, uid: &str) -> Pod {
        serde_json::from_value(
            json!({"metadata": {"name": name, "uid": uid, "labels": {SESSION_LABEL: "s", EPOCH_LABEL: "1"}}}),
        )
        .unwrap()
    }

    #[test]
    fn pods_are_found_by_their_session() {
        let pods = Pods::default();
        let names = |pods: &Pods| pods.of("s").into_iter().map(|pod| pod.name).collect::<Vec<_>>();
        assert_eq!(pods.apply(&Event::Apply(pod("a", "1"))), ["s"]);
        assert_eq!(pods.apply(&Event::Apply(pod("b", "2"))), ["s"]);
        assert_eq!(names(&pods), ["a", "b"]);
        for gone in [pod("b", "9"), pod("c", "3")] {
            pods.ends(PodSeen::read(&gone).unwrap());
        }
        assert_eq!(names(&pods), ["a", "b"]);
        assert!(pods.of("s").iter().all(|pod| pod.uid != "9"));
        // The answer to its making comes after the watch's word that it ended.
        let mut ended = pod("b", "2");
        ended.status = Some(serde_json::from_value(json!({"phase": "Failed"})).unwrap());
        pods.apply(&Event::Apply(ended.clone()));
        pods.put(PodSeen::read(&pod("b", "2")).unwrap());
        assert_eq!(pods.of("s").get(1), PodSeen::read(&ended).as_ref());
        // Another pod of that name is there by now.
        assert_eq!(pods.apply(&Event::Delete(pod("b", "0"))), ["s"]);
        assert_eq!(pods.apply(&Event::Delete(pod("a", "1"))), ["s"]);
        // The answer to its making comes after the watch's word that it is gone.
        pods.put(PodSeen::read(&pod("a", "1")).unwrap());
        pods.gone("s", "0");
        assert_eq!(names(&pods), ["a", "b"]);
        pods.gone("s", "1");
        assert_eq!(names(&pods), ["b"]);
        // What a new list does not have is gone, and whoever had it is told.
        for event in [Event::Init, Event::InitDone] {
            let told = pods.apply(&event);
            assert_eq!(told.is_empty(), matches!(event, Event::Init));
        }
        assert!(names(&pods).is_empty());
        assert!(pods.apply(&Event::Apply(Pod::default())).is_empty());
    }
}
