//! An independent reader of a session's log: what must hold of every log, whatever was killed while it was written.

use model::{
    event::{Event, Stored},
    id::{CallId, RunId},
    lifecycle::{Phase, Trigger, step},
    message::Block,
};
use std::collections::{BTreeMap, BTreeSet};

/// Every breach of the log's promises, in words. `ended`: the session has come to rest, so nothing may be open.
pub(crate) fn breaches(log: &[Stored], ended: bool) -> Vec<String> {
    let mut found = Vec::new();
    sequence(log, &mut found);
    phases(log, &mut found);
    runs(log, ended, &mut found);
    calls(log, ended, &mut found);
    money(log, &mut found);
    decisions(log, &mut found);
    found
}

fn sequence(log: &[Stored], found: &mut Vec<String>) {
    let mut last_of_epoch = BTreeMap::new();
    let mut newest_epoch = 0;
    for (place, stored) in log.iter().enumerate() {
        if stored.seq.0 != place as u64 + 1 {
            found.push(format!("seq {} at place {}", stored.seq, place + 1));
        }
        if let Some(origin) = stored.origin {
            if origin.epoch.0 < newest_epoch {
                found.push(format!("seq {}: epoch {} after {newest_epoch}", stored.seq, origin.epoch));
            }
            newest_epoch = newest_epoch.max(origin.epoch.0);
            let last = last_of_epoch.insert(origin.epoch, origin.runner_seq.0).unwrap_or(0);
            if origin.runner_seq.0 != last + 1 {
                found.push(format!("seq {}: runner_seq {} after {last}", stored.seq, origin.runner_seq));
            }
        }
    }
}

fn phases(log: &[Stored], found: &mut Vec<String>) {
    let mut phase = Phase::Pending;
    for stored in log {
        if let Event::PhaseChanged(changed) = &stored.event {
            let reachable =
                changed.phase == phase || Trigger::ALL.iter().any(|t| step(phase, *t) == Some(changed.phase));
            if !reachable {
                found.push(format!("seq {}: {phase} -> {} is not in the table", stored.seq, changed.phase));
            }
            phase = changed.phase;
        }
    }
}

fn runs(log: &[Stored], ended: bool, found: &mut Vec<String>) {
    let mut open: BTreeSet<&RunId> = BTreeSet::new();
    let mut done: BTreeSet<&RunId> = BTreeSet::new();
    for stored in log {
        match &stored.event {
            Event::RunStarted(started) if done.contains(&started.run) || !open.insert(&started.run) => {
                found.push(format!("seq {}: run {} started twice", stored.seq, started.run));
            }
            Event::RunFinished(finished) => {
                if !open.remove(&finished.run) {
                    found.push(format!("seq {}: run {} finished without a start", stored.seq, finished.run));
                }
                done.insert(&finished.run);
            }
            _ => {}
        }
    }
    if ended && !open.is_empty() {
        found.push(format!("runs never finished: {open:?}"));
    }
}

fn calls(log: &[Stored], ended: bool, found: &mut Vec<String>) {
    let mut intended: BTreeSet<&CallId> = BTreeSet::new();
    let mut finished: BTreeSet<&CallId> = BTreeSet::new();
    let mut uses: BTreeSet<(String, String)> = BTreeSet::new();
    let mut answered: BTreeSet<(String, String)> = BTreeSet::new();
    for stored in log {
        match &stored.event {
            Event::AssistantMessage(message) => {
                for block in &message.content {
                    if let Block::ToolUse { id, .. } = block {
                        uses.insert((message.message.to_string(), id.clone()));
                    }
                }
            }
            Event::CallIntended(call) if !intended.insert(&call.call) => {
                found.push(format!("seq {}: call {} intended twice", stored.seq, call.call));
            }
            Event::CallFinished(call) => {
                if !finished.insert(&call.call) {
                    found.push(format!("seq {}: call {} finished twice", stored.seq, call.call));
                }
                let key = (call.message.to_string(), call.tool_use_id.clone());
                if !uses.contains(&key) {
                    found.push(format!("seq {}: a result that nobody asked for: {key:?}", stored.seq));
                }
                if !answered.insert(key) {
                    found.push(format!("seq {}: tool use {} answered twice", stored.seq, call.tool_use_id));
                }
            }
            _ => {}
        }
    }
    if ended {
        for call in intended.difference(&finished) {
            found.push(format!("call {call} intended and never finished"));
        }
    }
}

fn money(log: &[Stored], found: &mut Vec<String>) {
    let mut total = 0;
    for stored in log {
        if let Event::Usage(charge) = &stored.event {
            total += charge.cost.0;
            if charge.total.0 != total {
                found.push(format!(
                    "seq {}: total {} where the charges sum to {total}",
                    stored.seq, charge.total.0
                ));
            }
        }
    }
}

fn decisions(log: &[Stored], found: &mut Vec<String>) {
    let mut asked = BTreeSet::new();
    let mut decided = BTreeSet::new();
    for stored in log {
        match &stored.event {
            Event::ApprovalRequested(request) if !asked.insert(&request.id) => {
                found.push(format!("seq {}: {} asked twice", stored.seq, request.id));
            }
            Event::ApprovalDecided(decision)
                if !asked.contains(&decision.id) || !decided.insert(&decision.id) =>
            {
                found.push(format!("seq {}: {} decided unasked or twice", stored.seq, decision.id));
            }
            _ => {}
        }
    }
}
