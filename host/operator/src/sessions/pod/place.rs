//! What the containers may use, and which nodes they may use it on.

use crate::sessions::judge::Wish;
use k8s_openapi::{
    api::core::v1::{
        Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
        ResourceRequirements, Toleration,
    },
    apimachinery::pkg::api::resource::Quantity as Amount,
};
use resources::{
    Quantity,
    session::placement::{
        Gpu, ResourceOverrides, Resources, RunnerResources, TaintEffect, Toleration as Wanted,
        TolerationOperator,
    },
};
use std::collections::BTreeMap;

/// The agent loop and its plugins, where a session does not say: little most of the time. A share of the processor and no
/// limit: what nobody else needs is anybody's, and a limit would stretch each start.
const RUNNER: Amounts<'static> = Amounts { cpu: "50m", memory: "64Mi", memory_limit: "512Mi" };
/// Native programs, where a session does not say.
const TOOLS: Amounts<'static> = Amounts { cpu: "100m", memory: "128Mi", memory_limit: "2Gi" };
const TOOLS_MEMORY_BYTES: u64 = 2 << 30;

struct Amounts<'a> {
    cpu: &'a str,
    memory: &'a str,
    memory_limit: &'a str,
}

pub(super) fn amount(text: &str) -> Amount {
    Amount(text.to_owned())
}

pub(super) fn runner(wanted: Option<&RunnerResources>) -> ResourceRequirements {
    let (cpu, memory) = wanted.map_or((None, None), |wanted| (wanted.cpu.as_ref(), wanted.memory.as_ref()));
    requirements(&RUNNER.or(cpu, memory), None)
}

pub(super) fn tools(resources: &Resources, overrides: &ResourceOverrides) -> ResourceRequirements {
    let cpu = resources.cpu.as_ref().or(overrides.cpu.as_ref());
    let memory = resources.memory.as_ref().or(overrides.memory.as_ref());
    requirements(&TOOLS.or(cpu, memory), resources.gpu.as_ref())
}

impl Amounts<'static> {
    /// The memory that a session says is what it gets: request and limit.
    fn or<'a>(&self, cpu: Option<&'a Quantity>, memory: Option<&'a Quantity>) -> Amounts<'a> {
        let memory = memory.map(Quantity::as_str);
        Amounts {
            cpu: cpu.map_or(self.cpu, Quantity::as_str),
            memory: memory.unwrap_or(self.memory),
            memory_limit: memory.unwrap_or(self.memory_limit),
        }
    }
}

fn requirements(amounts: &Amounts<'_>, gpu: Option<&Gpu>) -> ResourceRequirements {
    let Amounts { cpu, memory, memory_limit } = amounts;
    let named = |name: &str, value: &str| (name.to_owned(), amount(value));
    let mut requests = BTreeMap::from([named("cpu", cpu), named("memory", memory)]);
    let mut limits = BTreeMap::from([named("memory", memory_limit)]);
    // Whole ones, and as many as asked for.
    if let Some(gpu) = gpu {
        let (name, count) = named(gpu.extended(), &gpu.count.to_string());
        requests.insert(name.clone(), count.clone());
        limits.insert(name, count);
    }
    ResourceRequirements { claims: None, limits: Some(limits), requests: Some(requests) }
}

/// Bytes that native programs may take together.
pub(super) fn memory(wish: &Wish) -> u64 {
    let said = wish.resources.memory.as_ref().or(wish.overrides.memory.as_ref());
    said.map_or(TOOLS_MEMORY_BYTES, Quantity::units)
}

/// Which nodes have such a GPU, and the taint that nodes with a GPU usually have.
pub(super) fn gpu(gpu: Option<&Gpu>) -> (Option<Affinity>, Vec<Toleration>) {
    let Some(gpu) = gpu else { return (None, vec![]) };
    let domain = gpu.extended().split('/').next().unwrap_or_default();
    let requirement = |label: &str, operator: &str, value: String| NodeSelectorRequirement {
        key: format!("{domain}/{label}"),
        operator: operator.to_owned(),
        values: Some(vec![value]),
    };
    let product = gpu.product.iter().map(|product| requirement("gpu.product", "In", product.clone()));
    // The label is in MiB, and there is no "at least".
    let memory = gpu.memory.iter().map(|least| {
        let mebibytes = least.units().div_ceil(1 << 20);
        requirement("gpu.memory", "Gt", mebibytes.saturating_sub(1).to_string())
    });
    let wanted: Vec<_> = product.chain(memory).collect();
    let affinity = (!wanted.is_empty()).then(|| Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(NodeSelector {
                node_selector_terms: vec![NodeSelectorTerm {
                    match_expressions: Some(wanted),
                    match_fields: None,
                }],
            }),
            ..NodeAffinity::default()
        }),
        ..Affinity::default()
    });
    let toleration = Toleration {
        key: Some(gpu.extended().to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoSchedule".to_owned()),
        ..Toleration::default()
    };
    (affinity, vec![toleration])
}

pub(super) fn toleration(wanted: &Wanted) -> Toleration {
    let Wanted { key, operator, value, effect, toleration_seconds } = wanted;
    let operator = operator.map(|operator| match operator {
        TolerationOperator::Equal => "Equal",
        TolerationOperator::Exists => "Exists",
    });
    let effect = effect.map(|effect| match effect {
        TaintEffect::NoSchedule => "NoSchedule",
        TaintEffect::PreferNoSchedule => "PreferNoSchedule",
        TaintEffect::NoExecute => "NoExecute",
    });
    Toleration {
        key: key.clone(),
        operator: operator.map(str::to_owned),
        value: value.clone(),
        effect: effect.map(str::to_owned),
        toleration_seconds: *toleration_seconds,
    }
}
