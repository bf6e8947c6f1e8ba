//! A session's object, read.

use crate::runners::Pod;
use kube::{ResourceExt as _, core::DynamicObject};
use model::{
    Untrusted,
    id::{Epoch, Seq, SessionRef, SessionUid, UnixMillis},
    lifecycle::{Phase, Reason},
    plan::Desired,
};
use resources::{
    AgenticSessionStatus, Invalid, ProjectPolicy,
    session::{Metadata, OF_ONE_MACHINE, OperatingMode, Posted},
};
use serde_json::Value;
use server::{
    records::Refused,
    sessions::{Decided, Object},
};

/// Who made the session, as the server wrote it for the caller.
pub(crate) const CREATED_BY: &str = "vteam.ambient-code/created-by";

/// What an object says, as far as it can be read.
pub(crate) struct Seen {
    pub(crate) uid: SessionUid,
    pub(crate) reference: SessionRef,
    /// Grows with each change of the object (KEP-5504).
    pub(crate) version: u64,
    pub(crate) decided: Decided,
    /// Of the pod whose uid `decided` has.
    pub(crate) pod_name: Option<String>,
    /// A server had it before.
    has_log: bool,
    created_at: UnixMillis,
    created_by: Untrusted,
    labels: std::collections::BTreeMap<String, String>,
    spec: Value,
}

impl Seen {
    /// `None`: it has no uid or name that can be one of ours.
    pub(crate) fn read(object: &DynamicObject, gone: bool) -> Option<Self> {
        let uid = object.metadata.uid.as_deref()?.parse().ok()?;
        let project = object.metadata.namespace.as_deref()?.parse().ok()?;
        let name = object.metadata.name.as_deref()?.parse().ok()?;
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        // Only our own roles write it; what cannot be read of it is not there.
        let status = object.data.get("status").cloned().unwrap_or_default();
        let status: AgenticSessionStatus = serde_json::from_value(status).unwrap_or_default();
        let created_by = object.annotations().get(CREATED_BY).map_or("unknown", String::as_str);
        let operator = status.operator;
        let created = object.metadata.creation_timestamp.as_ref().map(|time| time.0.as_millisecond());
        let mode = spec.get("operatingMode").cloned();
        let mode = mode.and_then(|mode| serde_json::from_value(mode).ok());
        Some(Self {
            uid,
            reference: SessionRef { project, name },
            version: object.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0),
            decided: Decided {
                desired: desired(mode),
                phase: operator.phase.unwrap_or(Phase::Pending),
                reason: operator.reason.map_or(Reason::Accepted, Reason::from_word),
                message: operator.message.unwrap_or_default().as_str().into(),
                epoch: Epoch(operator.epoch.unwrap_or(0)),
                pod: operator.pod_uid,
                observed: Seq(operator.observed_work.unwrap_or(0)),
                gone: gone || object.metadata.deletion_timestamp.is_some(),
            },
            pod_name: operator.pod_name,
            has_log: status.server.work.is_some(),
            created_at: UnixMillis(created.and_then(|ms| ms.try_into().ok()).unwrap_or(0)),
            created_by: created_by.into(),
            labels: object.labels().clone(),
            spec,
        })
    }

    /// The pod that the operator recorded.
    pub(crate) fn pod(&self) -> Option<Pod> {
        Some(Pod {
            uid: self.decided.pod.clone()?,
            name: self.pod_name.clone()?,
            namespace: self.reference.project.to_string(),
        })
    }

    /// What is to be done, by the project's policy.
    pub(crate) fn accept(&self, policy: &ProjectPolicy) -> Result<Object, Invalid> {
        let spec = resources::session::read(&self.spec)?.spec;
        let metadata = Metadata { labels: self.labels.clone(), ..Metadata::default() };
        let mut spec = Posted { metadata, spec, raw: self.spec.clone() }.accept(policy)?;
        // What is true of one machine alone is not of a cluster.
        spec.warnings.retain(|warning| !OF_ONE_MACHINE.contains(&warning.reason.as_str()));
        let ran = self.has_log || self.decided.phase.is_settled();
        Ok(Object { reference: self.reference.clone(), created_by: self.created_by.clone(), spec, ran })
    }

    /// As people are shown one that does not run.
    pub(crate) fn refused(&self) -> Refused {
        Refused {
            uid: self.uid.clone(),
            reference: self.reference.clone(),
            created_at: self.created_at,
            created_by: self.created_by.clone(),
            decided: self.decided.clone(),
        }
    }
}

fn desired(mode: Option<OperatingMode>) -> Desired {
    match mode {
        None | Some(OperatingMode::Running) => Desired::Run,
        Some(OperatingMode::Suspended) => Desired::Suspend,
        Some(OperatingMode::Stopped) => Desired::Stop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(object: Value) -> Option<Seen> {
        Seen::read(&serde_json::from_value(object).unwrap(), false)
    }

    #[test]
    fn what_an_object_says() {
        let seen = seen(json!({
            "apiVersion": resources::API_VERSION, "kind": "AgenticSession",
            "metadata": {"name": "s", "namespace": "p", "uid": "0d6b9a2e-1f0c-4d4f-8f0e-0a6c4d1f2b3c", "resourceVersion": "71",
                "annotations": {CREATED_BY: "ada"}},
            "spec": {"prompt": "do it", "operatingMode": "Stopped"},
            "status": {"phase": "Creating", "reason": "RunnerStarting", "epoch": 2, "podName": "n", "podUid": "u", "observedWork": 7,
                "work": {"seq": 9, "hasWork": true}},
        }))
        .unwrap();
        assert_eq!((seen.version, seen.decided.pod.as_deref(), seen.has_log), (71, Some("u"), true));
        assert_eq!(seen.pod_name.as_deref(), Some("n"));
        let Decided { desired, phase, reason, epoch, observed, gone, .. } = &seen.decided;
        assert_eq!((*desired, *phase, *epoch, *observed), (Desired::Stop, Phase::Creating, Epoch(2), Seq(7)));
        assert_eq!((reason, *gone), (&Reason::RunnerStarting, false));
        let policy = ProjectPolicy::try_from(resources::ProjectSettingsSpec::default()).unwrap();
        let object = seen.accept(&policy).unwrap();
        assert_eq!((object.spec.prompt.as_str(), object.created_by.raw()), ("do it", "ada"));
    }

    #[test]
    fn what_is_malformed_is_no_session() {
        assert!(seen(json!({"apiVersion": "v1", "kind": "x", "metadata": {"name": "s"}})).is_none());
        let odd = json!({"apiVersion": "v1", "kind": "x", "metadata": {"name": "s", "namespace": "p", "uid": "u"},
            "spec": {"prompt": 7}, "status": 3});
        let odd = seen(odd).unwrap();
        let policy = ProjectPolicy::try_from(resources::ProjectSettingsSpec::default()).unwrap();
        assert!(odd.accept(&policy).is_err());
    }
}
