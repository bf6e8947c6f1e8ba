//! What is seen of a runner's pod.

use crate::{clock, sessions::pod::RUNNER};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodCondition};
use model::id::UnixMillis;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) created: UnixMillis,
    /// Until when it may take to end, where it is deleted.
    pub(crate) ends: Option<UnixMillis>,
    /// Its containers are over and are not started again.
    pub(crate) over: bool,
    pub(crate) scheduled: bool,
    /// How often the runner's container was started anew.
    pub(crate) restarts: u32,
    /// The runner's process runs.
    pub(crate) running: bool,
    /// All of its containers do.
    pub(crate) started: bool,
    /// Taken away by the cluster: nobody's failure.
    pub(crate) disrupted: bool,
    /// What is in the way, or why it ended: one word, and the same for people.
    pub(crate) trouble: Option<(String, String)>,
}

impl Seen {
    pub(crate) fn read(pod: &Pod) -> Self {
        let status = pod.status.clone().unwrap_or_default();
        let phase = status.phase.as_deref().unwrap_or_default();
        let conditions = status.conditions.unwrap_or_default();
        let is = |kind: &str, value: &str| conditions.iter().any(|c| c.type_ == kind && c.status == value);
        let containers = status.container_statuses.unwrap_or_default();
        let runner = containers.iter().find(|container| container.name == RUNNER);
        let over = matches!(phase, "Failed" | "Succeeded");
        let runs = |container: &ContainerStatus| {
            container.state.as_ref().is_some_and(|state| state.running.is_some())
        };
        Self {
            name: pod.metadata.name.clone().unwrap_or_default(),
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            created: pod.metadata.creation_timestamp.as_ref().map_or(UnixMillis(0), |t| clock::of(t.0)),
            ends: pod.metadata.deletion_timestamp.as_ref().map(|t| clock::of(t.0)),
            over,
            scheduled: is("PodScheduled", "True"),
            restarts: runner.and_then(|c| u32::try_from(c.restart_count).ok()).unwrap_or(0),
            running: runner.is_some_and(runs),
            started: runner.is_some() && containers.iter().all(runs),
            disrupted: is("DisruptionTarget", "True"),
            trouble: trouble(&conditions, &containers, status.reason, status.message, over),
        }
    }
}

fn trouble(
    conditions: &[PodCondition],
    containers: &[ContainerStatus],
    reason: Option<String>,
    message: Option<String>,
    over: bool,
) -> Option<(String, String)> {
    let disruption = conditions.iter().find(|c| c.type_ == "DisruptionTarget" && c.status == "True");
    if let Some(condition) = disruption {
        let reason = condition.reason.clone().unwrap_or_else(|| "Disrupted".to_owned());
        return Some((reason, condition.message.clone().unwrap_or_default()));
    }
    if let Some(reason) = reason.filter(|_| over) {
        return Some((reason, message.unwrap_or_default()));
    }
    let unscheduled = conditions.iter().find(|c| c.type_ == "PodScheduled" && c.status == "False");
    if let Some(condition) = unscheduled {
        return Some(("Unschedulable".to_owned(), condition.message.clone().unwrap_or_default()));
    }
    containers.iter().find_map(|container| of_container(container, over))
}

/// Reasons that a container waits for that are its ordinary start.
const USUAL: [&str; 2] = ["ContainerCreating", "PodInitializing"];

fn of_container(container: &ContainerStatus, over: bool) -> Option<(String, String)> {
    let name = &container.name;
    if let Some(waiting) = container.state.as_ref().and_then(|state| state.waiting.as_ref()) {
        let reason = waiting.reason.clone().unwrap_or_default();
        if !USUAL.contains(&reason.as_str()) && !reason.is_empty() && reason != "CrashLoopBackOff" {
            let message = waiting.message.clone().unwrap_or_default();
            return Some((reason, format!("container {name}: {message}")));
        }
    }
    let now = container.state.as_ref().and_then(|state| state.terminated.as_ref());
    let before = container.last_state.as_ref().and_then(|state| state.terminated.as_ref());
    let ended = now.or(before)?;
    if ended.exit_code == 0 && !over {
        return None;
    }
    let reason = match ended.reason.as_deref() {
        None | Some("Error" | "") => "Crashed".to_owned(),
        Some(reason) => reason.to_owned(),
    };
    Some((reason, format!("container {name} ended with {}", ended.exit_code)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(name: &str, status: Value, expected: (bool, bool, Option<(&str, &str)>)) {
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "status": status});
        let seen = Seen::read(&serde_json::from_value(pod).unwrap());
        let (over, disrupted, trouble) = expected;
        let said = seen.trouble.as_ref().map(|(reason, message)| (reason.as_str(), message.as_str()));
        assert_eq!((seen.over, seen.disrupted, said), (over, disrupted, trouble), "{name}");
    }

    fn container(state: Value, last: Value) -> Value {
        json!({"name": "runner", "image": "i", "imageID": "", "ready": false, "restartCount": 1, "state": state, "lastState": last})
    }

    #[test]
    fn what_is_in_the_way() {
        check("nothing", json!({"phase": "Running"}), (false, false, None));
        check(
            "no node",
            json!({"phase": "Pending", "conditions": [
                {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes"}]}),
            (false, false, Some(("Unschedulable", "0/1 nodes"))),
        );
        check(
            "no image",
            json!({"containerStatuses": [container(json!({"waiting": {"reason": "ErrImageNeverPull", "message": "absent"}}), json!({}))]}),
            (false, false, Some(("ErrImageNeverPull", "container runner: absent"))),
        );
        check(
            "an ordinary start",
            json!({"containerStatuses": [container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({}))]}),
            (false, false, None),
        );
        check(
            "out of memory, and started again",
            json!({"containerStatuses": [container(json!({"running": {}}), json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}))]}),
            (false, false, Some(("OOMKilled", "container runner ended with 137"))),
        );
        check(
            "evicted",
            json!({"phase": "Failed", "reason": "Evicted", "message": "disk", "conditions": [
                {"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "disk pressure"}]}),
            (true, true, Some(("TerminationByKubelet", "disk pressure"))),
        );
    }
}
