//! A session as an object of its kind, with its status.

use crate::{records::Refused, sessions::SessionView};
use model::{event::Warning, id::UnixMillis, render};
use resources::API_VERSION;
use serde_json::{Value, json};

/// Annotation with who made the session. Written by the server only.
const CREATED_BY: &str = "vteam.ambient-code/created-by";

pub(super) fn session(view: &SessionView) -> Value {
    let SessionView { record, accepted, connected, pending, workspace_gone: _ } = view;
    let state = &record.state;
    let settled = state.phase.is_settled().then(|| time(state.rests_since()));
    let totals = &state.totals;
    let cost = totals.cost.dollars();
    json!({
        "apiVersion": API_VERSION,
        "kind": "AgenticSession",
        "metadata": {
            "name": record.reference.name,
            "namespace": record.reference.project,
            "uid": record.uid,
            "creationTimestamp": time(record.created_at),
            "labels": record.labels,
            "annotations": {CREATED_BY: record.created_by},
        },
        "spec": accepted.spec,
        "status": {
            "phase": state.phase,
            "reason": state.reason,
            "message": render::line(&state.message, 2000),
            "startTime": time(record.created_at),
            "completionTime": settled,
            "lastActivityTime": time(state.updated_at),
            "session_id": record.uid,
            "run": state.run,
            "connected": connected,
            "pending": pending,
            "epoch": state.epoch,
            "persona": accepted.persona,
            "model": accepted.model,
            "permissionMode": accepted.mode,
            "num_turns": totals.turns,
            "total_cost_usd": cost,
            "usage": totals.usage,
            "budget": accepted.budget.map(|budget| budget.dollars()),
            "plugins": state.pins,
            "snapshot": state.snapshot,
            "conditions": accepted.warnings.iter().map(|warning| condition(warning, record.created_at)).collect::<Vec<_>>(),
        },
    })
}

/// One that does not run, as a list shows it: without what it says, which may be long.
pub(super) fn refused(refused: &Refused) -> Value {
    let Refused { uid, reference, created_at, created_by, decided } = refused;
    json!({
        "apiVersion": API_VERSION,
        "kind": "AgenticSession",
        "metadata": {
            "name": reference.name,
            "namespace": reference.project,
            "uid": uid,
            "creationTimestamp": time(*created_at),
            "annotations": {CREATED_BY: created_by},
        },
        "status": {
            "phase": decided.phase,
            "reason": decided.reason,
            "message": render::line(&decided.message, 2000),
        },
    })
}

/// What was accepted without effect, as Kubernetes shows such things.
pub(super) fn condition(warning: &Warning, since: UnixMillis) -> Value {
    json!({
        "type": warning.reason,
        "status": "True",
        "reason": warning.reason,
        "message": render::line(&warning.message, 2000),
        "lastTransitionTime": time(since),
    })
}

pub(super) fn time(at: UnixMillis) -> Option<String> {
    let millis = i64::try_from(at.0).ok()?;
    jiff::Timestamp::from_millisecond(millis).ok().map(|time| time.to_string())
}
