//! What a session needs of the machine that it runs on, and where in a cluster it may run.

use crate::{quantity::Quantity, rules, schema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// The established form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ResourceOverrides {
    /// Cores, such as `2` or `500m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Bytes, such as `4Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// StorageClass of the workspace's volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class: Option<String>,
    /// PriorityClass of the pod: none of those that the cluster and vteam itself run by.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        extend("x-kubernetes-validations" = [rules::Rule::new(PRIORITY, A_PRIORITY)])
    )]
    pub priority_class: Option<String>,
}

/// What native programs may use, and where the pod may run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Resources {
    /// Cores, such as `2` or `500m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Bytes, such as `4Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// Bytes of the workspace's volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<Quantity>,
    /// Image in which native programs run: any with a shell at `/bin/sh`. Absent: the one that comes with the operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        extend("x-kubernetes-validations" = rules::text(rules::IMAGE, rules::AN_IMAGE))
    )]
    pub tools_image: Option<String>,
    /// Of the runner's own container: what the agent loop and its plugins use. Absent: what is shipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerResources>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpu: Option<Gpu>,
    /// Labels that the node must have.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::texts::<16, 63>")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints of nodes that the pod may run on in spite of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct RunnerResources {
    /// Cores, such as `1` or `200m`: a share, and no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Quantity>,
    /// Bytes, such as `1Gi`: 128 MiB at least.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

/// Less than this does not hold the runner and its first plugins.
pub(crate) const RUNNER_MEMORY_BYTES: u64 = 128 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gpu {
    #[schemars(range(min = 1, max = 16))]
    pub count: u32,
    /// The extended resource; `nvidia.com/gpu` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 317),
        regex(pattern = r"^[a-z0-9.-]+/[A-Za-z0-9_.-]+$"),
        extend("x-kubernetes-validations" = [rules::Rule::new(EXTENDED, AN_EXTENDED)])
    )]
    pub resource: Option<String>,
    /// Which product, as the node's label `<domain of the resource>/gpu.product` says it, such as `NVIDIA-L4`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub product: Option<String>,
    /// The least memory of each, by the node's label `<domain of the resource>/gpu.memory`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
}

const PRIORITY: &str = "!self.startsWith('system-') && self != 'vteam-system'";
pub(crate) const A_PRIORITY: &str =
    "is what the cluster or vteam itself runs by: name a PriorityClass that was made for sessions";
const EXTENDED: &str =
    "!self.split('/')[0].endsWith('.kubernetes.io') && self.split('/')[0] != 'kubernetes.io'";
pub(crate) const AN_EXTENDED: &str =
    "must be an extended resource, such as nvidia.com/gpu: names of kubernetes.io are the cluster's own";

impl ResourceOverrides {
    /// A class that would take the place of what runs all the others.
    pub(crate) fn is_of_the_system(&self) -> bool {
        self.priority_class.as_deref().is_some_and(|one| one.starts_with("system-") || one == "vteam-system")
    }
}

impl Gpu {
    /// Whether its name is the cluster's: a taint of that name is no device's.
    pub(crate) fn is_of_the_cluster(&self) -> bool {
        let domain = self.extended().split('/').next().unwrap_or_default();
        domain == "kubernetes.io" || domain.ends_with(".kubernetes.io")
    }

    /// The extended resource.
    #[must_use]
    pub fn extended(&self) -> &str {
        self.resource.as_deref().unwrap_or("nvidia.com/gpu")
    }
}

/// As in a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default, JsonSchema, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Toleration {
    /// Absent with `operator: Exists`: every taint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 316))]
    pub key: Option<String>,
    /// `Equal` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operator: Option<TolerationOperator>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub value: Option<String>,
    /// Absent: every effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effect: Option<TaintEffect>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub toleration_seconds: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub enum TolerationOperator {
    Equal,
    Exists,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ToSchema)]
pub enum TaintEffect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}
