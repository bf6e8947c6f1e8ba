//! A session's object, read as far as it can be.

use crate::clock;
use kube::{ResourceExt as _, core::DynamicObject};
use model::{id::UnixMillis, plan::Desired};
use resources::{
    Accepted, AgenticSessionSpec, AgenticSessionStatus, Invalid, ProjectPolicy,
    session::{Metadata, OperatingMode, Posted},
};
use serde_json::Value;

#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) generation: u64,
    /// Grows with each change of the object (KEP-5504).
    pub(crate) version: u64,
    pub(crate) created: UnixMillis,
    pub(crate) deleting: bool,
    pub(crate) desired: Desired,
    pub(crate) spec: Value,
    pub(crate) labels: std::collections::BTreeMap<String, String>,
    pub(crate) status: AgenticSessionStatus,
}

/// A specification that can be worked by.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    pub(crate) spec: AgenticSessionSpec,
    pub(crate) accepted: Accepted,
}

impl Session {
    /// `None`: the API server gave it no uid, name or namespace, which it always does.
    pub(crate) fn read(object: &DynamicObject) -> Option<Self> {
        let spec = object.data.get("spec").cloned().unwrap_or_default();
        let status = object.data.get("status").cloned().unwrap_or_default();
        let mode = spec.get("operatingMode").cloned();
        let created = object.metadata.creation_timestamp.as_ref();
        Some(Self {
            namespace: object.namespace()?,
            name: object.metadata.name.clone()?,
            uid: object.metadata.uid.clone()?,
            generation: object.metadata.generation.and_then(|g| u64::try_from(g).ok()).unwrap_or(0),
            version: object.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or(0),
            created: created.map_or(UnixMillis(0), |time| clock::of(time.0)),
            deleting: object.metadata.deletion_timestamp.is_some(),
            desired: desired(mode.and_then(|mode| serde_json::from_value(mode).ok())),
            labels: object.labels().clone(),
            // Only our own roles write it; what cannot be read of it is not there.
            status: serde_json::from_value(status).unwrap_or_default(),
            spec,
        })
    }

    /// What is to be done, by the project's policy.
    pub(crate) fn task(&self, policy: &ProjectPolicy) -> Result<Task, Invalid> {
        let spec = resources::session::read(&self.spec)?.spec;
        let metadata = Metadata { labels: self.labels.clone(), ..Metadata::default() };
        let accepted = Posted { metadata, spec: spec.clone(), raw: self.spec.clone() }.accept(policy)?;
        Ok(Task { spec, accepted })
    }
}

fn desired(mode: Option<OperatingMode>) -> Desired {
    match mode {
        None | Some(OperatingMode::Running) => Desired::Run,
        Some(OperatingMode::Suspended) => Desired::Suspend,
        Some(OperatingMode::Stopped) => Desired::Stop,
    }
}
