//! Sessions to write to.

use model::{
    event::{Event, Origin, Unknown},
    id::{Epoch, RunnerSeq, SessionUid, UnixMillis},
    lifecycle::{Phase, Reason},
    plan::Desired,
};
use store::{NewEvent, SessionRecord, SessionState};

pub(crate) fn record(uid: &str, event_bytes: u64) -> SessionRecord {
    SessionRecord {
        uid: uid.parse().unwrap(),
        reference: model::id::SessionRef { project: "p".parse().unwrap(), name: uid.parse().unwrap() },
        project_uid: None,
        created_at: UnixMillis(1),
        created_by: "me".into(),
        labels: Default::default(),
        spec: serde_json::json!({"prompt": "x"}),
        event_bytes,
        state: state(),
    }
}

pub(crate) fn state() -> SessionState {
    SessionState {
        phase: Phase::Pending,
        reason: Reason::Accepted,
        message: "".into(),
        desired: Desired::Run,
        updated_at: UnixMillis(1),
        settled_at: None,
        epoch: Epoch(0),
        fence: Epoch(0),
        token_hash: None,
        losses: 0,
        lost_at: None,
        run: None,
        run_active_ms: 0,
        idle_since: None,
        queue: vec![],
        budget: Default::default(),
        reserved: Default::default(),
        settled: vec![],
        totals: Default::default(),
        pins: vec![],
        pod: None,
        snapshot: None,
    }
}

pub(crate) fn uid(text: &str) -> SessionUid {
    text.parse().unwrap()
}

/// A runner's event of about this many bytes.
pub(crate) fn said(epoch: u64, runner_seq: u64, bytes: usize) -> NewEvent {
    NewEvent {
        origin: Some(Origin { epoch: Epoch(epoch), runner_seq: RunnerSeq(runner_seq) }),
        event: Event::Unknown(Unknown { kind: "test".into(), data: "x".repeat(bytes).into() }),
    }
}
