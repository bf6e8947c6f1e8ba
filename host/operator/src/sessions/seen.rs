//! What a pod says of the runner in it. Pure.

use super::pod::{EPOCH_LABEL, RUNNER, SESSION_LABEL};
use crate::clock;
use k8s_openapi::{
    api::core::v1::{ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod, PodCondition},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use model::{id::UnixMillis, lifecycle::Reason, render};

const MESSAGE_CHARACTERS: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodSeen {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) session: String,
    /// The cluster's garbage collector ends it with its session.
    pub(crate) owned: bool,
    /// That it was made for.
    pub(crate) epoch: u64,
    pub(crate) created: UnixMillis,
    pub(crate) ending: Option<Ending>,
    /// The pod as a whole is over.
    pub(crate) over: Option<Cause>,
    /// How often the container `runner` was started anew.
    pub(crate) restarts: u32,
    pub(crate) runner: Runner,
    /// Why the process before it ended.
    pub(crate) before: Option<Cause>,
    /// `None`: not decided yet.
    pub(crate) scheduled: Option<Result<(), Trouble>>,
    pub(crate) started: bool,
    /// Why a container cannot start.
    pub(crate) trouble: Option<Trouble>,
    /// It waits in a queue, not for a node.
    pub(crate) gated: bool,
}

/// Somebody deleted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// When its grace is over.
    pub(crate) until: UnixMillis,
    pub(crate) grace_seconds: i64,
}

/// The latest process of the container `runner`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Runner {
    /// There was none.
    Waiting,
    Running {
        since: UnixMillis,
    },
    /// Kubelet starts it `again`, or does not.
    Over {
        at: UnixMillis,
        again: bool,
        cause: Cause,
    },
}

/// Why something is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cause {
    /// One word, as Kubernetes has it.
    pub(crate) word: String,
    pub(crate) message: String,
    /// It was the runner's own failure, and not something done to it.
    pub(crate) counts: bool,
    /// What it means for the session where it is not just another runner.
    pub(crate) hopeless: Option<Reason>,
}

/// Why something does not begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) word: String,
    pub(crate) message: String,
}

impl PodSeen {
    /// `None`: it is no session's.
    pub(crate) fn read(pod: &Pod) -> Option<Self> {
        let session = pod.labels().get(SESSION_LABEL)?.clone();
        let metadata = &pod.metadata;
        let status = pod.status.clone().unwrap_or_default();
        let containers = status.container_statuses.unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let condition = |kind: &str| conditions.iter().find(|condition| condition.type_ == kind);
        let disruption = condition("DisruptionTarget").filter(|target| target.status == "True");
        let ending = metadata.deletion_timestamp.as_ref().map(|Time(at)| Ending {
            until: clock::of(*at),
            grace_seconds: metadata.deletion_grace_period_seconds.unwrap_or_default(),
        });
        let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
        let runner = containers.iter().find(|container| container.name == RUNNER);
        let process = runner.map_or(Runner::Waiting, |runner| process(runner, disruption, ending.is_some()));
        let before = runner.and_then(|runner| runner.last_state.as_ref()?.terminated.as_ref());
        let scheduled = condition("PodScheduled");
        Some(Self {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: pod.name_any(),
            uid: metadata.uid.clone()?,
            owned: pod
                .owner_references()
                .iter()
                .any(|one| one.controller == Some(true) && one.uid == session),
            session,
            epoch: pod.labels().get(EPOCH_LABEL).and_then(|epoch| epoch.parse().ok()).unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|Time(at)| clock::of(*at)).unwrap_or_default(),
            ending,
            over: over
                .then(|| whole(status.reason.as_deref(), status.message.as_deref(), disruption, &process)),
            restarts: runner.and_then(|runner| u32::try_from(runner.restart_count).ok()).unwrap_or_default(),
            runner: process,
            before: before.map(|ended| exit(ended, disruption, ending.is_some())),
            scheduled: scheduled.and_then(|scheduled| match scheduled.status.as_str() {
                "True" => Some(Ok(())),
                "False" => Some(Err(trouble(scheduled.reason.as_deref(), scheduled.message.as_deref()))),
                _ => None,
            }),
            started: !containers.is_empty() && containers.iter().all(runs),
            trouble: containers.iter().find_map(stuck),
            gated: scheduled.is_some_and(|it| it.reason.as_deref() == Some("SchedulingGated")),
        })
    }

    /// Whether a process of the runner may still come in it.
    pub(crate) fn has_future(&self) -> bool {
        self.over.is_none()
            && self.ending.is_none()
            && !matches!(self.runner, Runner::Over { again: false, .. })
    }

    /// How often the runner will have been started anew when the next process of it runs, or that runs already.
    pub(crate) fn next_restarts(&self) -> u32 {
        match self.runner {
            Runner::Over { .. } => self.restarts.saturating_add(1),
            Runner::Waiting | Runner::Running { .. } => self.restarts,
        }
    }
}

impl Cause {
    /// Nothing is left that would say more.
    pub(crate) fn deleted() -> Self {
        Self {
            word: "Deleted".to_owned(),
            message: "the runner's pod was deleted".to_owned(),
            counts: false,
            hopeless: None,
        }
    }

    pub(crate) fn node_lost() -> Self {
        Self {
            word: "NodeLost".to_owned(),
            message: "the node of the runner's pod does not answer".to_owned(),
            counts: false,
            hopeless: None,
        }
    }

    pub(crate) fn never_dialled_in(seconds: u64) -> Self {
        Self {
            word: "StartTimeout".to_owned(),
            message: format!("the runner did not dial in within {seconds} s; its pod was deleted"),
            counts: true,
            hopeless: None,
        }
    }
}

fn runs(container: &ContainerStatus) -> bool {
    container.state.as_ref().is_some_and(|state| state.running.is_some())
}

fn process(runner: &ContainerStatus, disruption: Option<&PodCondition>, ending: bool) -> Runner {
    let state = runner.state.clone().unwrap_or_default();
    let last = runner.last_state.clone().and_then(|state| state.terminated);
    if let Some(running) = state.running {
        return Runner::Running {
            since: running.started_at.map(|Time(at)| clock::of(at)).unwrap_or_default(),
        };
    }
    let Some(ended) = state.terminated.or(last) else { return Runner::Waiting };
    Runner::Over {
        at: ended.finished_at.as_ref().map(|Time(at)| clock::of(*at)).unwrap_or_default(),
        again: ended.exit_code != 0,
        cause: exit(&ended, disruption, ending),
    }
}

/// Why a container ended.
fn exit(ended: &ContainerStateTerminated, disruption: Option<&PodCondition>, ending: bool) -> Cause {
    if let Some(target) = disruption {
        return disrupted(target);
    }
    if ending {
        return Cause::deleted();
    }
    let word = ended.reason.clone().unwrap_or_else(|| "Error".to_owned());
    let said = ended.message.as_deref().map(last_line).filter(|said| !said.is_empty());
    let message = match (word.as_str(), ended.exit_code) {
        ("OOMKilled", _) => "the runner ran out of memory".to_owned(),
        (_, 0) => "the runner ended by itself".to_owned(),
        (_, code) => format!("the runner ended with exit code {code}"),
    };
    let message = said.map_or_else(|| message.clone(), |said| format!("{message}: {said}"));
    Cause { word, message, counts: true, hopeless: None }
}

/// Why a pod as a whole is over.
fn whole(
    reason: Option<&str>,
    message: Option<&str>,
    disruption: Option<&PodCondition>,
    runner: &Runner,
) -> Cause {
    if let Some(target) = disruption {
        return disrupted(target);
    }
    let said = line(message.unwrap_or_default());
    match (reason, runner) {
        // A volume of the pod is full: another pod would fill it as well.
        (Some("Evicted"), _) if said.contains("EmptyDir volume") => Cause {
            word: "Evicted".to_owned(),
            message: format!("the pod was evicted: {said}"),
            counts: true,
            hopeless: Some(Reason::WorkspaceFull),
        },
        (Some(reason), _) => Cause {
            word: reason.to_owned(),
            message: format!("the runner's pod is over: {reason}: {said}"),
            counts: !matches!(
                reason,
                "Evicted" | "NodeLost" | "NodeShutdown" | "Shutdown" | "Terminated" | "Preempting"
            ),
            hopeless: None,
        },
        (None, Runner::Over { cause, .. }) => cause.clone(),
        (None, _) => Cause {
            word: "Failed".to_owned(),
            message: "the runner's pod is over".to_owned(),
            counts: true,
            hopeless: None,
        },
    }
}

fn disrupted(target: &PodCondition) -> Cause {
    let word = target.reason.clone().unwrap_or_else(|| "DisruptionTarget".to_owned());
    let said = line(target.message.as_deref().unwrap_or_default());
    Cause { message: format!("the runner's pod was taken away: {said}"), word, counts: false, hopeless: None }
}

/// Why a container cannot be started; a crash is not among it.
fn stuck(container: &ContainerStatus) -> Option<Trouble> {
    let ContainerStateWaiting { reason, message } = container.state.clone()?.waiting?;
    let reason = reason?;
    let known = matches!(
        reason.as_str(),
        "ErrImagePull"
            | "ImagePullBackOff"
            | "InvalidImageName"
            | "ErrImageNeverPull"
            | "ImageInspectError"
            | "RegistryUnavailable"
            | "SignatureValidationFailed"
            | "CreateContainerConfigError"
            | "CreateContainerError"
    );
    known.then(|| Trouble {
        // The two alternate while kubelet tries: to follow them would be a write each time.
        word: if reason == "ErrImagePull" { "ImagePullBackOff".to_owned() } else { reason },
        message: format!(
            "container {}, image {}: {}",
            container.name,
            container.image,
            line(&steady(message))
        ),
    })
}

/// Without what changes at each try.
fn steady(message: Option<String>) -> String {
    let message = message.unwrap_or_default();
    match message.strip_prefix("Back-off pulling image ") {
        Some(rest) => {
            let why = rest.split_once(": ").map_or("cannot be pulled", |(_, why)| why);
            why.strip_prefix("ErrImagePull: ").unwrap_or(why).to_owned()
        }
        None => message,
    }
}

fn trouble(reason: Option<&str>, message: Option<&str>) -> Trouble {
    Trouble { word: reason.unwrap_or("Unschedulable").to_owned(), message: line(message.unwrap_or_default()) }
}

fn last_line(text: &str) -> String {
    line(text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default())
}

/// What others wrote is shown harmless.
fn line(text: &str) -> String {
    render::line(&text.into(), MESSAGE_CHARACTERS)
}

#[cfg(test)]
mod tests;
