//! A session's object as it was read, whatever state it is in.

use crate::clock;
use kube::{ResourceExt, core::DynamicObject};
use model::id::UnixMillis;
use resources::{
    AgenticSessionStatus, Condition, ConditionStatus,
    condition::{self, operator::POD_CREATED},
    session::status::{OperatorStatus, Work},
};
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct View {
    pub(crate) uid: String,
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) version: String,
    pub(crate) generation: Option<u64>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) spec: Value,
    pub(crate) deleting: bool,
    /// Our part of the status.
    pub(crate) status: OperatorStatus,
    /// Ours among the conditions.
    pub(crate) conditions: Vec<Condition>,
    /// The server's word.
    pub(crate) work: Option<Work>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ViewError {
    #[error("the object has no name, namespace, uid or version")]
    Metadata,
    /// To go on as if nothing had been would start its runner anew.
    #[error("the object's status cannot be read")]
    Status(#[source] serde_json::Error),
}

impl View {
    pub(crate) fn read(object: &DynamicObject) -> Result<Self, ViewError> {
        let metadata = &object.metadata;
        let (Some(name), Some(namespace), Some(uid), Some(version)) =
            (&metadata.name, &metadata.namespace, &metadata.uid, &metadata.resource_version)
        else {
            return Err(ViewError::Metadata);
        };
        let status =
            object.data.get("status").cloned().unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        let AgenticSessionStatus { operator, server, conditions } =
            serde_json::from_value(status).map_err(ViewError::Status)?;
        Ok(Self {
            uid: uid.clone(),
            name: name.clone(),
            namespace: namespace.clone(),
            version: version.clone(),
            generation: metadata.generation.and_then(|generation| u64::try_from(generation).ok()),
            labels: object.labels().clone(),
            spec: object.data.get("spec").cloned().unwrap_or_default(),
            deleting: metadata.deletion_timestamp.is_some(),
            status: operator,
            conditions: conditions.into_iter().filter(|one| is_ours(&one.kind)).collect(),
            work: server.work,
        })
    }

    /// Since when the cluster refuses its pod.
    pub(crate) fn refused_since(&self) -> Option<UnixMillis> {
        let refused = |one: &&Condition| one.kind == POD_CREATED && one.status == ConditionStatus::False;
        self.conditions.iter().find(refused).map(|one| clock::parse(&one.last_transition_time))
    }
}

/// Leaves out what nobody here reads: it is most of an object's size.
pub(crate) fn strip(object: &mut DynamicObject) {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
    // That they are there is all that counts.
    for place in ["/spec/userContext", "/spec/mcpServers/custom"] {
        if let Some(value @ Value::Object(_)) = object.data.pointer_mut(place) {
            *value = Value::Object(serde_json::Map::new());
        }
    }
}

/// The server's types are a closed list; ours are not: each field without effect has one.
fn is_ours(kind: &str) -> bool {
    !condition::server::ALL.contains(&kind)
}
