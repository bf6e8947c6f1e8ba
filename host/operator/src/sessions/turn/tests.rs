use super::*;
use crate::sessions::{
    judge::{Project, judge},
    seen::{Ending, Runner as Process, Trouble},
};
use resources::{ProjectPolicy, ProjectSettingsSpec};
use serde_json::{Value, json};
use std::time::Duration;

const NOW: &str = "2026-01-01T00:10:00Z";
const TIMEOUTS: Timeouts = Timeouts {
    pending: Duration::from_secs(600),
    start: Duration::from_secs(120),
    drain: Duration::from_secs(60),
    lost: Duration::from_secs(60),
    max_losses: 3,
    backoff_base: Duration::from_secs(1),
    backoff_cap: Duration::from_secs(60),
};

fn at(time: &str) -> UnixMillis {
    clock::parse(&format!("2026-01-01T{time}Z"))
}

/// A session in a cluster that does what it is asked at once.
struct World {
    spec: Value,
    status: Value,
    pods: Vec<PodSeen>,
    policy: ProjectSettingsSpec,
    project: Option<Project>,
    memory: Memory,
    now: UnixMillis,
    refusal: Option<Refusal>,
    deleting: bool,
}

/// What a turn came to.
#[derive(Debug)]
struct Done {
    outcome: Outcome,
    created: Vec<u64>,
    phase: Phase,
    reason: String,
    message: String,
}

impl World {
    fn new(spec: Value, status: Value) -> Self {
        Self {
            spec,
            status,
            pods: vec![],
            policy: ProjectSettingsSpec::default(),
            project: None,
            memory: Memory::default(),
            now: clock::parse(NOW),
            refusal: None,
            deleting: false,
        }
    }

    /// With its runner of epoch 1 in a pod.
    fn with_pod(phase: &str, work: Value, process: Process) -> Self {
        let used = ["Running", "Waiting", "Stopping"].contains(&phase);
        let mut status = json!({"phase": phase, "epoch": 1, "podName": "vteam-s-u-1", "podUid": "pod-1", "work": work,
            "startTime": "2026-01-01T00:00:00Z", "conditions": [{"type": POD_CREATED, "status": "True", "reason": "Created",
                "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
        if used {
            status["workspaceUsed"] = json!(true);
        }
        let mut world = Self::new(json!({"prompt": "a"}), status);
        world.pods.push(pod(1, process));
        world
    }

    fn turn(&mut self) -> Done {
        let object = serde_json::from_value(json!({
            "apiVersion": resources::API_VERSION, "kind": "AgenticSession",
            "metadata": {"name": "fix", "namespace": "p", "uid": "u", "resourceVersion": "1", "generation": 1,
                "deletionTimestamp": self.deleting.then_some(NOW)},
            "spec": self.spec, "status": self.status,
        }));
        let view = View::read(&object.unwrap()).unwrap();
        let policy = ProjectPolicy::try_from(self.policy.clone()).unwrap();
        let project = self.project.clone().unwrap_or_else(|| Project::Policy(Box::new(policy)));
        let judged = judge(&view, &project);
        let facts = Facts {
            now: self.now,
            view: &view,
            judged: &judged,
            timeouts: &TIMEOUTS,
            pods: self.pods.clone(),
        };
        let mut turn = Turn::new(facts, self.memory.clone());
        let mut created = vec![];
        while let Next::Create(epoch) = turn.next() {
            if let Some(refusal) = self.refusal.clone() {
                turn.refused(refusal);
                continue;
            }
            created.push(epoch.0);
            turn.created(epoch, PodSeen { created: self.now, ..pod(epoch.0, Process::Waiting) });
        }
        let outcome = turn.finish();
        if let Some(draft) = &outcome.write {
            rests_on_its_conditions(draft);
        }
        self.memory = outcome.memory.clone();
        let mut status = self.status.clone();
        if let Some(draft) = &outcome.write {
            let work = self.status.get("work").cloned();
            status = serde_json::to_value(&draft.status).unwrap();
            status["conditions"] = json!(draft.conditions);
            if let Some(work) = work {
                status["work"] = work;
            }
        }
        for epoch in &created {
            self.pods.push(PodSeen { created: self.now, ..pod(*epoch, Process::Waiting) });
        }
        for delete in &outcome.delete {
            let ending = Ending {
                until: clock::after(self.now, Duration::from_secs(30)),
                grace_seconds: delete.grace_seconds.map_or(30, i64::from),
            };
            self.pods
                .iter_mut()
                .filter(|pod| pod.uid == delete.uid)
                .for_each(|pod| pod.ending = Some(ending));
        }
        self.status = status;
        let text = |field: &str| self.status[field].as_str().unwrap_or_default().to_owned();
        Done {
            created,
            phase: serde_json::from_value(self.status["phase"].clone()).unwrap_or(Phase::Pending),
            reason: text("reason"),
            message: text("message"),
            outcome,
        }
    }

    fn condition(&self, kind: &str) -> Option<String> {
        let conditions = self.status["conditions"].as_array()?;
        let one = conditions.iter().find(|one| one["type"] == kind)?;
        Some(format!("{} {}", one["status"].as_str()?, one["reason"].as_str()?))
    }
}

/// What is written says one thing: the phase follows from the conditions, and they from what was done. Held in every turn of every
/// test here.
fn rests_on_its_conditions(draft: &Draft) {
    let phase = resources::session::phase::phase(&draft.conditions).expect("each says where it is");
    assert_eq!(draft.status.phase, Some(phase));
    let says = |kind: &str, status| draft.find(kind).is_some_and(|one| one.status == status);
    let (yes, no) = (|kind| says(kind, ConditionStatus::True), |kind| says(kind, ConditionStatus::False));
    let accepted = draft.find(ACCEPTED).expect("each was judged");
    assert_eq!(accepted.observed_generation, Some(1), "by the specification as it is");
    let holds = match phase {
        // Nothing was made, or what was made is gone or on its way out.
        Phase::Pending => !yes(POD_CREATED),
        Phase::Creating | Phase::Running | Phase::Waiting => {
            yes(POD_CREATED) && draft.status.pod_uid.is_some() && accepted.reason != "Malformed"
        }
        Phase::Stopping | Phase::Suspending => draft.status.epoch.is_some(),
        Phase::Completed | Phase::Stopped | Phase::Suspended => draft.status.completion_time.is_some(),
        Phase::Failed => draft.status.completion_time.is_some() && draft.status.reason.is_some(),
    };
    let unaccepted = draft.status.reason.as_deref() == Some(NOT_ACCEPTED);
    let right = holds
        && (!unaccepted || phase == Phase::Failed && no(ACCEPTED))
        && (accepted.reason != "Malformed" || phase.is_settled())
        && (no(ACCEPTED) || accepted.reason == "Accepted");
    assert!(right, "{phase} with {:#?} {:#?}", draft.conditions, draft.status);
}

fn pod(epoch: u64, runner: Process) -> PodSeen {
    PodSeen {
        namespace: "p".to_owned(),
        name: format!("vteam-s-u-{epoch}"),
        uid: format!("pod-{epoch}"),
        session: "u".to_owned(),
        owned: true,
        epoch,
        created: at("00:09:00"),
        ending: None,
        over: None,
        restarts: 0,
        runner,
        before: None,
        scheduled: Some(Ok(())),
        started: true,
        trouble: None,
        gated: false,
    }
}

fn running() -> Process {
    Process::Running { since: at("00:09:30") }
}

fn crash() -> Cause {
    Cause {
        word: "Error".to_owned(),
        message: "the runner ended with exit code 1".to_owned(),
        counts: true,
        hopeless: None,
    }
}

fn over(again: bool) -> Process {
    Process::Over { at: at("00:09:59"), again, cause: crash() }
}

fn work(phase: &str, has_work: bool, connected: Option<u64>) -> Value {
    let mut work = json!({"seq": 20, "woken": 3, "hasWork": has_work, "phase": phase});
    if let Some(epoch) = connected {
        work["connectedEpoch"] = json!(epoch);
    }
    work
}

#[test]
fn a_new_session_costs_one_write_and_one_pod() {
    let mut world = World::new(json!({"prompt": "a"}), json!({}));
    let done = world.turn();
    assert_eq!((done.created.as_slice(), done.phase), ([1].as_slice(), Phase::Creating));
    assert_eq!(world.status["podUid"], "pod-1");
    assert_eq!(world.condition("Accepted").as_deref(), Some("True Accepted"));
    // Nothing is written while the pod finds its node and starts.
    world.pods[0].runner = running();
    let done = world.turn();
    assert!(done.outcome.write.is_none() && done.outcome.delete.is_empty(), "{done:?}");
    assert_eq!(done.outcome.until, Some(at("00:11:30")));
}

#[test]
fn the_servers_word_moves_the_phase() {
    let check = |phase: &str, word: Value, expected: Phase, reason: &str| {
        let mut world = World::with_pod(phase, word.clone(), running());
        let mut done = world.turn();
        if (phase, expected) == ("Creating", Phase::Running) {
            world.now = clock::after(world.now, Duration::from_secs(1));
            done = world.turn();
        }
        assert_eq!((done.phase, done.reason.as_str()), (expected, reason), "{phase} {word}");
        let again = world.turn();
        assert!(again.outcome.write.is_none(), "{phase} {word}: {again:?}");
    };
    check("Creating", work("Running", true, Some(1)), Phase::Running, "Working");
    check("Creating", work("Running", true, None), Phase::Creating, "RunnerStarting");
    let mut asks = work("Waiting", true, Some(1));
    asks["reason"] = json!("ApprovalPending");
    check("Running", asks, Phase::Waiting, "ApprovalPending");
    check("Running", work("Waiting", false, Some(1)), Phase::Waiting, "MessageAwaited");
    check("Running", work("Completed", false, None), Phase::Completed, "Finished");
    check("Creating", work("Completed", false, None), Phase::Completed, "Finished");
    let mut missing = work("Failed", false, None);
    missing["reason"] = json!("PersonaMissing");
    check("Creating", missing, Phase::Failed, "PersonaMissing");
}

#[test]
fn a_run_may_begin_and_end_in_one_word() {
    let mut world = World::with_pod("Creating", work("Completed", false, None), running());
    let done = world.turn();
    assert_eq!((done.phase, done.outcome.delete.len()), (Phase::Completed, 1));
    // What is lost is lost, also where nobody has said yet that it runs.
    let mut gone = World::with_pod("Creating", work("Running", true, None), running());
    gone.pods.clear();
    assert_eq!(gone.turn().reason, "WorkspaceLost");
}

#[test]
fn the_end_of_a_runner_that_ends_by_itself_waits_for_the_servers_word() {
    let ended = || World::with_pod("Running", work("Running", true, Some(1)), over(false));
    let mut world = ended();
    let done = world.turn();
    assert_eq!((done.phase, done.outcome.until), (Phase::Running, Some(at("00:10:09"))));
    world.status["work"] = work("Completed", false, None);
    assert_eq!(world.turn().phase, Phase::Completed);
    // It did not come.
    let mut world = ended();
    world.now = at("00:10:09");
    assert_eq!(world.turn().reason, "WorkspaceLost");
    // Who has no more pod to wait in is lost at once.
    let mut world = World::with_pod("Running", work("Running", true, Some(1)), over(true));
    world.pods[0].over = Some(crash());
    assert_eq!(world.turn().reason, "WorkspaceLost");
}

#[test]
fn what_is_done_drains() {
    let mut world = World::with_pod("Running", work("Completed", false, None), running());
    let done = world.turn();
    assert_eq!(
        done.outcome.delete,
        [Delete { name: "vteam-s-u-1".into(), uid: "pod-1".into(), grace_seconds: None }]
    );
    assert!(world.turn().outcome.delete.is_empty(), "once");
    world.pods.clear();
    let done = world.turn();
    assert!(done.outcome.write.is_none() && !done.outcome.remove, "{done:?}");
    world.spec["ttlSecondsAfterFinished"] = json!(60);
    assert_eq!(world.turn().outcome.until, Some(at("00:11:00")));
    world.now = at("00:11:00");
    assert!(world.turn().outcome.remove);
}

#[test]
fn a_stop_waits_for_the_server() {
    let mut world = World::with_pod("Running", work("Running", true, Some(1)), running());
    world.spec["operatingMode"] = json!("Stopped");
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Stopping, "StoppedByUser"));
    assert!(done.outcome.delete.is_empty(), "{done:?}");
    assert_eq!(done.outcome.until, Some(at("00:11:00")));
    // It says that the run is over.
    world.status["work"] = work("Stopped", false, Some(1));
    assert_eq!(world.turn().outcome.delete.len(), 1);
    world.pods.clear();
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Stopped, "StoppedByUser"));
    assert_eq!(done.message, GONE_WITH_POD);
    assert_eq!(world.status["stoppedReason"], "user");
    // One that says nothing is not waited for longer than that.
    let mut world = World::with_pod("Running", work("Running", true, Some(1)), running());
    world.spec["operatingMode"] = json!("Stopped");
    world.turn();
    world.now = at("00:11:00");
    assert_eq!(world.turn().outcome.delete.len(), 1);
}

#[test]
fn what_is_being_deleted_stops() {
    let mut world = World::with_pod("Running", work("Running", true, Some(1)), running());
    world.spec["ttlSecondsAfterFinished"] = json!(0);
    world.deleting = true;
    let done = world.turn();
    assert_eq!(
        (done.phase, done.outcome.delete.len()),
        (Phase::Stopping, 1),
        "whatever the server said last"
    );
    world.pods.clear();
    assert_eq!(world.turn().phase, Phase::Stopped);
    let done = world.turn();
    assert!(!done.outcome.remove && done.outcome.write.is_none(), "it is on its way: {done:?}");
    // Nothing is made for it.
    let mut world = World::new(json!({"prompt": "a"}), json!({}));
    world.deleting = true;
    let done = world.turn();
    assert!(done.created.is_empty() && done.phase == Phase::Stopped, "{done:?}");
}

#[test]
fn what_slept_for_long_is_kept_from_when_it_is_stopped() {
    let spec = json!({"prompt": "a", "operatingMode": "Suspended", "ttlSecondsAfterFinished": 60});
    let asleep = json!({"phase": "Suspended", "reason": "StoppedByUser", "epoch": 1, "workspaceUsed": true,
        "startTime": "2026-01-01T00:00:00Z", "completionTime": "2026-01-01T00:01:00Z", "work": work("Running", true, None)});
    let mut world = World::new(spec, asleep.clone());
    let done = world.turn();
    assert!(done.phase == Phase::Suspended && !done.outcome.remove, "what sleeps is kept: {done:?}");
    world.spec["operatingMode"] = json!("Stopped");
    let done = world.turn();
    assert_eq!((done.phase, done.message.as_str()), (Phase::Stopped, GONE_WITH_POD));
    assert_eq!(world.status["completionTime"], NOW);
    world.status["work"] = work("Stopped", false, None);
    let done = world.turn();
    assert_eq!((done.outcome.remove, done.outcome.until), (false, Some(at("00:11:00"))));
    // The server heard of it alone: the operator was away, and finds it wanted again.
    let mut world = World::new(json!({"prompt": "a", "operatingMode": "Running"}), asleep);
    world.status["work"] = work("Stopped", false, None);
    assert_eq!(world.turn().phase, Phase::Stopped);
}

#[test]
fn a_runner_that_failed_is_followed_in_the_same_pod() {
    let mut world = World::with_pod("Running", work("Running", true, Some(1)), over(true));
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Pending, "RunnerLost"));
    assert_eq!(done.message, "the runner ended with exit code 1");
    assert_eq!((world.status["losses"].clone(), world.status["podUid"].clone()), (json!(1), json!("pod-1")));
    assert_eq!(world.condition("PodStarted").as_deref(), Some("False Error"));
    assert_eq!(done.outcome.until, Some(at("00:10:01")));
    // After the pause its next process is the next epoch, also where kubelet has not started it yet.
    world.now = at("00:10:01");
    let done = world.turn();
    assert_eq!((done.phase, done.created.len()), (Phase::Creating, 0));
    assert_eq!((world.status["epoch"].clone(), world.status["podRestarts"].clone()), (json!(2), json!(1)));
    let before = world.turn();
    assert!(before.outcome.write.is_none(), "{before:?}");
    world.pods[0].restarts = 1;
    world.pods[0].runner = Process::Running { since: at("00:10:02") };
    world.status["work"] = work("Running", true, Some(2));
    world.turn();
    world.now = at("00:10:02");
    assert_eq!(world.turn().phase, Phase::Running);
    // A third process, of which the operator saw no end.
    world.pods[0].restarts = 2;
    world.pods[0].before = Some(Cause { message: "the runner ran out of memory".to_owned(), ..crash() });
    let done = world.turn();
    assert_eq!((done.phase, done.message.as_str()), (Phase::Pending, "the runner ran out of memory"));
}

#[test]
fn failures_in_a_row_are_counted() {
    let mut world = World::with_pod("Creating", Value::Null, over(true));
    world.status.as_object_mut().unwrap().remove("work");
    world.status["losses"] = json!(3);
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Failed, "RunnerCrashLoop"));
    assert!(done.message.starts_with("the runner failed 4 times in a row, at last: "), "{}", done.message);
    assert_eq!(done.outcome.delete.len(), 1, "the pod that is left");
    // A run that ended clears them.
    let mut world = World::with_pod("Running", work("Waiting", false, Some(1)), running());
    world.status["losses"] = json!(3);
    world.turn();
    assert!(world.status.get("losses").is_none());
}

#[test]
fn what_is_done_to_a_runner_is_not_counted() {
    // Nothing was done in its workspace yet.
    let mut world = World::with_pod("Creating", Value::Null, running());
    world.status.as_object_mut().unwrap().remove("work");
    world.pods.clear();
    let done = world.turn();
    assert_eq!((done.phase, done.message.as_str()), (Phase::Pending, "the runner's pod was deleted"));
    assert!(world.status.get("losses").is_none() && world.status.get("lostTime").is_some());
    world.now = at("00:10:01");
    assert_eq!(world.turn().created, [2]);
}

#[test]
fn a_workspace_that_went_with_its_pod_is_said_to_be_lost() {
    let lost = || {
        let mut world = World::with_pod("Running", work("Running", true, Some(1)), running());
        world.pods.clear();
        world
    };
    let done = lost().turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Failed, "WorkspaceLost"));
    assert!(done.message.starts_with("the runner's pod was deleted. The workspace was not persistent"));
    let mut kept = lost();
    kept.spec["workspace"] = json!({"persistent": true});
    assert_eq!(kept.turn().phase, Phase::Pending);
    kept.now = at("00:10:01");
    assert_eq!(kept.turn().created, [2]);
    // Also where it was woken after its pod had gone as it should.
    let mut woken = lost();
    woken.status["phase"] = json!("Completed");
    woken.status["observedWork"] = json!(20);
    woken.status["work"] = json!({"seq": 25, "woken": 25, "hasWork": true});
    let done = woken.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Failed, "WorkspaceLost"));
    assert_eq!(woken.status["observedWork"], 25);
    assert!(woken.turn().outcome.write.is_none());
    // One that failed before any runner was given it has lost nothing.
    let mut unused = lost();
    unused.status = json!({"phase": "Failed", "epoch": 1, "observedWork": 20,
        "work": {"seq": 25, "woken": 25, "hasWork": true, "workspaceUsed": false}});
    assert_eq!(unused.turn().created, [2]);
}

#[test]
fn two_pods_never_share_a_volume() {
    let mut world = World::with_pod("Running", work("Running", true, None), running());
    world.spec["workspace"] = json!({"persistent": true});
    world.pods[0].over = Some(Cause::node_lost());
    let done = world.turn();
    assert_eq!((done.phase, done.outcome.delete.len()), (Phase::Pending, 1));
    world.now = at("00:10:05");
    let done = world.turn();
    assert!(done.created.is_empty(), "{done:?}");
    assert_eq!(done.outcome.until, Some(at("00:11:30")));
    world.pods.clear();
    assert_eq!(world.turn().created, [2]);
}

#[test]
fn a_dead_node_is_given_up() {
    let mut world = World::with_pod("Running", work("Running", true, None), running());
    world.spec["workspace"] = json!({"persistent": true});
    world.pods[0].ending = Some(Ending { until: at("00:10:00"), grace_seconds: 30 });
    assert_eq!(world.turn().phase, Phase::Running);
    world.now = at("00:11:00");
    let done = world.turn();
    assert_eq!(
        (done.phase, done.message.as_str()),
        (Phase::Pending, "the node of the runner's pod does not answer")
    );
    assert!(world.status.get("losses").is_none());
}

#[test]
fn a_pod_that_cannot_start_says_why_and_is_given_up() {
    let trouble = Trouble { word: "Unschedulable".to_owned(), message: "0/1 nodes are available".to_owned() };
    let mut world = World::with_pod("Creating", Value::Null, Process::Waiting);
    world.status.as_object_mut().unwrap().remove("work");
    world.pods[0].scheduled = Some(Err(trouble));
    world.pods[0].started = false;
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Creating, "Unschedulable"));
    assert_eq!(world.condition("PodScheduled").as_deref(), Some("False Unschedulable"));
    assert!(world.turn().outcome.write.is_none());
    world.now = at("00:19:00");
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Failed, "Unschedulable"));
    assert_eq!(done.outcome.delete[0].grace_seconds, Some(1));
    assert!(world.status.get("losses").is_none());
}

#[test]
fn a_runner_that_does_not_dial_in_is_a_failure() {
    let mut world = World::with_pod("Creating", Value::Null, running());
    world.status.as_object_mut().unwrap().remove("work");
    world.now = at("00:11:30");
    let done = world.turn();
    assert_eq!((done.phase, done.outcome.delete[0].grace_seconds), (Phase::Creating, Some(1)));
    assert!(world.turn().outcome.delete.is_empty(), "once");
    world.pods.clear();
    let done = world.turn();
    assert_eq!((done.phase, world.status["losses"].clone()), (Phase::Pending, json!(1)));
    assert_eq!(done.message, "the runner did not dial in within 120 s; its pod was deleted");
}

#[test]
fn a_runner_that_is_away_has_time_to_come_back() {
    let mut world = World::with_pod(
        "Running",
        work("Running", true, Some(1)),
        Process::Running { since: at("00:00:00") },
    );
    world.turn();
    world.status["work"] = work("Running", true, None);
    world.now = at("01:00:00");
    let done = world.turn();
    assert!(done.outcome.delete.is_empty(), "{done:?}");
    assert_eq!(done.outcome.until, Some(at("01:02:00")));
    // Also for an operator that was started again meanwhile.
    world.memory = Memory::default();
    assert!(world.turn().outcome.delete.is_empty());
}

#[test]
fn a_run_has_a_hard_end_without_the_server() {
    let mut word = work("Running", true, Some(1));
    word["deadline"] = json!("2026-01-01T00:12:00Z");
    let mut world = World::with_pod("Running", word, running());
    assert_eq!(world.turn().outcome.until, Some(at("00:12:00")));
    world.now = at("00:12:00");
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Failed, "Timeout"));
    assert_eq!(done.outcome.delete[0].grace_seconds, Some(1));
}

#[test]
fn what_idles_is_stopped() {
    let mut word = work("Waiting", false, Some(1));
    word["idleSince"] = json!("2026-01-01T00:09:00Z");
    let mut world = World::with_pod("Waiting", word, running());
    world.spec = json!({"interactive": true, "inactivityTimeout": 120});
    assert_eq!(world.turn().outcome.until, Some(at("00:11:00")));
    world.now = at("00:11:00");
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Stopping, "Inactivity"));
    world.status["work"] = work("Stopped", false, None);
    assert_eq!(world.turn().outcome.delete.len(), 1);
    world.pods.clear();
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Stopped, "Inactivity"));
    assert_eq!(world.status["stoppedReason"], "inactivity");
}

#[test]
fn what_is_refused_is_said_and_tried_again() {
    let mut world = World::new(json!({"prompt": "a"}), json!({}));
    let message = "exceeded quota".to_owned();
    world.refusal = Some(Refusal { word: "QuotaExceeded".to_owned(), message, kind: RefusalKind::Later });
    let done = world.turn();
    assert_eq!(
        (done.phase, done.reason.as_str(), done.outcome.retry),
        (Phase::Pending, "QuotaExceeded", true)
    );
    assert_eq!(world.condition("PodCreated").as_deref(), Some("False QuotaExceeded"));
    let again = world.turn();
    assert!(again.outcome.write.is_none() && again.outcome.retry, "{again:?}");
    world.refusal = None;
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Creating, "RunnerStarting"));
    assert_eq!(world.condition("PodCreated").as_deref(), Some("True Created"));
}

#[test]
fn what_is_not_accepted_fails_until_it_is_mended() {
    let mut world = World::new(json!({"prompt": "a", "permissionMode": "bypass"}), json!({}));
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Failed, NOT_ACCEPTED));
    assert!(done.message.contains("spec.permissionMode"), "{}", done.message);
    assert_eq!(world.condition("Accepted").as_deref(), Some("False NotPermitted"));
    assert!(world.turn().outcome.write.is_none());
    world.policy.permissions.allow_bypass = true;
    assert_eq!(world.turn().created, [1]);
    let mut world = World::new(json!({"promt": "a"}), json!({}));
    let done = world.turn();
    assert_eq!(done.phase, Phase::Failed);
    assert!(done.message.contains("did you mean \"prompt\"?"), "{}", done.message);
    assert!(world.turn().outcome.write.is_none());
}

#[test]
fn what_a_project_does_not_permit_any_more_runs_on_and_is_not_started_again() {
    let mut world = World::with_pod("Running", work("Running", true, Some(1)), running());
    world.spec["permissionMode"] = json!("bypass");
    let done = world.turn();
    assert_eq!(
        (done.phase, world.condition("Accepted").as_deref()),
        (Phase::Running, Some("False NotPermitted"))
    );
    world.pods[0].runner = over(true);
    world.turn();
    world.now = at("00:10:01");
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str()), (Phase::Failed, NOT_ACCEPTED));
}

#[test]
fn what_cannot_be_judged_waits() {
    let mut world = World::new(json!({"prompt": "a"}), json!({}));
    world.project = Some(Project::None);
    let done = world.turn();
    assert_eq!((done.phase, done.reason.as_str(), done.created.len()), (Phase::Pending, "NoProject", 0));
    assert!(world.turn().outcome.write.is_none());
    world.project = None;
    assert_eq!(world.turn().created, [1]);
}

#[test]
fn a_pod_that_nobody_recorded_is_taken_up_or_swept() {
    let mut world = World::new(json!({"prompt": "a"}), json!({}));
    world.pods.push(pod(1, Process::Waiting));
    assert!(world.turn().outcome.delete.is_empty());
    let mut world = World::new(json!({"prompt": "a", "operatingMode": "Stopped"}), json!({}));
    world.pods.push(pod(1, Process::Waiting));
    let done = world.turn();
    assert_eq!((done.phase, done.outcome.delete.len()), (Phase::Stopped, 1));
    let mut world = World::with_pod("Running", work("Running", true, Some(2)), running());
    world.status["epoch"] = json!(2);
    world.pods.push(PodSeen { uid: "pod-0".to_owned(), ..pod(1, running()) });
    assert_eq!(world.turn().outcome.delete[0].uid, "pod-0");
}

#[test]
fn edits_hold_at_once() {
    let mut world = World::with_pod("Completed", work("Completed", false, None), running());
    world.pods.clear();
    world.status["completionTime"] = json!("2026-01-01T00:05:00Z");
    world.turn();
    world.spec["ttlSecondsAfterFinished"] = json!(1);
    assert!(world.turn().outcome.remove);
}

#[test]
fn the_phase_is_what_the_conditions_say() {
    // An operator that said the phase alone, one that says both, and somebody who wrote over what it said.
    let finished = |status: &str, reason: &str| {
        json!([{"type": "Finished", "status": status, "reason": reason, "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}])
    };
    let check = |phase: &str, conditions: Value, expected: Phase| {
        let status =
            json!({"phase": phase, "completionTime": "2026-01-01T00:00:00Z", "conditions": conditions});
        let done = World::new(json!({"prompt": "a", "operatingMode": "Stopped"}), status).turn();
        assert_eq!(done.phase, expected, "{phase} {:?}", done.outcome);
    };
    check("Completed", json!([]), Phase::Completed);
    check("Completed", finished("True", "Completed"), Phase::Completed);
    check("Completed", finished("True", "Failed"), Phase::Failed);
    check("Running", finished("True", "Completed"), Phase::Completed);
}

#[test]
fn who_works_stays_whatever_the_default_becomes() {
    let mut world = World::new(json!({"prompt": "a"}), json!({}));
    let default = |world: &mut World, persona: &str| {
        world.policy = serde_json::from_value(json!({"defaults": {"persona": persona}})).unwrap();
        world.turn();
        world.status["persona"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(default(&mut world, "CRITIC"), "CRITIC");
    assert_eq!(default(&mut world, "STAFF_ENGINEER"), "CRITIC");
}
