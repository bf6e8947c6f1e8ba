//! What a turn leaves to be done.

use super::{Facts, Turn};
use crate::sessions::{
    draft::Draft,
    memory::Memory,
    pod,
    seen::{PodSeen, Runner as Process, Trouble},
    word,
};
use model::{
    id::UnixMillis,
    lifecycle::{Phase, Reason},
};
use resources::{
    ConditionStatus,
    condition::operator::{POD_CREATED, POD_SCHEDULED, POD_STARTED},
};

/// How the scheduler calls what a pod waits for.
const CLAIM: &str = "PersistentVolumeClaim";

/// A pod to be deleted, if it is still the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Delete {
    pub(crate) name: String,
    pub(crate) uid: String,
    /// `None`: the pod's own.
    pub(crate) grace_seconds: Option<u32>,
}

impl Delete {
    pub(crate) fn of(pod: &PodSeen, grace_seconds: Option<u32>) -> Self {
        Self { name: pod.name.clone(), uid: pod.uid.clone(), grace_seconds }
    }
}

/// In this order: the status is written, where there is one; pods are deleted; the object is removed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// `None`: there is no news.
    pub(crate) write: Option<Draft>,
    pub(crate) delete: Vec<Delete>,
    pub(crate) remove: bool,
    /// Come back after a pause that grows.
    pub(crate) retry: bool,
    /// Come back then.
    pub(crate) until: Option<UnixMillis>,
    pub(crate) memory: Memory,
}

impl Turn<'_> {
    /// What keeps a pod from starting.
    pub(super) fn what_hinders(&self, pod: &PodSeen) -> Option<Trouble> {
        match &pod.scheduled {
            Some(Err(Trouble { word, message })) => {
                let message = format!("{message}{}", self.which_claim(message));
                Some(Trouble { word: word.clone(), message })
            }
            _ => pod.trouble.clone(),
        }
    }

    /// The scheduler names neither the claim nor what it waits for.
    fn which_claim(&self, message: &str) -> String {
        let wish = self.facts.judged.wish.as_ref();
        let Some(wish) = wish.filter(|wish| wish.accepted.persistent && message.contains(CLAIM)) else {
            return String::new();
        };
        let claim = pod::base_name(&self.facts.view.uid);
        let class = match &wish.overrides.storage_class {
            Some(class) => format!("the StorageClass {class} (resourceOverrides.storageClass)"),
            None => "a default StorageClass, as resourceOverrides.storageClass names none".to_owned(),
        };
        format!(" The workspace's claim {claim} has no volume yet (kubectl describe pvc): it takes {class}")
    }

    pub(crate) fn finish(mut self) -> Outcome {
        self.tell_pod();
        self.tell_work();
        self.sweep();
        let Self { facts: Facts { view, .. }, memory, draft, mut deletes, until, remove, retry } = self;
        deletes.dedup();
        let write = draft.is_news(view).then_some(draft);
        let remove = remove && write.is_none() && !view.deleting;
        Outcome { remove, write, delete: deletes, retry, until, memory }
    }

    /// How far the pod is.
    fn tell_pod(&mut self) {
        let phase = self.draft.phase();
        let Some(pod) = self.recorded().cloned() else {
            let explains =
                |kind: &str| kind == POD_STARTED && matches!(phase, Phase::Pending | Phase::Failed);
            self.draft.retain(|one| {
                ![POD_SCHEDULED, POD_STARTED].contains(&one.kind.as_str())
                    || explains(&one.kind) && one.status == ConditionStatus::False
            });
            return;
        };
        if phase.is_settled() || phase == Phase::Pending || pod.ending.is_some() {
            return;
        }
        self.draft.condition(POD_CREATED, ConditionStatus::True, "Created", "");
        let hindrance = self.what_hinders(&pod);
        match (&pod.scheduled, &hindrance) {
            (Some(Ok(())), _) => self.draft.condition(POD_SCHEDULED, ConditionStatus::True, "Scheduled", ""),
            (Some(Err(_)), Some(Trouble { word, message })) => {
                self.draft.condition(POD_SCHEDULED, ConditionStatus::False, word, message);
            }
            _ => {}
        }
        match (&pod.trouble, pod.started) {
            (Some(Trouble { word, .. }), _) if self.is_told(word) => {}
            (Some(Trouble { word, message }), _) => {
                self.draft.condition(POD_STARTED, ConditionStatus::False, word, message);
            }
            (None, true) => self.draft.condition(POD_STARTED, ConditionStatus::True, "Started", ""),
            (None, false) => self.draft.retain(|one| one.kind != POD_STARTED),
        }
        if phase == Phase::Creating {
            match hindrance {
                Some(Trouble { word, .. }) if self.draft.status.reason.as_deref() == Some(word.as_str()) => {}
                Some(Trouble { word, message }) => self.draft.say(&Reason::Other(word), &message),
                None => self.draft.say(&Reason::RunnerStarting, ""),
            }
        }
    }

    /// Kubelet says the same in other words at each try.
    fn is_told(&self, word: &str) -> bool {
        self.draft
            .find(POD_STARTED)
            .is_some_and(|one| one.status == ConditionStatus::False && one.reason == word)
    }

    /// Why it runs or waits is the server's word.
    fn tell_work(&mut self) {
        let Some(work) = &self.facts.view.work else { return };
        let phase = self.draft.phase();
        if matches!(phase, Phase::Running | Phase::Waiting) && work.phase == Some(phase) {
            let reason = word::reason(work.reason.as_deref(), phase);
            self.draft.say(&reason, work.message.as_deref().unwrap_or_default());
        }
    }

    /// Pods that nothing comes of any more.
    fn sweep(&mut self) {
        let status = &self.draft.status;
        let phase = self.draft.phase();
        let rests = phase.is_settled();
        let epoch = status.epoch.unwrap_or(0);
        let is_waste = |pod: &&PodSeen| {
            let recorded = status.pod_uid.as_ref() == Some(&pod.uid);
            let runs = matches!(pod.runner, Process::Running { .. } | Process::Waiting) && pod.over.is_none();
            // A later one is taken up by the next start: somebody was interrupted between making it and saying so.
            let earlier = pod.epoch <= epoch;
            pod.ending.is_none()
                && match (recorded, rests) {
                    (true, true) => !runs || self.facts.judged.wish.is_none(),
                    (true, false) => phase == Phase::Pending && !pod.has_future(),
                    (false, rests) => rests || earlier,
                }
        };
        let waste: Vec<Delete> =
            self.facts.pods.iter().filter(is_waste).map(|pod| Delete::of(pod, None)).collect();
        self.deletes.extend(waste);
    }
}
