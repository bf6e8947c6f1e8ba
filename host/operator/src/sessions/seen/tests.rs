use super::*;
use serde_json::{Value, json};

pub(crate) fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "vteam-s-u-1", "uid": "pod-1", "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": {SESSION_LABEL: "u", EPOCH_LABEL: "1"}},
        "status": status,
    }))
    .unwrap()
}

fn seen(status: Value) -> PodSeen {
    PodSeen::read(&pod(status)).unwrap()
}

fn runner(restarts: i32, state: Value, last: Value) -> Value {
    json!({"containerStatuses": [
        {"name": "runner", "image": "r", "imageID": "", "ready": false, "restartCount": restarts, "state": state, "lastState": last},
        {"name": "tools", "image": "t", "imageID": "", "ready": true, "restartCount": 0, "state": {"running": {}}},
    ]})
}

fn ended(code: i32, reason: &str, message: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason, "message": message, "finishedAt": "2026-01-01T00:01:00Z"}})
}

#[test]
fn what_the_runner_is_at() {
    let running = json!({"running": {"startedAt": "2026-01-01T00:00:30Z"}});
    let since = clock::parse("2026-01-01T00:00:30Z");
    let check = |status: Value, expected: &str| {
        let seen = seen(status.clone());
        let said = match &seen.runner {
            Runner::Waiting => "waiting".to_owned(),
            Runner::Running { since: at } => {
                assert_eq!(*at, since);
                format!("running {}", seen.restarts)
            }
            Runner::Over { again, cause, .. } => {
                format!("over {} {again} {}: {}", seen.restarts, cause.word, cause.message)
            }
        };
        assert_eq!(format!("{said}; next {}", seen.next_restarts()), expected, "{status}");
    };
    check(json!({}), "waiting; next 0");
    check(runner(0, json!({"waiting": {"reason": "ContainerCreating"}}), json!({})), "waiting; next 0");
    check(runner(0, running.clone(), json!({})), "running 0; next 0");
    check(
        runner(0, ended(1, "Error", "{\"a\": 1}\nno such thing\n\n"), json!({})),
        "over 0 true Error: the runner ended with exit code 1: no such thing; next 1",
    );
    check(
        runner(0, json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended(137, "OOMKilled", "")),
        "over 0 true OOMKilled: the runner ran out of memory; next 1",
    );
    check(runner(1, running, ended(137, "Error", "")), "running 1; next 1");
    check(
        runner(0, ended(0, "Completed", ""), json!({})),
        "over 0 false Completed: the runner ended by itself; next 1",
    );
}

#[test]
fn why_a_pod_is_over() {
    let check = |status: Value, word: &str, counts: bool, hopeless: Option<Reason>| {
        let cause = seen(status.clone()).over.unwrap();
        assert_eq!((cause.word.as_str(), cause.counts, cause.hopeless), (word, counts, hopeless), "{status}");
    };
    check(
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory.",
            "conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "TerminationByKubelet", "message": "low"}]}),
        "TerminationByKubelet",
        false,
        None,
    );
    check(
        json!({"phase": "Failed", "reason": "Evicted", "message": "Usage of EmptyDir volume \"workspace\" exceeds the limit \"1Gi\"."}),
        "Evicted",
        true,
        Some(Reason::WorkspaceFull),
    );
    check(json!({"phase": "Failed", "reason": "NodeShutdown"}), "NodeShutdown", false, None);
    check(
        json!({"phase": "Failed", "reason": "UnexpectedAdmissionError"}),
        "UnexpectedAdmissionError",
        true,
        None,
    );
    check(json!({"phase": "Failed"}), "Failed", true, None);
    assert!(seen(json!({"phase": "Running"})).over.is_none());
}

#[test]
fn why_a_pod_does_not_start() {
    let unschedulable = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
    let trouble = seen(unschedulable).scheduled.unwrap().unwrap_err();
    assert_eq!(
        (trouble.word.as_str(), trouble.message.as_str()),
        ("Unschedulable", "0/1 nodes are available")
    );
    let waits = |reason: &str, message: &str| {
        let state = json!({"waiting": {"reason": reason, "message": message}});
        seen(runner(0, state, json!({})))
            .trouble
            .map(|trouble| format!("{}: {}", trouble.word, trouble.message))
    };
    assert_eq!(
        waits("ErrImagePull", "not found"),
        Some("ImagePullBackOff: container runner, image r: not found".to_owned())
    );
    assert_eq!(
        waits("ImagePullBackOff", "Back-off pulling image \"r\": ErrImagePull: not found"),
        Some("ImagePullBackOff: container runner, image r: not found".to_owned())
    );
    assert_eq!(waits("ContainerCreating", ""), None);
    assert_eq!(waits("CrashLoopBackOff", "back-off 10s"), None);
}

#[test]
fn a_deleted_pods_end_is_nobodys_failure() {
    let mut pod = pod(runner(0, ended(143, "Error", ""), json!({})));
    pod.metadata.deletion_timestamp = Some(Time("2026-01-01T00:02:00Z".parse().unwrap()));
    pod.metadata.deletion_grace_period_seconds = Some(30);
    let seen = PodSeen::read(&pod).unwrap();
    let Runner::Over { cause, .. } = &seen.runner else { panic!("{seen:?}") };
    assert!(!cause.counts && !seen.has_future());
    assert_eq!(seen.ending.unwrap().grace_seconds, 30);
}
